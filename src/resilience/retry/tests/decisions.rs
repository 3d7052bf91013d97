//! What is tried again, and what is not.

use std::time::Duration;

use http::{HeaderName, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{End, Tried, get, lost, post, tried};
use crate::{
    attempt::RetryStop,
    backoff::{Backoff, Jitter},
    body::{Body, script::Step},
    chance::Chance,
    context::Deadline,
    ratio::Ratio,
    reject::{Reason, Rejection},
    resilience::{
        budget::Budget,
        retry::{Policy, RetryOn, UnknownCondition},
    },
    trail::Trail,
};

async fn retries(on: RetryOn, end: End) -> bool {
    let tried = tried(Policy::new(1).on([on]), [end], get()).await;
    assert_eq!(tried.handle.retries() as usize + 1, tried.attempts());
    tried.attempts() == 2
}

/// The names and their meaning are Envoy's.
#[tokio::test(start_paused = true)]
async fn conditions_are_those_of_their_names() {
    use RetryOn::{
        Cancelled, ConnectFailure, DeadlineExceeded, GatewayError, Internal, RefusedStream, Reset,
        ResourceExhausted, Retriable4xx, ServerError, Unavailable,
    };
    let no_response = [ServerError, GatewayError, Reset];
    let refused = End::Lost(Rejection::new(Reason::UpstreamReset).unsent());
    let grpc = |status: &'static str| End::Grpc(vec![Step::Trailers(status)]);
    let trailers_only = End::Head(200, &[("content-type", "application/grpc"), ("grpc-status", "14")]);
    let cases: Vec<(End, Vec<RetryOn>)> = vec![
        (End::Head(200, &[]), vec![]),
        (End::Head(404, &[]), vec![]),
        (End::Head(409, &[]), vec![Retriable4xx]),
        (End::Head(429, &[]), vec![]),
        (End::Head(500, &[]), vec![ServerError]),
        (End::Head(501, &[]), vec![ServerError]),
        (End::Head(502, &[]), vec![ServerError, GatewayError]),
        (End::Head(504, &[]), vec![ServerError, GatewayError]),
        (End::Head(599, &[]), vec![ServerError]),
        (lost(Reason::UpstreamReset), no_response.to_vec()),
        (lost(Reason::UpstreamTimeout), no_response.to_vec()),
        (lost(Reason::UpstreamProtocol), no_response.to_vec()),
        (End::Refused(Rejection::new(Reason::UpstreamTimeout)), no_response.to_vec()),
        (lost(Reason::ConnectFailed), [&no_response[..], &[ConnectFailure]].concat()),
        (End::Error(std::io::ErrorKind::ConnectionRefused), [&no_response[..], &[ConnectFailure]].concat()),
        (End::Error(std::io::ErrorKind::ConnectionReset), no_response.to_vec()),
        (End::Error(std::io::ErrorKind::Other), no_response.to_vec()),
        (refused, [&no_response[..], &[RefusedStream]].concat()),
        (grpc("0"), vec![]),
        (grpc("1"), vec![Cancelled]),
        (grpc("2"), vec![]),
        (grpc("4"), vec![DeadlineExceeded]),
        (grpc("8"), vec![ResourceExhausted]),
        (grpc("13"), vec![Internal]),
        (grpc("14"), vec![Unavailable]),
        (trailers_only, vec![Unavailable]),
        (lost(Reason::CallerDeadline), vec![]),
    ];
    for (at, (end, expected)) in cases.into_iter().enumerate() {
        for &on in RetryOn::ALL {
            assert_eq!(retries(on, end.clone()).await, expected.contains(&on), "{at}: {on}");
        }
    }
    for &on in RetryOn::ALL {
        assert_eq!(on.name().parse(), Ok(on));
    }
    assert_eq!("6xx".parse::<RetryOn>(), Err(UnknownCondition));
}

#[tokio::test(start_paused = true)]
async fn codes_and_headers_are_for_you_to_name() {
    let policy = || {
        Policy::new(1)
            .on([])
            .codes([StatusCode::TOO_MANY_REQUESTS])
            .header(HeaderName::from_static("x-again"))
    };
    for (end, attempts) in [
        (End::Head(429, &[]), 2),
        (End::Head(200, &[("x-again", "")]), 2),
        (End::Head(503, &[]), 1),
        (lost(Reason::ConnectFailed), 1),
    ] {
        assert_eq!(tried(policy(), [end], get()).await.attempts(), attempts);
    }
}

/// A refusal of ours would be the same again, and is no failure of the server.
#[tokio::test(start_paused = true)]
async fn what_we_refused_ourselves_is_not_asked_again() {
    let all = || Policy::new(3).on(RetryOn::ALL.iter().copied()).codes([StatusCode::TOO_MANY_REQUESTS]);
    for reason in [
        Reason::RateLimited,
        Reason::Overloaded,
        Reason::CircuitOpen,
        Reason::NoEndpoint,
        Reason::Forbidden,
        Reason::TokenUnavailable,
        Reason::BadRequest,
    ] {
        for end in [End::Refused(Rejection::new(reason)), lost(reason)] {
            let tried = tried(all(), [end], get()).await;
            assert_eq!((tried.attempts(), tried.handle.retries()), (1, 0), "{reason}");
        }
    }
}

fn stops(tried: &Tried) -> Vec<RetryStop> {
    RetryStop::ALL.iter().copied().filter(|why| tried.handle.stopped(*why) == 1).collect()
}

/// Issue 50506 of Istio: a payout made twice.
#[tokio::test(start_paused = true)]
async fn nothing_is_done_twice_by_default() {
    use std::io::ErrorKind::{AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable};
    for (policy, request, end, attempts) in [
        (Policy::new(1), post("pay"), End::Head(503, &[]), 1),
        (Policy::new(1), post("pay"), lost(Reason::UpstreamReset), 1),
        (Policy::new(1), post("pay"), lost(Reason::ConnectFailed), 1),
        (Policy::new(1), post("pay"), End::Lost(Rejection::new(Reason::ConnectFailed).unsent()), 2),
        (Policy::new(1), post("pay"), End::Lost(Rejection::new(Reason::UpstreamReset).unsent()), 2),
        // It may have been sent: a socket in use says the first three as well.
        (Policy::new(1), post("pay"), End::Error(HostUnreachable), 1),
        (Policy::new(1), post("pay"), End::Error(NetworkUnreachable), 1),
        (Policy::new(1), post("pay"), End::Error(AddrNotAvailable), 1),
        (Policy::new(1), post("pay"), End::Error(ConnectionRefused), 1),
        (Policy::new(1), post("pay"), End::Unready, 0),
        (Policy::new(1).danger_any_method(), post("pay"), End::Head(503, &[]), 2),
    ] {
        let tried = tried(policy, [end], request).await;
        assert_eq!(tried.attempts(), attempts);
        assert_eq!(stops(&tried).contains(&RetryStop::Unsafe), attempts < 2 && tried.status() != Some(200));
    }
    for (method, attempts) in [
        ("GET", 2),
        ("HEAD", 2),
        ("PUT", 2),
        ("DELETE", 2),
        ("OPTIONS", 2),
        ("TRACE", 2),
        ("POST", 1),
        ("PATCH", 1),
        ("CHARGE", 1),
    ] {
        let request = || Request::builder().method(method);
        let plain = request().body(Body::empty()).unwrap();
        assert_eq!(
            tried(Policy::new(1), [End::Head(503, &[])], plain).await.attempts(),
            attempts,
            "{method}"
        );
        let keyed = request().header("idempotency-key", "\"k1\"").body(Body::empty()).unwrap();
        assert_eq!(tried(Policy::new(1), [End::Head(503, &[])], keyed).await.attempts(), 2, "{method}");
        let empty = request().header("idempotency-key", "").body(Body::empty()).unwrap();
        assert_eq!(
            tried(Policy::new(1), [End::Head(503, &[])], empty).await.attempts(),
            attempts,
            "{method}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_are_those_beside_the_first() {
    for retries in 1..4 {
        let tried = tried(Policy::new(retries), vec![End::Head(503, &[]); 9], get()).await;
        assert_eq!((tried.attempts(), tried.status()), (retries as usize + 1, Some(503)));
        assert_eq!(stops(&tried), [RetryStop::Attempts]);
        assert_eq!(tried.handle.recovered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_that_stay_are_given_as_they_are() {
    let tried = tried(Policy::new(1), vec![End::Error(std::io::ErrorKind::BrokenPipe); 9], get()).await;
    let error = tried.answered.as_ref().err().and_then(|error| error.downcast_ref::<std::io::Error>());
    assert_eq!(error.map(std::io::Error::kind), Some(std::io::ErrorKind::BrokenPipe));
    assert_eq!(tried.attempts(), 2);
}

async fn waited(policy: Policy, end: End, request: Request<Body>) -> (Option<Duration>, Vec<RetryStop>) {
    let start = Instant::now();
    let tried = tried(policy, [end], request).await;
    (tried.server.times(start).get(1).copied(), stops(&tried))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_is_obeyed() {
    let seconds = |secs: f64| Duration::from_secs_f64(secs);
    for seed in 0..40 {
        let policy = || {
            let policy = Policy::new(1).codes([StatusCode::TOO_MANY_REQUESTS]);
            policy.most_wait(seconds(5.0)).chance(Chance::seeded(seed))
        };
        for (end, least, most) in [
            (End::Head(503, &[("retry-after", "2")]), 2.0, 3.0),
            (End::Head(503, &[("grpc-retry-pushback-ms", "500")]), 0.5, 0.75),
            (End::Head(429, &[("ratelimit", "\"m\";r=0;t=4")]), 4.0, 6.0),
            (End::Head(503, &[("retry-after", "0")]), 0.0, 0.026),
            (End::Head(503, &[("retry-after", "whenever")]), 0.0, 0.026),
            (End::Head(503, &[]), 0.0, 0.026),
        ] {
            let (Some(waited), _) = waited(policy(), end, get()).await else { panic!("not tried again") };
            // A timer's grain is a millisecond.
            assert!((seconds(least)..=seconds(most + 0.001)).contains(&waited), "{waited:?} of {least}");
        }
    }
    for end in [
        End::Head(503, &[("retry-after", "2")]),
        End::Head(503, &[("retry-after", "99999999999999999999999")]),
        End::Head(503, &[("grpc-retry-pushback-ms", "-1")]),
        End::Head(503, &[("grpc-retry-pushback-ms", "soon")]),
    ] {
        assert_eq!(waited(Policy::new(1), end, get()).await, (None, vec![RetryStop::Told]));
    }
    let patient = Policy::new(1).most_wait(seconds(10.0));
    assert!(waited(patient, End::Head(503, &[("retry-after", "6")]), get()).await.0.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_api_back_off_is_a_minimum() {
    let least = Duration::from_millis(40);
    for seed in 0..40 {
        let policy = Policy::new(1).least_wait(least).chance(Chance::seeded(seed));
        let waited = waited(policy, End::Head(503, &[]), get()).await.0.unwrap();
        assert!((least..least + Duration::from_millis(26)).contains(&waited), "{waited:?}");
    }
    let fixed = Policy::new(1).backoff(Backoff::new(Duration::from_millis(70)).jitter(Jitter::None));
    assert_eq!(waited(fixed, End::Head(503, &[]), get()).await.0, Some(Duration::from_millis(70)));
}

/// However patient the policy, and whatever a server says.
#[tokio::test(start_paused = true)]
async fn a_wait_without_end_is_no_overflow() {
    let patient = Policy::new(1).most_wait(Duration::MAX);
    let wait = patient.wait(1, Some(Duration::from_secs(u64::MAX)));
    assert!(wait >= Some(Duration::from_secs(u64::MAX)));
    assert_eq!(patient.wait(1, Some(Duration::MAX)), Some(Duration::MAX));
}

/// An attempt that cannot end in time is not begun.
#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_waits() {
    let within = |ms| {
        let mut request = get();
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(ms));
        request.extensions_mut().insert(deadline);
        request
    };
    let fixed = || Policy::new(1).backoff(Backoff::new(Duration::from_millis(50)).jitter(Jitter::None));
    let end = || End::Head(503, &[]);
    assert_eq!(waited(fixed(), end(), within(59)).await, (None, vec![RetryStop::Deadline]));
    assert!(waited(fixed(), end(), within(61)).await.0.is_some());
    let least = fixed().least_left(Duration::from_secs(1));
    assert_eq!(waited(least, end(), within(1_000)).await, (None, vec![RetryStop::Deadline]));
    let told = End::Head(503, &[("retry-after", "2")]);
    let patient = Policy::new(1).most_wait(Duration::from_secs(5));
    assert_eq!(waited(patient, told, within(1_900)).await, (None, vec![RetryStop::Deadline]));
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_shared_and_says_no() {
    let budget = Budget::new(Ratio::NEVER).floor(3, Duration::from_secs(10));
    let policy = Policy::new(1).budget(budget.clone());
    let mut attempts = 0;
    for _ in 0..5 {
        // Each is a layer of its own.
        attempts += tried(policy.clone(), [End::Head(503, &[])], get()).await.attempts();
    }
    assert_eq!((attempts, budget.calls(), budget.spent(), budget.refused()), (5 + 3, 5, 3, 2));
    assert_eq!(policy.handle().stopped(RetryStop::Budget), 2);
}

/// What one of our own layers refuses has not reached the server, and allows nobody a second attempt.
#[tokio::test(start_paused = true)]
async fn a_budget_grows_with_what_was_sent() {
    for (end, calls) in [
        (End::Head(200, &[]), 1),
        (End::Head(500, &[]), 1),
        (lost(Reason::UpstreamReset), 1),
        (End::Refused(Rejection::new(Reason::UpstreamTimeout)), 1),
        (End::Refused(Rejection::new(Reason::Overloaded)), 0),
        (lost(Reason::CircuitOpen), 0),
    ] {
        let budget = Budget::new(Ratio::ALWAYS).floor(0, Duration::ZERO);
        tried(Policy::new(3).budget(budget.clone()), [end], get()).await;
        assert_eq!(budget.calls(), calls);
    }
}

/// One endpoint's room is not all endpoints'. It says when there may be some again, where there is no head to say it.
#[tokio::test(start_paused = true)]
async fn what_one_endpoint_refuses_another_may_take() {
    let refused = |reason| Rejection::new(reason).unsent().retry_after(Duration::from_secs(1));
    for (reason, attempts) in [(Reason::Overloaded, 2), (Reason::CircuitOpen, 1)] {
        for end in [End::Lost(refused(reason)), End::Refused(refused(reason))] {
            assert_eq!(tried(Policy::new(1), [end], post("pay")).await.attempts(), attempts, "{reason}");
        }
    }
    let waited = waited(Policy::new(1), End::Lost(refused(Reason::Overloaded)), post("pay")).await.0;
    assert!(waited >= Some(Duration::from_secs(1)), "{waited:?}");
}

/// What a recovery is shows at the end: in trailers, too.
#[tokio::test(start_paused = true)]
async fn what_ends_badly_has_not_recovered() {
    let grpc = |status| End::Grpc(vec![Step::Data("ab"), Step::Trailers(status)]);
    for (second, recovered) in [
        (End::Head(200, &[]), 1),
        (grpc("0"), 1),
        (grpc("14"), 0),
        (End::Grpc(vec![Step::Data("ab"), Step::Fail]), 0),
        (End::Head(500, &[]), 0),
        (End::Refused(Rejection::new(Reason::RateLimited)), 0),
    ] {
        let tried = tried(Policy::new(1), [End::Head(503, &[]), second], get()).await;
        let handle = tried.handle.clone();
        let _ = tried.answered.unwrap().into_body().collect().await;
        assert_eq!((handle.retries(), handle.recovered()), (1, recovered));
    }
}

/// A policy that takes another's place counts on.
#[tokio::test(start_paused = true)]
async fn numbers_go_on() {
    let before = Policy::new(1);
    tried(before.clone(), [End::Head(503, &[])], get()).await;
    let after = Policy::new(2).counted_by(&before.handle());
    tried(after.clone(), vec![End::Head(503, &[]); 2], get()).await;
    assert_eq!((after.handle().retries(), before.handle().retries()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn the_trail_says_why_it_was_left_at_that() {
    let mut request = post("pay");
    let trail = Trail::default();
    request.extensions_mut().insert(trail.clone());
    tried(Policy::new(1), [End::Head(503, &[])], request).await;
    assert_eq!(trail.retry_stop(), Some(RetryStop::Unsafe));
}
