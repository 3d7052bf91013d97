//! Whether what came is given to its end.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{SECOND, Slow, TimeoutLayer, request, response, run};
use crate::{
    body::Body,
    outcome::Failure,
    reject::{Reason, Rejection},
    tunnel::TunnelLimits,
};

#[tokio::test(start_paused = true)]
async fn an_ordinary_body_must_end_within_the_total() {
    let layer = TimeoutLayer::new(SECOND);
    let ran = run(layer, "text/plain", Slow::of([(400, "a"), (400, "b"), (400, "c")])).await;
    assert_eq!((ran.frames, ran.reason(), ran.took), (2, Some(Reason::DeadlineExceeded), SECOND));
    assert_eq!(Failure::of(&ran.error.unwrap()), Failure::Deadline);

    let ran = run(layer, "text/plain", Slow::of([(400, "a"), (500, "b")])).await;
    assert!(ran.error.is_none() && ran.frames == 2);
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_body_may_be_bounded_in_its_silence() {
    let layer = TimeoutLayer::new(20 * SECOND).body_idle(SECOND).per_attempt();
    let ran = run(layer, "text/plain", Slow::of([(900, "a"), (900, "b"), (1_100, "c")])).await;
    assert_eq!((ran.frames, ran.reason()), (2, Some(Reason::UpstreamTimeout)));
    assert_eq!(ran.took, Duration::from_millis(2_800));

    let ran = run(layer, "text/plain", Slow::of([(900, "a"), (900, "b"), (900, "c")])).await;
    assert!(ran.error.is_none() && ran.frames == 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_always_has_more_is_cut() {
    struct Endless;
    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    for (content_type, seconds) in [("text/plain", 1), ("application/grpc", 1), ("text/event-stream", 3)] {
        let layer = TimeoutLayer::new(SECOND).stream_idle(SECOND).stream_max_age(3 * SECOND);
        let inner =
            service_fn(|_: Request<()>| async { Ok::<_, Infallible>(response(content_type, Endless)) });
        let mut body = pin!(layer.layer(inner).oneshot(request(content_type)).await.unwrap().into_body());
        for _ in 0..=seconds {
            assert!(body.frame().await.unwrap().unwrap().is_data(), "{content_type}");
            advance(SECOND).await;
        }
        match body.frame().await.unwrap() {
            Ok(frame) => assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "4"),
            Err(error) => {
                assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::DeadlineExceeded);
            }
        }
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_ends_with_trailers() {
    let layer = TimeoutLayer::new(SECOND);
    let ran = run(layer, "application/grpc", Slow::of([(400, "a"), (900, "b")]).with_trailers(0)).await;
    assert_eq!((ran.frames, ran.took), (1, SECOND));
    assert_eq!(ran.trailers.unwrap()["grpc-status"], "4");
    assert!(ran.error.is_none());

    let ran = run(layer, "application/grpc", Slow::of([(400, "a")]).with_trailers(100)).await;
    assert_eq!(ran.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_by_idleness_and_age() {
    let layer = TimeoutLayer::new(SECOND).stream_idle(2 * SECOND).stream_max_age(10 * SECOND);
    let events = "text/event-stream; charset=utf-8";
    let ran = run(layer, events, Slow::of([(1500, "a"), (1900, "b"), (1999, "c"), (2001, "d")])).await;
    assert_eq!((ran.frames, ran.reason()), (3, Some(Reason::DeadlineExceeded)));
    assert_eq!(ran.took, Duration::from_millis(1500 + 1900 + 1999 + 2000));

    let ran = run(layer, events, Slow::of([(1500, "a"); 20])).await;
    assert_eq!((ran.frames, ran.took), (6, 10 * SECOND));

    let grpc = || Slow::of([(1500, "a"); 3]).with_trailers(1500);
    assert_eq!(run(layer, "application/grpc", grpc()).await.trailers.unwrap()["grpc-status"], "4");
    let ran = run(layer.grpc_streams(true), "application/grpc", grpc()).await;
    assert_eq!(ran.trailers.unwrap()["grpc-status"], "0");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_reader_takes_is_not_idle() {
    let layer = TimeoutLayer::new(SECOND).stream_idle(SECOND);
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(response("text/event-stream", Slow::of([(0, "a"), (900, "b")])))
    });
    let mut body = pin!(layer.layer(inner).oneshot(request("a/b")).await.unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok());
    advance(5 * SECOND).await;
    assert!(body.frame().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_left_to_whoever_runs_it() {
    for asks in [
        Request::get("/").header("upgrade", "websocket").body(()).unwrap(),
        Request::connect("example.com:443").body(()).unwrap(),
    ] {
        let layer = TimeoutLayer::new(SECOND).stream_idle(2 * SECOND).stream_max_age(10 * SECOND);
        let (tell, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let inner = service_fn(move |request: Request<()>| {
            let status = if request.method() == http::Method::CONNECT { 200 } else { 101 };
            tell.send(*request.extensions().get::<TunnelLimits>().unwrap()).unwrap();
            async move {
                let mut response = Response::new(Slow::of([(60_000, "late")]));
                *response.status_mut() = status.try_into().unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        let now = Instant::now();
        let response = layer.layer(inner).oneshot(asks).await.unwrap();
        let limits = hear.recv().await.unwrap();
        assert_eq!((limits.idle, limits.until), (2 * SECOND, now + 10 * SECOND));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "late");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_dropped_at_once() {
    let alive = Arc::new(());
    let held = alive.clone();
    let inner = service_fn(move |_: Request<()>| {
        let held = held.clone();
        async move {
            sleep(60 * SECOND).await;
            drop(held);
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let mut service = TimeoutLayer::new(SECOND).layer(inner);
    let mut call = pin!(service.call(request("a/b")));
    assert_eq!(Arc::strong_count(&alive), 3);
    assert_eq!(call.as_mut().await.unwrap().status(), 504);
    assert_eq!(Arc::strong_count(&alive), 2, "the future is not dropped yet, but what it called is");

    let body = Slow::of([(0, "a"), (60_000, "b")]);
    let alive = body.alive.clone();
    let body = std::sync::Mutex::new(Some(body));
    let inner = service_fn(|_: Request<()>| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let mut body =
        pin!(TimeoutLayer::new(SECOND).layer(inner).oneshot(request("a/b")).await.unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok() && body.frame().await.unwrap().is_err());
    assert_eq!(Arc::strong_count(&alive), 1);
    assert!(body.frame().await.is_none());
    assert_eq!(body.size_hint().exact(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn errors_and_bodies_are_untouched() {
    let broken = service_fn(|_: Request<()>| async { Err::<Response<Body>, _>("broken") });
    assert_eq!(TimeoutLayer::default().layer(broken).oneshot(request("a/b")).await.unwrap_err(), "broken");

    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Slow::of([(0, "hello"), (0, "world")]).with_trailers(0)))
    });
    let body = TimeoutLayer::default().layer(inner).oneshot(request("a/b")).await.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(10));
    let body = body.collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "helloworld");

    let empty = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let response = TimeoutLayer::default().layer(empty).oneshot(request("a/b")).await.unwrap();
    assert!(response.body().is_end_stream());
}

/// What a timer of ours must do, said slowly: walk through the frames and see what comes first.
fn expected(frames: &[u64], total: u64, stream: Option<(u64, u64)>) -> (usize, u64, bool) {
    let mut now = 0;
    for (count, wait) in frames.iter().enumerate() {
        let cut = match stream {
            Some((idle, age)) => age.min(now + idle),
            None => total,
        };
        if now + wait > cut {
            return (count, cut, true);
        }
        now += wait;
    }
    (frames.len(), now, false)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn bodies_are_cut_when_they_should(
        frames in prop::collection::vec(1_u64..400, 1..12),
        total in 1_u64..2000,
        stream in prop::option::of((1_u64..500, 1_u64..3000)),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (idle, age) = stream.unwrap_or((1, 1));
        let layer = TimeoutLayer::new(Duration::from_millis(total))
            .stream_idle(Duration::from_millis(idle))
            .stream_max_age(Duration::from_millis(age));
        let content_type = if stream.is_some() { "text/event-stream" } else { "text/plain" };
        let body = Slow::of(frames.iter().map(|&wait| (wait, "x")));
        let ran = runtime.block_on(run(layer, content_type, body));
        let (count, took, cut) = expected(&frames, total, stream);
        prop_assert_eq!((ran.frames, ran.error.is_some()), (count, cut));
        prop_assert_eq!(ran.took.as_millis() as u64, took);
    }
}
