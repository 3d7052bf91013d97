//! How attempts are sent.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt, service_fn};

use super::{End, Server, get, lost, post, start, tried};
use crate::{
    attempt::{Attempt, RetryStop},
    body::{
        Body, BoxError,
        script::{Channel, Script, Step},
    },
    reject::{Reason, Rejection},
    resilience::retry::{Policy, RetryLayer, RetryOn},
    trail::Trail,
    upload::Upload,
};

const FAIL: End = End::Head(503, &[]);

#[tokio::test(start_paused = true)]
async fn each_attempt_has_the_whole_body_and_its_trailers() {
    let steps = || [Step::Data("ab"), Step::Pending, Step::Data("cd"), Step::Trailers("0")];
    for first in [FAIL, End::Early(503), lost(Reason::UpstreamReset)] {
        let request = Request::put("/").body(Body::new(Script::new(steps()).untold())).unwrap();
        let tried = tried(Policy::new(2), [first, FAIL], request).await;
        assert_eq!((tried.attempts(), tried.status()), (3, Some(200)));
        for seen in tried.server.seen.lock().unwrap().iter().skip(1) {
            assert_eq!(seen.body, Some(("abcd".into(), true)));
        }
    }
}

/// Nothing waits for the whole of what a caller sends: both sides can talk in turns.
#[tokio::test(start_paused = true)]
async fn a_body_is_answered_while_it_comes() {
    let echo =
        service_fn(async |request: Request<Body>| Ok::<_, BoxError>(Response::new(request.into_body())));
    let (say, words) = mpsc::unbounded_channel();
    let request = Request::put("/").body(Body::new(Channel(words))).unwrap();
    let second = Duration::from_secs(1);
    let answering = tokio::time::timeout(second, RetryLayer::default().layer(echo).oneshot(request));
    let mut answer = answering.await.expect("in time").unwrap().into_body();
    for word in ["one", "two", "three"] {
        say.send(word).unwrap();
        let frame = tokio::time::timeout(second, answer.frame()).await.expect("in time");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), word);
    }
    drop(say);
    assert!(answer.frame().await.is_none());
}

/// As long as there may be another attempt what is read is kept, and no longer: the last is copied for nobody.
#[tokio::test(start_paused = true)]
async fn what_the_last_attempt_reads_is_not_kept() {
    const FRAMES: u64 = 60;
    let text: &'static str = "x".repeat(1000).leak();
    for (retries, is_kept) in [(2, true), (1, false)] {
        let (give, mut bodies) = mpsc::unbounded_channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let server = service_fn(move |request: Request<Body>| {
            let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            give.send(request.into_body()).unwrap();
            async move {
                match is_first {
                    true => Response::builder().status(503).body(Body::empty()),
                    false => std::future::pending().await,
                }
            }
        });
        let steps = (0..FRAMES).map(|_| Step::Data(text)).chain([Step::Pending]);
        let request = Request::put("/").body(Body::new(Script::new(steps).untold())).unwrap();
        let call = tokio::spawn(RetryLayer::new(Policy::new(retries)).layer(server).oneshot(request));
        drop(bodies.recv().await);
        let mut second = bodies.recv().await.unwrap();
        let nobody = &mut Context::from_waker(std::task::Waker::noop());
        let cost = allocation_counter::measure(|| {
            let mut frames = 0;
            while let Poll::Ready(frame) = Pin::new(&mut second).poll_frame(nobody) {
                assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), text);
                frames += 1;
            }
            assert_eq!(frames, FRAMES);
        });
        assert_eq!(cost.bytes_total >= FRAMES * 1000, is_kept, "{retries}: {cost:?}");
        assert!(is_kept || cost.bytes_total < 1000, "{cost:?}");
        call.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_sent_once_and_whole() {
    for told in [true, false] {
        let body = Script::new([Step::Data("abcd"), Step::Data("efgh"), Step::End]);
        let body = Body::new(if told { body } else { body.untold() });
        let request = Request::put("/").body(body).unwrap();
        let tried = tried(Policy::new(1).most_body(7), [FAIL], request).await;
        assert_eq!((tried.attempts(), tried.status()), (1, Some(503)));
        assert_eq!(tried.handle.stopped(RetryStop::Body), 1);
        assert_eq!(tried.server.seen.lock().unwrap()[0].body, Some(("abcdefgh".into(), false)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_breaks_off_is_not_tried_again() {
    let body = Body::new(Script::new([Step::Data("ab"), Step::Fail]));
    let tried = tried(Policy::new(1), [FAIL], Request::put("/").body(body).unwrap()).await;
    assert_eq!((tried.attempts(), tried.handle.stopped(RetryStop::Body)), (1, 1));
}

/// What is there is looked at, and what is not is not waited for.
#[tokio::test(start_paused = true)]
async fn trailers_are_looked_at_and_not_waited_for() {
    let unavailable = || Step::Trailers("14");
    let any = || Policy::new(1).danger_any_method();
    let ends = [
        (vec![unavailable()], 2),
        (vec![Step::Pending, unavailable()], 1),
        (vec![Step::Data("ab"), unavailable()], 1),
        (vec![Step::Data("ab"), Step::Trailers("0")], 1),
        (vec![Step::Trailers("3")], 1),
        (vec![Step::End], 1),
        (vec![Step::Fail], 2),
    ];
    for (steps, attempts) in ends {
        let tried = tried(any(), [End::Grpc(steps.clone())], post("call")).await;
        assert_eq!(tried.attempts(), attempts, "{steps:?}");
        if attempts == 1 {
            let whole = tried.answered.unwrap().into_body().collect().await.unwrap();
            let trailers = steps.iter().any(|step| matches!(step, Step::Trailers(_)));
            assert_eq!(whole.trailers().is_some(), trailers, "{steps:?}");
            let data = steps.iter().any(|step| matches!(step, Step::Data(_)));
            assert_eq!(whole.to_bytes(), if data { "ab" } else { "" }, "{steps:?}");
        }
    }
    // The last attempt's trailers reach the caller, too.
    let tried = tried(any(), vec![End::Grpc(vec![unavailable()]); 2], post("call")).await;
    let whole = tried.answered.unwrap().into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["grpc-status"], "14");
    // Nobody asked for them.
    let never = Policy::new(1).on([RetryOn::Reset]).danger_any_method();
    assert_eq!(super::tried(never, [End::Grpc(vec![unavailable()])], post("call")).await.attempts(), 1);
}

/// A body that breaks off, and says that the request was never sent.
struct Liar;

impl HttpBody for Liar {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(Some(Err(Rejection::new(Reason::UpstreamReset).unsent().into())))
    }
}

/// Whoever has sent a head has looked at the request, whatever its body says.
#[tokio::test(start_paused = true)]
async fn what_was_answered_was_sent() {
    for (request, expected) in [(post("pay"), 1), (get(), 2)] {
        let asked = AtomicUsize::new(0);
        let server = service_fn(|_: Request<Body>| async {
            asked.fetch_add(1, Ordering::Relaxed);
            Response::builder().header("content-type", "application/grpc").body(Liar)
        });
        let response = RetryLayer::new(Policy::new(1)).layer(server).oneshot(request).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), expected);
        assert!(response.into_body().collect().await.is_err());
    }
}

/// The failed attempt has waited for the caller; the next has not asked it for anything yet.
#[tokio::test(start_paused = true)]
async fn the_next_attempt_does_not_wait_for_the_caller_yet() {
    let (upload, mut request) = (Upload::new(), get());
    upload.set_awaited(true);
    request.extensions_mut().insert(upload.clone());
    assert_eq!(tried(Policy::new(1), [End::Early(503)], request).await.attempts(), 2);
    assert!(!upload.is_awaited());
}

#[tokio::test(start_paused = true)]
async fn pushback_stands_in_trailers_as_well() {
    let grpc = |fields| End::Grpc(vec![Step::Fields(fields)]);
    let never = grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
    let told = tried(Policy::new(1), [never], get()).await;
    assert_eq!((told.attempts(), told.handle.stopped(RetryStop::Told)), (1, 1));

    let start = tokio::time::Instant::now();
    let later = grpc(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "500")]);
    let told = tried(Policy::new(1), [later], get()).await;
    let times = told.server.times(start);
    assert!(times.len() == 2 && times[1] >= Duration::from_millis(500), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_knows_where_the_last_went() {
    for with_trail in [true, false] {
        let mut request = get();
        let trail = Trail::default();
        if with_trail {
            request.extensions_mut().insert(trail.clone());
        }
        let tried = tried(Policy::new(2), [FAIL, FAIL], request).await;
        let seen = tried.server.seen.lock().unwrap();
        let ports = |at: usize| {
            seen[at]
                .earlier
                .as_ref()
                .map(|earlier| earlier.endpoints().iter().map(|a| a.port()).collect::<Vec<_>>())
        };
        assert_eq!((ports(0), ports(1), ports(2)), (None, Some(vec![1]), Some(vec![1, 2])));
        assert_eq!(seen[2].earlier.as_ref().unwrap().attempts(), 2);
        let told = match with_trail {
            true => trail.attempt(),
            false => tried.answered.unwrap().extensions().get::<Attempt>().cloned(),
        };
        assert_eq!(told.map(|attempt| attempt.attempts), Some(3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_is_told_which_attempt_it_is_if_it_is_to_know() {
    let mut request = get();
    request.headers_mut().insert("x-attempt", "77".parse().unwrap());
    let told = Policy::new(2).attempt_header(HeaderName::from_static("x-attempt"));
    let tried = tried(told, [FAIL, FAIL], request).await;
    let seen = tried.server.seen.lock().unwrap();
    let numbers: Vec<_> = seen.iter().map(|seen| seen.headers["x-attempt"].clone()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_is_an_attempt() {
    let tried = tried(Policy::new(1), [End::Unready], get()).await;
    assert_eq!((tried.status(), tried.handle.retries()), (Some(200), 1));
}

#[tokio::test(start_paused = true)]
async fn tunnels_have_one_attempt() {
    let upgrade = Request::get("/").header("upgrade", "websocket").body(Body::empty()).unwrap();
    let connect = Request::builder().method(Method::CONNECT).body(Body::empty()).unwrap();
    for request in [upgrade, connect] {
        assert_eq!(tried(Policy::new(1), [FAIL], request).await.attempts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_takes_the_attempt_along() {
    let (server, layer) = (Server::new([End::Hang]), RetryLayer::default());
    let mut call = tokio_test::task::spawn(start(&server, &layer, get()));
    assert!(call.poll().is_pending());
    let alive = Arc::strong_count(&server.alive);
    drop(call);
    assert!(Arc::strong_count(&server.alive) < alive);
    // In the wait nothing of the failed attempt is left.
    let server = Server::new([End::Head(503, &[("retry-after", "1")])]);
    let mut call = tokio_test::task::spawn(start(&server, &layer, get()));
    assert!(call.poll().is_pending());
    assert_eq!(server.attempts(), 1);
    drop(call);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn disabled_it_hands_on() {
    for layer in [RetryLayer::disabled(), RetryLayer::new(Policy::new(0))] {
        assert!(layer.handle().is_none());
        let server = Server::new([FAIL]);
        let response = layer.layer(server.clone()).oneshot(get()).await.unwrap();
        assert_eq!((response.status(), server.attempts()), (StatusCode::SERVICE_UNAVAILABLE, 1));
    }
}

/// The head, the codes and the reason of the last failure come through.
#[tokio::test(start_paused = true)]
async fn the_last_answer_is_given_as_it_is() {
    let refused = Rejection::new(Reason::UpstreamTimeout);
    let tried = tried(Policy::new(1), vec![End::Refused(refused); 2], get()).await;
    let response = tried.answered.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(
        response.extensions().get::<Rejection>().map(Rejection::reason),
        Some(Reason::UpstreamTimeout)
    );
}
