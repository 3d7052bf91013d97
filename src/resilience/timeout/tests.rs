use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Instant, Sleep, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::TimeoutLayer;
use crate::{
    body::{Body, BoxError},
    context::Deadline,
    outcome::Failure,
    reject::{Reason, Rejection},
    tunnel::TunnelLimits,
    upload::Upload,
};

const SECOND: Duration = Duration::from_secs(1);

/// A body that gives its frames after as many milliseconds each.
struct Slow {
    frames: VecDeque<(u64, Frame<Bytes>)>,
    wait: Option<Pin<Box<Sleep>>>,
    alive: Arc<()>,
}

impl Slow {
    fn of(frames: impl IntoIterator<Item = (u64, &'static str)>) -> Self {
        let frames = frames.into_iter().map(|(wait, text)| (wait, Frame::data(Bytes::from(text)))).collect();
        Self { frames, wait: None, alive: Arc::default() }
    }

    fn with_trailers(mut self, wait: u64) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", 0.into());
        self.frames.push_back((wait, Frame::trailers(trailers)));
        self
    }
}

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(&(wait, _)) = self.frames.front() else { return Poll::Ready(None) };
        let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(wait))));
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(self.frames.pop_front().map(|(_, frame)| Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes =
            self.frames.iter().filter_map(|(_, frame)| frame.data_ref()).map(Bytes::len).sum::<usize>();
        SizeHint::with_exact(bytes as u64)
    }
}

fn request(content_type: &'static str) -> Request<()> {
    Request::get("/").header(header::CONTENT_TYPE, content_type).body(()).unwrap()
}

fn response<B>(content_type: &'static str, body: B) -> Response<B> {
    Response::builder().header(header::CONTENT_TYPE, content_type).body(body).unwrap()
}

/// Takes a minute for the head.
async fn slow_head(_: Request<()>) -> Result<Response<Body>, Infallible> {
    sleep(60 * SECOND).await;
    Ok(Response::new(Body::empty()))
}

async fn reason_of(layer: TimeoutLayer, request: Request<()>) -> (Option<Reason>, Duration) {
    let start = Instant::now();
    let response = layer.layer(service_fn(slow_head)).oneshot(request).await.unwrap();
    (response.extensions().get::<Rejection>().map(Rejection::reason), start.elapsed())
}

/// Lets a body run through the layer.
async fn run(layer: TimeoutLayer, content_type: &'static str, body: Slow) -> Ran {
    let body = std::sync::Mutex::new(Some(body));
    let inner = service_fn(|_: Request<()>| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok::<_, Infallible>(response(content_type, body)) }
    });
    let start = Instant::now();
    let mut body = pin!(layer.layer(inner).oneshot(request(content_type)).await.unwrap().into_body());
    let mut ran = Ran::default();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) if frame.is_trailers() => ran.trailers = frame.into_trailers().ok(),
            Ok(_) => ran.frames += 1,
            Err(error) => ran.error = Some(error),
        }
    }
    assert!(ran.error.is_none() || body.is_end_stream());
    ran.took = start.elapsed();
    ran
}

#[derive(Default)]
struct Ran {
    frames: usize,
    trailers: Option<HeaderMap>,
    error: Option<BoxError>,
    took: Duration,
}

impl Ran {
    fn reason(&self) -> Option<Reason> {
        self.error.as_ref().and_then(|error| Rejection::find(&**error)).map(Rejection::reason)
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_answered() {
    let layer = TimeoutLayer::default();
    let answer = layer.layer(service_fn(slow_head)).oneshot(request("text/plain")).await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{") && !body.is_empty());

    let answer = layer.layer(service_fn(slow_head)).oneshot(request("application/grpc")).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"4".parse().unwrap()));
    assert!(answer.body().is_end_stream());
}

#[tokio::test(start_paused = true)]
async fn whose_time_it_was() {
    let total = TimeoutLayer::new(2 * SECOND);
    assert_eq!(reason_of(total, request("a/b")).await, (Some(Reason::DeadlineExceeded), 2 * SECOND));
    let attempt = total.per_attempt();
    assert_eq!(reason_of(attempt, request("a/b")).await, (Some(Reason::UpstreamTimeout), 2 * SECOND));

    let with = |deadline| {
        let mut request = request("a/b");
        request.extensions_mut().insert(deadline);
        request
    };
    let in_one = || Deadline::after(Instant::now(), SECOND);
    assert_eq!(reason_of(attempt, with(in_one())).await, (Some(Reason::CallerDeadline), SECOND));
    assert_eq!(reason_of(attempt, with(in_one().imposed())).await, (Some(Reason::DeadlineExceeded), SECOND));
    let late = Deadline::after(Instant::now(), 5 * SECOND);
    assert_eq!(reason_of(total, with(late)).await, (Some(Reason::DeadlineExceeded), 2 * SECOND));

    let gone = with(Deadline::at(Instant::now()));
    assert_eq!(reason_of(total, gone).await, (Some(Reason::CallerDeadline), Duration::ZERO));
    assert_eq!(reason_of(TimeoutLayer::disabled(), request("a/b")).await, (None, 60 * SECOND));
    assert_eq!(reason_of(TimeoutLayer::new(Duration::MAX), request("a/b")).await, (None, 60 * SECOND));
}

/// Who does not send its request in time is told so, and the server is not blamed.
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_is_its_callers_fault() {
    for (awaited, reason) in [(true, Reason::RequestTimeout), (false, Reason::DeadlineExceeded)] {
        for attempt in [false, true] {
            let whole = TimeoutLayer::new(SECOND);
            let layer = if attempt { whole.per_attempt() } else { whole };
            let reason = if attempt && !awaited { Reason::UpstreamTimeout } else { reason };
            for content_type in ["text/plain", "application/grpc"] {
                let upload = Upload::new();
                let mut request = request(content_type);
                request.extensions_mut().insert(upload.clone());
                let response = layer.layer(service_fn(slow_head)).oneshot(request);
                upload.set_awaited(awaited);
                let response = response.await.unwrap();
                let told = response.extensions().get::<Rejection>().map(Rejection::reason);
                assert_eq!(told, Some(reason), "{content_type}");
                let status =
                    if content_type == "text/plain" { reason.status() } else { http::StatusCode::OK };
                assert_eq!(response.status(), status);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_request_and_an_attempt_tell_the_right_one() {
    let service = TimeoutLayer::new(SECOND)
        .tell_deadline(true)
        .layer(TimeoutLayer::new(2 * SECOND).per_attempt().layer(service_fn(slow_head)));
    let answer = service.oneshot(request("a/b")).await.unwrap();
    assert_eq!(answer.extensions().get::<Rejection>().unwrap().reason(), Reason::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn those_inside_know_the_deadline() {
    async fn told(layer: TimeoutLayer, given: Option<u32>, request: Request<()>) -> Option<(Duration, bool)> {
        let (mut request, now) = (request, Instant::now());
        if let Some(seconds) = given {
            request.extensions_mut().insert(Deadline::after(now, seconds * SECOND));
        }
        let (tell, mut hear) = tokio::sync::mpsc::unbounded_channel();
        let inner = service_fn(move |request: Request<()>| {
            tell.send(request.extensions().get::<Deadline>().copied()).unwrap();
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        });
        layer.layer(inner).oneshot(request).await.unwrap();
        hear.recv().await.unwrap().map(|deadline| (deadline.left(now), deadline.is_imposed()))
    }
    let layer = TimeoutLayer::new(5 * SECOND);
    assert_eq!(told(layer, None, request("a/b")).await, None);
    assert_eq!(told(layer, Some(3), request("a/b")).await, Some((3 * SECOND, false)));
    assert_eq!(told(layer, Some(9), request("a/b")).await, Some((5 * SECOND, true)));
    let layer = layer.tell_deadline(true).grpc_streams(true).stream_max_age(60 * SECOND);
    assert_eq!(told(layer, None, request("a/b")).await, Some((5 * SECOND, true)));
    assert_eq!(told(layer, None, request("application/grpc")).await, Some((60 * SECOND, true)));
}

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
async fn a_grpc_stream_begins_within_the_total() {
    let layer = TimeoutLayer::new(2 * SECOND).grpc_streams(true);
    let grpc = "application/grpc";
    assert_eq!(reason_of(layer, request(grpc)).await, (Some(Reason::DeadlineExceeded), 2 * SECOND));
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
async fn what_comes_at_the_last_moment_is_given() {
    let inner = service_fn(|_: Request<()>| async {
        sleep(SECOND).await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let response = TimeoutLayer::new(SECOND).layer(inner).oneshot(request("a/b")).await.unwrap();
    assert_eq!(response.status(), 200);
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

#[tokio::test(start_paused = true)]
async fn readiness_and_its_error_are_the_inner_services() {
    let (mut service, mut handle) =
        tower_test::mock::spawn_layer::<Request<()>, Response<Body>, _>(TimeoutLayer::new(SECOND));
    handle.allow(0);
    tokio_test::assert_pending!(service.poll_ready());
    handle.allow(1);
    tokio_test::assert_ready_ok!(service.poll_ready());
    let call = tokio::spawn(service.call(request("a/b")));
    let (_, respond) = handle.next_request().await.unwrap();
    respond.send_response(Response::new(Body::from("hello")));
    assert_eq!(call.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes(), "hello");
    handle.send_error("gone");
    let error = std::future::poll_fn(|_| service.poll_ready()).await.unwrap_err();
    assert_eq!(error.to_string(), "gone");
}

#[tokio::test]
async fn a_call_that_need_not_wait_allocates_nothing() {
    let mut service = TimeoutLayer::default().layer(service_fn(|_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(Body::from("a"))))
    }));
    let mut with_deadline = request("a/b");
    with_deadline.extensions_mut().insert(Deadline::after(Instant::now(), SECOND));
    for request in [request("a/b"), with_deadline] {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut request, mut response) = (Some(request), None);
        let count = allocation_counter::measure(|| {
            let mut call = pin!(service.call(request.take().unwrap()));
            response = Some(call.as_mut().poll(&mut cx));
        });
        assert_eq!(count.count_total, 0);
        let Some(Poll::Ready(Ok(response))) = response else { panic!("pending") };
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "a");
    }
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
