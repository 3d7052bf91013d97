//! What a timeout, a retry, a hedge, a fault and a circuit breaker cost where nothing fails: `cargo bench --features resilience --bench resilience`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{
    convert::Infallible,
    future::ready,
    num::{NonZeroU16, NonZeroU32},
    pin::pin,
    time::Duration,
};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use http::{Request, Response};
use portcullis::{
    body::Body,
    context::Deadline,
    key::Key,
    ratio::Ratio,
    resilience::{
        breaker::{self, BreakerLayer},
        fault::{self, Abort, FaultLayer},
        hedge::{self, HedgeLayer},
        retry::RetryLayer,
        timeout::TimeoutLayer,
    },
    trip,
    window::Window,
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

/// A thousand calls by each of the threads, with nothing made or dropped but a call and its response.
fn called<S>(bencher: Bencher<'_, '_>, service: &S)
where
    S: Service<Request<()>, Response: Send, Error = Infallible> + Clone + Send + Sync,
{
    let requests = || (0..BATCH).map(|_| Request::new(())).collect::<Vec<_>>();
    let with_own = || (service.clone(), requests());
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(with_own).bench_values(|(mut service, requests)| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        for request in requests {
            let mut future = pin!(service.call(request));
            assert!(future.as_mut().poll(&mut cx).is_ready());
        }
        service
    });
}

#[divan::bench(threads = [1, 2])]
fn without_breaker(bencher: Bencher<'_, '_>) {
    called(bencher, &inner());
}

/// Shares over time, and failures in a row: what it does unless told. It reads the clock once.
#[divan::bench(threads = [1, 2])]
fn breaker_closed(bencher: Bencher<'_, '_>) {
    called(bencher, &BreakerLayer::default().layer(inner()));
}

/// A share of the last hundred results, as the peer was measured. It reads no clock.
#[divan::bench(threads = [1, 2])]
fn breaker_closed_by_count(bencher: Bencher<'_, '_>) {
    let last = NonZeroU16::new(100).unwrap();
    called(bencher, &BreakerLayer::new(trip::Policy::new().last(last)).layer(inner()));
}

/// Failures in a row only.
#[divan::bench(threads = [1, 2])]
fn breaker_closed_in_a_row(bencher: Bencher<'_, '_>) {
    let policy = trip::Policy::new().ratio(Ratio::NEVER, NonZeroU32::MIN);
    called(bencher, &BreakerLayer::new(policy).layer(inner()));
}

#[divan::bench(threads = [1, 2])]
fn breaker_closed_by_key(bencher: Bencher<'_, '_>) {
    let policy = breaker::Policy::default().by(Key::ClientAddr);
    called(bencher, &BreakerLayer::new(policy).layer(inner()));
}

#[divan::bench(threads = [1, 2])]
fn breaker_disabled(bencher: Bencher<'_, '_>) {
    called(bencher, &BreakerLayer::disabled().layer(inner()));
}

#[divan::bench(threads = [1, 2])]
fn breaker_open(bencher: Bencher<'_, '_>) {
    let layer = BreakerLayer::default();
    layer.handle().unwrap().force_open();
    called(bencher, &layer.layer(inner()));
}

/// A result of a window of ten seconds that holds so many of them, failures whose sums are asked for.
#[divan::bench(args = [100, 100_000])]
fn breaker_window(bencher: Bencher<'_, '_>, results: u32) {
    let window = Window::<3>::by_time(Duration::from_secs(10), NonZeroU16::new(10).unwrap());
    let now = Instant::now();
    (0..results)
        .for_each(|n| window.record(now + Duration::from_secs(10) * n / results, [true, false, false]));
    let now = now + Duration::from_secs(10);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        window.record(now, [false, true, false]);
        window.totals(now)
    });
}

/// Nothing is late.
#[divan::bench(args = [0, 8])]
fn hedge_after_a_time(bencher: Bencher<'_, '_>, fields: usize) {
    let layer = HedgeLayer::new(hedge::Policy::after(Duration::from_secs(1)));
    send(bencher, layer.layer(reading()), Body::empty, fields);
}

/// Nothing is late, and the time is learnt.
#[divan::bench]
fn hedge_at_a_percentile(bencher: Bencher<'_, '_>) {
    let policy = hedge::Policy::at_percentile(Ratio::percent(95)).least_delay(Duration::from_secs(1));
    send(bencher, HedgeLayer::new(policy).layer(reading()), Body::empty, 0);
}

/// One request in a million is hit.
#[divan::bench]
fn fault_that_passes(bencher: Bencher<'_, '_>) {
    let share = Ratio::new(1, 1_000_000).unwrap();
    let policy = fault::Policy::new().abort(Abort::status(http::StatusCode::SERVICE_UNAVAILABLE), share);
    send(bencher, FaultLayer::new(policy).layer(reading()), Body::empty, 0);
}
