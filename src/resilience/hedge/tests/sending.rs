//! What is sent twice, and how.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, Method, Request, Response, StatusCode};
use tokio::time::Instant;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use super::{Head, MS, OK, Server, get, late, raced};
use crate::{
    attempt::Attempt,
    body::{
        Body,
        script::{Channel, Script, Step},
    },
    context::Deadline,
    ratio::Ratio,
    resilience::{
        budget::Budget,
        hedge::{HedgeLayer, HedgeStop, Policy},
        retry::{self, RetryLayer},
        timeout::TimeoutLayer,
    },
    trail::Trail,
};

const ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
const SLOW: (u64, super::End) = (1_000, OK);

/// The rule is that of retries.
#[tokio::test(start_paused = true)]
async fn only_what_may_be_done_twice_is_sent_twice() {
    let of = |method: Method| Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
    let keyed = Request::post("/").header("idempotency-key", "\"4711\"").body(Body::empty()).unwrap();
    let upgrade = Request::get("/").header("upgrade", "websocket").body(Body::empty()).unwrap();
    for (policy, request, attempts) in [
        (late(), of(Method::GET), 2),
        (late(), of(Method::PUT), 2),
        (late(), of(Method::POST), 1),
        (late(), of(Method::PATCH), 1),
        (late(), keyed, 2),
        (late().danger_any_method(), of(Method::POST), 2),
        (late().danger_any_method(), of(Method::CONNECT), 1),
        (late(), upgrade, 1),
    ] {
        let what = format!("{} {:?}", request.method(), request.headers());
        let raced = raced(policy, [SLOW, SLOW], request).await;
        assert_eq!((raced.server.attempts(), raced.given()), (attempts, Some((200, "1"))), "{what}");
    }
}

/// Nothing is silent about a hedge that is no use to its calls.
#[tokio::test(start_paused = true)]
async fn what_may_not_be_sent_twice_is_counted_if_it_is_late() {
    let post = || Request::post("/").body(Body::empty()).unwrap();
    let share = || Policy::at_percentile(Ratio::percent(95)).least_delay(50 * MS);
    for (policy, took, request, counted) in [
        (late(), 60, post(), 1),
        (late(), 40, post(), 0),
        (share(), 60, post(), 1), // it is not known yet
        (share(), 40, post(), 0),
        (late().danger_any_method(), 60, post(), 0),
        (late(), 60, Request::get("/").header("upgrade", "websocket").body(Body::empty()).unwrap(), 0),
    ] {
        let raced = raced(policy, [(took, OK), (9_000, OK)], request).await;
        assert_eq!(
            (raced.given(), raced.handle.stopped(HedgeStop::Unsafe)),
            (Some((200, "1")), counted),
            "{took}"
        );
    }
    // Whoever does not wait any longer has waited too long.
    let layer = HedgeLayer::new(late());
    let call = layer.layer(Server::new([SLOW])).oneshot(post());
    assert!(tokio::time::timeout(60 * MS, call).await.is_err());
    assert_eq!(layer.handle().unwrap().stopped(HedgeStop::Unsafe), 1);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_whole_request() {
    let steps = [Step::Data("ab"), Step::Data("cd"), Step::Trailers("0")];
    let body = Body::new(Script::new(steps).untold());
    let request = Request::put("/").header("x-user", "alice").body(body).unwrap();
    let raced = raced(late(), [SLOW, (10, OK)], request).await;
    assert_eq!(raced.given(), Some((200, "2")));
    for seen in &*raced.server.seen.lock().unwrap() {
        assert_eq!(
            (seen.body.as_deref(), &seen.headers["x-user"]),
            (Some(&b"abcd"[..]), &"alice".parse().unwrap())
        );
    }
}

/// While the caller still sends, it is not the server who is late.
#[tokio::test(start_paused = true)]
async fn a_body_that_comes_slowly_is_waited_for() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for text in ["ab", "cd"] {
            tokio::time::sleep(130 * MS).await;
            sender.send(text).unwrap();
        }
    });
    let request = Request::put("/").body(Body::new(Channel(receiver))).unwrap();
    let raced = raced(late(), [SLOW, (10, OK)], request).await;
    // It looks after 50, 150 and 350 ms; all has come after 260.
    assert_eq!((raced.times.clone(), raced.took, raced.given()), (vec![0, 350], 360, Some((200, "2"))));
    assert_eq!(raced.server.seen.lock().unwrap()[1].body.as_deref(), Some(&b"abcd"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_or_broken_is_sent_once() {
    let long = || Script::new([Step::Data("abcd"), Step::Data("efgh")]);
    let broken = Script::new([Step::Data("ab"), Step::Fail]).untold();
    for (body, given) in [(long(), "abcdefgh"), (long().untold(), "abcdefgh"), (broken, "")] {
        let request = Request::put("/").body(Body::new(body)).unwrap();
        let raced = raced(late().most_body(7), [SLOW], request).await;
        assert_eq!((raced.server.attempts(), raced.handle.stopped(HedgeStop::Body)), (1, 1));
        let seen = raced.server.seen.lock().unwrap();
        assert_eq!(seen[0].body.as_deref().unwrap_or_default(), given.as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_and_the_budget_say_no() {
    for (left, stopped) in [(59, 1), (61, 0)] {
        let mut request = get();
        request.extensions_mut().insert(Deadline::after(Instant::now(), left * MS));
        let raced = raced(late(), [SLOW, (5, OK)], request).await;
        assert_eq!((raced.handle.stopped(HedgeStop::Deadline), raced.counts().0), (stopped, 1 - stopped));
    }
    let budget = Budget::new(Ratio::percent(50)).floor(0, Duration::ZERO);
    let mut sent = 0;
    for _ in 0..6 {
        let raced = raced(late().budget(budget.clone()), [SLOW, SLOW], get()).await;
        sent += raced.server.attempts();
    }
    // The call itself counts when it has ended: the third may, and the fifth.
    assert_eq!((sent, budget.calls(), budget.spent(), budget.refused()), (6 + 2, 6, 2, 4));
    let shared = late().shared_budget(Budget::new(Ratio::NEVER).floor(0, Duration::ZERO));
    let raced = raced(shared, [SLOW], get()).await;
    assert_eq!((raced.handle.budget().calls(), raced.handle.stopped(HedgeStop::Budget)), (0, 1));
}

/// The second goes elsewhere, and the watchers outside learn of the one whose answer is given.
#[tokio::test(start_paused = true)]
async fn the_trail_tells_of_the_attempt_that_won() {
    for (second, won) in [((10, OK), 2), ((9_000, OK), 1)] {
        for watched in [true, false] {
            let (mut request, trail) = (get(), Trail::default());
            if watched {
                request.extensions_mut().insert(trail.clone());
            }
            let raced = raced(late(), [SLOW, second.clone()], request).await;
            let told = match watched {
                true => trail.attempt(),
                false => raced.answered.as_ref().unwrap().extensions().get::<Attempt>().cloned(),
            };
            let told = told.unwrap();
            assert_eq!((told.endpoint.map(|at| at.port()), told.attempts), (Some(won), won as u8));
            let seen = raced.server.seen.lock().unwrap();
            let earlier = seen[1].earlier.as_ref().unwrap();
            assert_eq!(earlier.endpoints(), [([127, 0, 0, 1], 1).into()]);
        }
    }
}

/// Retry outside, hedge inside, one budget; the timeout of an attempt is each attempt's own.
#[tokio::test(start_paused = true)]
async fn it_stands_inside_of_a_retry() {
    let budget = Budget::new(Ratio::NEVER).floor(2, Duration::from_secs(10));
    let server = Server::new([(9_000, OK), (60, Head(503, &[])), (5, OK)]);
    let (retries, hedges) = (
        RetryLayer::new(retry::Policy::new(2).budget(budget.clone()).attempt_header(ATTEMPT)),
        HedgeLayer::new(late().shared_budget(budget.clone())),
    );
    let (retried, hedged) = (retries.handle().unwrap(), hedges.handle().unwrap());
    let client = ServiceBuilder::new()
        .layer(retries)
        .layer(hedges)
        .layer(TimeoutLayer::new(100 * MS).per_attempt())
        .service(server.clone());
    let response = client.oneshot(get()).await.unwrap();
    assert_eq!((response.status().as_u16(), server.attempts()), (200, 3));
    assert_eq!((retried.retries(), retried.recovered(), hedged.hedges()), (1, 1, 1));
    assert_eq!((budget.calls(), budget.spent()), (1, 2));
    let seen = server.seen.lock().unwrap();
    let third = seen[2].earlier.as_ref().unwrap();
    assert!(third.endpoints().contains(&([127, 0, 0, 1], 2).into()), "{third:?}");
    // No two have one number, and each is told its own.
    let numbers: Vec<_> = seen.iter().map(|seen| seen.headers[ATTEMPT].clone()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_late_as_well() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = service_fn(move |_: Request<Body>| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match number {
                0 => pending().await,
                _ => Ok::<_, io::Error>(Response::new(Body::empty())),
            }
        }
    });
    let response = HedgeLayer::new(late()).layer(server).oneshot(get()).await.unwrap();
    assert_eq!((response.status(), asked.load(Ordering::Relaxed)), (StatusCode::OK, 2));
}

#[tokio::test(start_paused = true)]
async fn disabled_it_hands_on() {
    for layer in [HedgeLayer::disabled(), HedgeLayer::new(late().hedges(0))] {
        assert!(layer.handle().is_none());
        let server = Server::new([SLOW]);
        layer.layer(server.clone()).oneshot(get()).await.unwrap();
        assert_eq!(server.attempts(), 1);
    }
}
