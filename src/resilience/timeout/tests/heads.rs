//! Whether a response comes in time, and who is told what.

use std::{
    convert::Infallible,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{SECOND, TimeoutLayer, request};
use crate::{
    attempt::RetryStop,
    body::Body,
    context::Deadline,
    reject::{Reason, Rejection},
    resilience::retry::{Policy, RetryLayer},
    upload::Upload,
};

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

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_is_answered() {
    let (layer, start) = (TimeoutLayer::default(), Instant::now());
    let answer = layer.layer(service_fn(slow_head)).oneshot(request("text/plain")).await.unwrap();
    assert_eq!((answer.status().as_u16(), start.elapsed()), (504, 15 * SECOND));
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{") && !body.is_empty());

    let answer = layer.layer(service_fn(slow_head)).oneshot(request("application/grpc")).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"4".parse().unwrap()));
    assert!(answer.body().is_end_stream());
}

/// Who takes the route's time away has not taken the caller's.
#[tokio::test(start_paused = true)]
async fn without_a_time_of_its_own_it_keeps_that_of_the_caller() {
    let layer = TimeoutLayer::unlimited().tell_deadline(true);
    assert_eq!(reason_of(layer, request("a/b")).await, (None, 60 * SECOND));
    let mut request = request("a/b");
    request.extensions_mut().insert(Deadline::after(Instant::now(), SECOND));
    assert_eq!(reason_of(layer, request).await, (Some(Reason::CallerDeadline), SECOND));
    // A century is nothing to be told.
    let told = layer.layer(service_fn(|request: Request<()>| async move {
        assert!(request.extensions().get::<Deadline>().is_none());
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    told.clone().oneshot(super::request("a/b")).await.unwrap();
    told.oneshot(super::request("application/grpc")).await.unwrap();
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
    // What may last has no end but its caller's, and none is older than the age.
    let events = || {
        let mut request = request("a/b");
        request.headers_mut().insert("accept", "application/json, text/event-stream".parse().unwrap());
        request
    };
    let tunnel = || {
        let mut request = request("a/b");
        request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        request
    };
    let lasting: [fn() -> Request<()>; 3] = [|| request("application/grpc"), events, tunnel];
    for lasting in lasting {
        assert_eq!(told(layer, None, lasting()).await, None);
        assert_eq!(told(layer, Some(9), lasting()).await, Some((9 * SECOND, false)));
        assert_eq!(told(layer, Some(99), lasting()).await, Some((60 * SECOND, true)));
    }
}

/// A retry that could not end before the head has to come is not waited for, though the stream might last for hours.
#[tokio::test(start_paused = true)]
async fn retries_know_when_the_head_of_a_stream_has_to_come() {
    let unavailable = service_fn(|_: Request<Body>| async {
        sleep(7 * SECOND / 10).await;
        let answer = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "14")
            .header("grpc-retry-pushback-ms", "500");
        Ok::<_, crate::body::BoxError>(answer.body(Body::empty()).unwrap())
    });
    let whole = TimeoutLayer::new(SECOND).tell_deadline(true).grpc_streams(true);
    let policy = Policy::new(2).danger_any_method();
    let handle = policy.handle();
    let service = whole.layer(RetryLayer::new(policy).layer(unavailable));
    let start = Instant::now();
    let answer = service.oneshot(request("application/grpc").map(|()| Body::empty())).await.unwrap();
    assert_eq!(
        (&answer.headers()["grpc-status"], start.elapsed()),
        (&"14".parse().unwrap(), 7 * SECOND / 10)
    );
    assert_eq!((handle.retries(), handle.stopped(RetryStop::Deadline)), (0, 1));
}

/// An event stream is not cut inside by what is imposed on its head outside.
#[tokio::test(start_paused = true)]
async fn an_imposed_deadline_does_not_cut_a_stream() {
    let mut frames = Some(super::Slow::of([(800, "a"), (800, "b"), (800, "c")]));
    let inner = service_fn(move |_: Request<()>| {
        let answer = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(Ok::<_, Infallible>(answer.body(frames.take().unwrap()).unwrap()))
    });
    let attempt = TimeoutLayer::new(SECOND).per_attempt();
    let mut service = TimeoutLayer::new(SECOND).tell_deadline(true).layer(attempt.layer(inner));
    let answer = service.call(request("a/b")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abc");
}

#[tokio::test(start_paused = true)]
async fn a_grpc_stream_begins_within_the_total() {
    let layer = TimeoutLayer::new(2 * SECOND).grpc_streams(true);
    let grpc = "application/grpc";
    assert_eq!(reason_of(layer, request(grpc)).await, (Some(Reason::DeadlineExceeded), 2 * SECOND));
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
