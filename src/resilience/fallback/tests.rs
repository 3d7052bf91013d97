use std::{
    io,
    num::NonZeroU32,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    body::{
        Body, BoxError,
        script::{Script, Step},
    },
    reject::{Reason, Rejection},
    resilience::{
        breaker::{self, BreakerLayer},
        retry::RetryOn,
    },
    trail::{Failed, FellBack, Given, Trail},
    trip,
};

/// How a server ends a call.
#[derive(Clone)]
enum End {
    Head(u16),
    GrpcHead(&'static str),
    Refuse(Rejection),
    Lose(Rejection),
    Error(io::ErrorKind),
}

impl End {
    async fn of(self, request: Request<Body>) -> Result<Response<Script>, BoxError> {
        let _ = request.into_body().collect().await;
        let empty = || Script::new([]);
        Ok(match self {
            Self::Head(status) => {
                Response::builder().status(status).body(Script::new([Step::Data("first")]))?
            }
            Self::GrpcHead(status) => {
                let grpc = Response::builder().header("content-type", "application/grpc");
                grpc.header("grpc-status", status).body(empty())?
            }
            Self::Refuse(why) => {
                Response::builder().status(why.reason().status()).extension(why).body(empty())?
            }
            Self::Lose(why) => return Err(why.into()),
            Self::Error(kind) => return Err(io::Error::from(kind).into()),
        })
    }
}

/// The text that is given in the end, or `None` for an error, and whether it was given in the place of a failure.
async fn ask(policy: Policy, end: End, request: Request<Body>) -> (Option<String>, bool) {
    let server = service_fn(move |request| end.clone().of(request));
    let Ok(response) = FallbackLayer::new(policy).layer(server).oneshot(request).await else {
        return (None, false);
    };
    let fell_back = response.extensions().get::<FellBack>().is_some();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (Some(String::from_utf8_lossy(&text).into_owned()), fell_back)
}

fn get() -> Request<Body> {
    Request::new(Body::empty())
}

fn static_answer() -> Policy {
    Policy::answer(Response::new(Bytes::from_static(b"instead")))
}

#[tokio::test]
async fn a_failure_is_replaced_and_nothing_else_is() {
    let refused = |reason| Rejection::new(reason).unsent();
    for (end, expected) in [
        (End::Head(500), true),
        (End::Head(503), true),
        (End::GrpcHead("14"), true),
        (End::Refuse(refused(Reason::CircuitOpen)), true),
        (End::Refuse(refused(Reason::Overloaded)), true),
        (End::Lose(refused(Reason::NoEndpoint)), true),
        (End::Lose(refused(Reason::CircuitOpen)), true),
        (End::Lose(Rejection::new(Reason::UpstreamTimeout)), true),
        (End::Error(io::ErrorKind::ConnectionReset), true),
        (End::Error(io::ErrorKind::ConnectionRefused), true),
        (End::Head(200), false),
        (End::Head(404), false),
        (End::Head(429), false),
        (End::GrpcHead("5"), false),
        (End::Refuse(refused(Reason::RateLimited)), false),
        (End::Refuse(refused(Reason::CallerDeadline)), false),
        (End::Lose(refused(Reason::Forbidden)), false),
    ] {
        let policy = static_answer();
        let handle = policy.handle();
        let (text, fell_back) = ask(policy, end, get()).await;
        assert_eq!(fell_back, expected, "{text:?}");
        assert_eq!((handle.given(), handle.not_given()), (u64::from(expected), 0));
        if expected {
            assert_eq!(text.as_deref(), Some("instead"));
        }
    }
}

#[tokio::test]
async fn the_cases_can_be_chosen() {
    let policy = || static_answer().on([RetryOn::Reset]).codes([StatusCode::TOO_MANY_REQUESTS]);
    for (end, expected) in [
        (End::Head(503), false),
        (End::Head(429), true),
        (End::Error(io::ErrorKind::ConnectionReset), true),
        (End::Refuse(Rejection::new(Reason::RateLimited)), false),
    ] {
        assert_eq!(ask(policy(), end, get()).await.1, expected);
    }
}

/// What was an error further inside is the same case as an answer.
#[tokio::test]
async fn a_rescued_error_is_the_case_that_it_was() {
    let rejection = |reason| Rejection::new(reason);
    for (on, reason, expected) in [
        (RetryOn::ConnectFailure, Reason::ConnectFailed, true),
        (RetryOn::Reset, Reason::UpstreamReset, true),
        (RetryOn::Unavailable, Reason::CircuitOpen, true),
        (RetryOn::Reset, Reason::CircuitOpen, false),
        (RetryOn::ServerError, Reason::CallerDeadline, false),
    ] {
        for end in [End::Refuse(rejection(reason)), End::Lose(rejection(reason))] {
            assert_eq!(ask(static_answer().on([on]), end, get()).await.1, expected, "{reason:?}");
        }
    }
}

#[tokio::test]
async fn cases_alone_give_nothing_until_a_server_is_named() {
    let (before, _) = other(true);
    let numbers = before.handle();
    let cases = Policy::cases().counted_by(&numbers);
    assert_eq!(ask(cases.clone(), End::Head(503), get()).await, (Some("first".into()), false));
    let server =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::from("other"))) });
    assert_eq!(ask(cases.asking(server), End::Head(503), get()).await, (Some("other".into()), true));
    assert_eq!((numbers.given(), numbers.not_given()), (1, 1));
}

#[tokio::test]
async fn a_grpc_caller_is_told_in_grpc() {
    let grpc = || Request::builder().header("content-type", "application/grpc").body(Body::empty()).unwrap();
    let own = Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
    let own = Policy::answer(own.body(Bytes::from_static(b"\0\0\0\0\0")).unwrap());
    let made = Policy::answer_with(|_| Some(Response::new(Bytes::from_static(b"{}"))));
    // What means nothing to the caller is not given.
    for (policy, status, given) in [(static_answer(), "13", 0), (made, "13", 0), (own, "0", 1)] {
        let server = service_fn(|request| End::GrpcHead("13").of(request));
        let handle = policy.handle();
        let response = FallbackLayer::new(policy).layer(server).oneshot(grpc()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &status.parse().unwrap())
        );
        assert_eq!((handle.given_as(Given::Answer), handle.not_given()), (given, 1 - given));
    }
}

#[tokio::test]
async fn what_is_made_knows_the_request_and_may_be_nothing() {
    let policy = Policy::answer_with(|request| {
        (request.uri().path() == "/known").then(|| Response::new(Bytes::from_static(b"old")))
    });
    let handle = policy.handle();
    let at = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(ask(policy.clone(), End::Head(503), at("/known")).await, (Some("old".into()), true));
    assert_eq!(ask(policy.clone(), End::Head(503), at("/other")).await, (Some("first".into()), false));
    assert_eq!(ask(policy, End::Error(io::ErrorKind::ConnectionReset), at("/other")).await, (None, false));
    assert_eq!((handle.given(), handle.not_given()), (1, 2));
}

type Seen = Arc<Mutex<Vec<Bytes>>>;

/// Another server, and the bodies that it has seen.
fn other(works: bool) -> (Policy, Seen) {
    let seen = Seen::default();
    let see = Arc::clone(&seen);
    let policy = Policy::ask(service_fn(move |request: Request<Body>| {
        let see = Arc::clone(&see);
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            see.lock().unwrap().push(body);
            match works {
                true => Ok::<_, BoxError>(Response::new(Body::from("other"))),
                false => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
            }
        }
    }));
    (policy, seen)
}

#[tokio::test]
async fn another_server_gets_the_whole_request() {
    let body = || Body::new(Script::new([Step::Data("ab"), Step::Pending, Step::Data("cd")]).untold());
    let put = || Request::put("/").body(body()).unwrap();
    let post = || Request::post("/").body(body()).unwrap();
    let keyed = || Request::post("/").header("idempotency-key", "7").body(body()).unwrap();
    let unsent = || End::Refuse(Rejection::new(Reason::CircuitOpen).unsent());
    for (end, request, expected) in [
        (End::Head(503), put(), Some("other")),
        (End::Head(503), keyed(), Some("other")),
        (unsent(), post(), Some("other")),
        // It may have been done already.
        (End::Head(503), post(), None),
        (End::Error(io::ErrorKind::ConnectionReset), post(), None),
    ] {
        let (policy, seen) = other(true);
        let (text, fell_back) = ask(policy, end, request).await;
        assert_eq!(fell_back, expected.is_some());
        match expected {
            Some(_) => {
                assert_eq!((text.as_deref(), &**seen.lock().unwrap()), (expected, &["abcd".into()][..]));
            }
            None => assert!(seen.lock().unwrap().is_empty()),
        }
    }
    let (policy, seen) = other(true);
    assert!(!ask(policy.most_body(3), End::Head(503), put()).await.1, "its body was too long to be kept");
    assert!(seen.lock().unwrap().is_empty());
    let (policy, seen) = other(true);
    let upgrade = Request::get("/").header("upgrade", "websocket").body(Body::empty()).unwrap();
    assert!(!ask(policy, End::Head(503), upgrade).await.1 && seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn if_the_other_fails_too_the_first_failure_stands() {
    let (policy, seen) = other(false);
    let handle = policy.handle();
    assert_eq!(ask(policy.clone(), End::Head(503), get()).await, (Some("first".into()), false));
    assert_eq!(ask(policy, End::Error(io::ErrorKind::ConnectionReset), get()).await, (None, false));
    assert_eq!((seen.lock().unwrap().len(), handle.given(), handle.not_given()), (2, 0, 2));
}

/// A body that is seen to be held, and may never end.
struct Held {
    script: Script,
    is_silent: bool,
    _here: Arc<()>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.script).poll_frame(cx) {
            Poll::Ready(None) if self.is_silent => Poll::Pending,
            frame => frame,
        }
    }
}

/// The failure's body is read, or given up if it is long, broken or late: then its connection, its places in limits and its
/// breaker's probe are free.
#[tokio::test(start_paused = true)]
async fn a_failure_holds_nothing_while_another_server_is_asked() {
    use Step::{Data, Fail, Pending, Trailers};
    const LATE: Duration = Duration::from_millis(1001);
    let long: &str = "x".repeat(20_000).leak();
    for (steps, is_silent, free_after, text) in [
        (vec![], false, Duration::ZERO, Some("")),
        (vec![Data("fi"), Pending, Data("rst")], false, Duration::ZERO, Some("first")),
        (vec![Data("first"), Trailers("0")], false, Duration::ZERO, Some("first")),
        (vec![Data("first"), Fail], false, Duration::ZERO, None),
        (vec![Data(long)], false, Duration::ZERO, None),
        (vec![Data(&long[..10_000]), Pending, Data(&long[..10_000])], false, Duration::ZERO, None),
        (vec![Data("first")], true, LATE, None),
    ] {
        let (here, (answer, other)) = (Arc::new(()), tokio::sync::oneshot::channel::<()>());
        let other = Arc::new(Mutex::new(Some(other)));
        let policy = Policy::ask(service_fn(move |_: Request<Body>| {
            let other = other.lock().unwrap().take().unwrap();
            async move { other.await.map(|()| Response::new(Body::from("other"))) }
        }));
        let breaker =
            BreakerLayer::new(breaker::Policy::new(trip::Policy::new().consecutive(NonZeroU32::MIN)));
        let held = Arc::clone(&here);
        let server = breaker.layer(service_fn(move |_: Request<Body>| {
            let body = Held { script: Script::new(steps.clone()), is_silent, _here: Arc::clone(&held) };
            let response = Response::builder().status(503).header("content-type", "text/plain");
            async move { response.header("x-first", "1").body(body).map_err(BoxError::from) }
        }));
        let mut call = pin!(FallbackLayer::new(policy).layer(server).oneshot(get()));
        if !free_after.is_zero() {
            assert!(timeout(free_after / 2, &mut call).await.is_err());
            assert_eq!(Arc::strong_count(&here), 2);
        }
        assert!(timeout(free_after + Duration::from_millis(1), &mut call).await.is_err());
        assert_eq!((Arc::strong_count(&here), breaker.handle().unwrap().opened()), (1, 1), "{text:?}");
        drop(answer);
        let response = call.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-first"]),
            (503, &"1".parse().unwrap())
        );
        assert_eq!(response.headers().contains_key("content-type"), text.is_some());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, text.unwrap_or_default());
    }
}

/// Nobody has an answer, and the failure is not read to its end yet.
#[tokio::test(start_paused = true)]
async fn a_failure_is_given_when_it_is_read() {
    for (is_silent, text) in [(false, "first"), (true, "")] {
        let policy = Policy::ask(service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(BoxError::from("nobody is there"))
        }));
        let server = service_fn(move |_: Request<Body>| {
            let steps = [Step::Data("fi"), Step::Pending, Step::Pending, Step::Data("rst")];
            let body = Held { script: Script::new(steps), is_silent, _here: Arc::default() };
            async move { Response::builder().status(503).body(body).map_err(BoxError::from) }
        });
        let response = FallbackLayer::new(policy).layer(server).oneshot(get()).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), text);
    }
}

#[tokio::test]
async fn an_open_breaker_is_a_case_and_the_trail_says_so() {
    let breaker = BreakerLayer::default();
    breaker.handle().unwrap().force_open();
    let server = breaker.layer(service_fn(|request| End::Head(200).of(request)));
    let trail = Trail::default();
    let mut request = get();
    request.extensions_mut().insert(trail.clone());
    let response = FallbackLayer::new(static_answer()).layer(server).oneshot(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "instead");
    let failed = Failed::Reason(Reason::CircuitOpen);
    assert_eq!(trail.fell_back(), Some(FellBack { failed, given: Given::Answer }));
}

#[tokio::test]
async fn what_failed_has_a_name() {
    for (end, name) in [
        (End::Head(503), "http_503"),
        (End::GrpcHead("14"), "grpc_14"),
        (End::Refuse(Rejection::new(Reason::Overloaded)), "overloaded"),
        (End::Error(io::ErrorKind::ConnectionReset), "upstream_reset"),
        (End::Error(io::ErrorKind::ConnectionRefused), "connect_failed"),
    ] {
        let server = service_fn(move |request| end.clone().of(request));
        let response = FallbackLayer::new(static_answer()).layer(server).oneshot(get()).await.unwrap();
        assert_eq!(response.extensions().get::<FellBack>().unwrap().failed.to_string(), name);
    }
}

#[tokio::test]
async fn to_head_an_answer_has_no_body() {
    let server = service_fn(|request| End::Head(503).of(request));
    let request = Request::head("/").body(Body::empty()).unwrap();
    let response = FallbackLayer::new(static_answer()).layer(server).oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()["content-length"].as_bytes()),
        (200, &b"7"[..])
    );
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

/// It has not been asked, so nothing of it can be given.
#[tokio::test]
async fn a_refusal_in_front_of_the_other_is_no_answer_of_it() {
    let breaker = BreakerLayer::default();
    breaker.handle().unwrap().force_open();
    let policy = Policy::ask(breaker.layer(service_fn(|request| End::Head(200).of(request))));
    let handle = policy.handle();
    assert_eq!(ask(policy, End::Head(500), get()).await, (Some("first".into()), false));
    assert_eq!((handle.given(), handle.not_given()), (0, 1));
}

#[tokio::test]
async fn disabled_it_gives_every_failure() {
    let server = service_fn(|request| End::Head(503).of(request));
    let response = FallbackLayer::disabled().layer(server).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 503);
}
