//! What a timeout and a retry cost where nothing fails: `cargo bench --features resilience --bench resilience`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{convert::Infallible, future::ready, pin::pin, time::Duration};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use http::{Request, Response};
use portcullis::{
    body::Body,
    context::Deadline,
    resilience::{retry::RetryLayer, timeout::TimeoutLayer},
};
use tokio::time::Instant;
use tower::{Layer, Service, timeout::TimeoutLayer as TowerTimeoutLayer};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const BATCH: u32 = 1000;

fn inner() -> impl Service<Request<()>, Response = Response<Body>, Error = Infallible, Future: Future> + Clone
{
    tower::service_fn(|_: Request<()>| ready(Ok(Response::new(Body::empty()))))
}

/// A thousand calls of a service that is ready at once.
fn call<S: Service<Request<()>>>(bencher: Bencher<'_, '_>, mut service: S, deadline: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let request = || {
        let mut request = Request::new(());
        if deadline {
            request.extensions_mut().insert(Deadline::after(Instant::now(), Duration::from_secs(1)));
        }
        request
    };
    let requests = || (0..BATCH).map(|_| request()).collect::<Vec<_>>();
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(requests).bench_local_values(|requests| {
        for request in requests {
            let mut future = pin!(service.call(request));
            assert!(future.as_mut().poll(&mut cx).is_ready());
        }
    });
}

#[divan::bench]
fn without(bencher: Bencher<'_, '_>) {
    call(bencher, inner(), false);
}

#[divan::bench]
fn disabled(bencher: Bencher<'_, '_>) {
    call(bencher, TimeoutLayer::disabled().layer(inner()), false);
}

#[divan::bench]
fn whole_request(bencher: Bencher<'_, '_>) {
    call(bencher, TimeoutLayer::default().layer(inner()), false);
}

#[divan::bench]
fn with_a_deadline_to_narrow(bencher: Bencher<'_, '_>) {
    call(bencher, TimeoutLayer::default().layer(inner()), true);
}

#[divan::bench]
fn telling_the_deadline(bencher: Bencher<'_, '_>) {
    call(bencher, TimeoutLayer::default().tell_deadline(true).layer(inner()), false);
}

/// The peer, which does less: it ends at the head and changes the error.
#[divan::bench]
fn tower(bencher: Bencher<'_, '_>) {
    call(bencher, TowerTimeoutLayer::new(Duration::from_secs(15)).layer(inner()), false);
}

/// A thousand calls that nobody has to try again, with this body and so many header fields.
fn send<S>(bencher: Bencher<'_, '_>, mut service: S, body: fn() -> Body, fields: usize)
where
    S: Service<Request<Body>, Error = Infallible>,
{
    const NAMES: [&str; 8] = [
        "host",
        "accept",
        "user-agent",
        "x-request-id",
        "x-user",
        "authorization",
        "cookie",
        "x-forwarded-for",
    ];
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let request = || {
        let mut request = Request::put("/orders/17").body(body()).unwrap();
        for name in &NAMES[..fields] {
            request.headers_mut().insert(*name, http::HeaderValue::from_static("some-value"));
        }
        request
    };
    let requests = || (0..BATCH).map(|_| request()).collect::<Vec<_>>();
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(requests).bench_local_values(|requests| {
        for request in requests {
            let mut future = pin!(service.call(request));
            assert!(future.as_mut().poll(&mut cx).is_ready());
        }
    });
}

/// A service that reads its request's body to the end.
fn reading()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone {
    tower::service_fn(|request: Request<Body>| async move {
        let mut body = request.into_body();
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            divan::black_box_drop(frame);
        }
        Ok(Response::new(Body::empty()))
    })
}

/// A body of 1 KiB that comes from elsewhere.
fn streamed() -> Body {
    static KIBIBYTE: [u8; 1024] = [b'k'; 1024];
    let body = http_body_util::Full::new(Bytes::from_static(&KIBIBYTE));
    Body::new(http_body_util::combinators::BoxBody::new(body))
}

#[divan::bench(args = [0, 8])]
fn without_retry(bencher: Bencher<'_, '_>, fields: usize) {
    send(bencher, reading(), Body::empty, fields);
}

#[divan::bench(args = [0, 8])]
fn retry_nothing_to_retry(bencher: Bencher<'_, '_>, fields: usize) {
    send(bencher, RetryLayer::default().layer(reading()), Body::empty, fields);
}

#[divan::bench]
fn without_retry_1k(bencher: Bencher<'_, '_>) {
    send(bencher, reading(), streamed, 0);
}

#[divan::bench]
fn retry_recorded_1k(bencher: Bencher<'_, '_>) {
    send(bencher, RetryLayer::default().layer(reading()), streamed, 0);
}
