//! What the mesh client costs over its connections: `cargo bench --features mesh --bench mesh`.
//!
//! `layers` is all that stands around a connection in a `ClientLayer` (request id, deadlines, numbers, timeout, retry, timeout
//! of an attempt), and `versions` the same with a split, as it is in a `Client`, over a service that answers at once. `whole` is that
//! with a closed breaker, the numbers of attempts, and a pick among ten endpoints by the least requests. `loopback`
//! is a `Client` and a bare `Proxy` over a pooled connection: what they differ by is the client's.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{
    convert::Infallible,
    future::ready,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    pin::pin,
    time::Duration,
};

use divan::{Bencher, counter::ItemsCount};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use portcullis::{
    body::Body,
    chance::Chance,
    gate::GateLayer,
    head::Head,
    resilience::{breaker::BreakerLayer, retry::Policy},
    routing::split,
    stack::mesh::{Client, ClientLayer, Destination},
    telemetry::metrics::Metrics,
    upstream::{Balance, Proxy, Upstream},
};
use tower::{Layer, Service, ServiceExt};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const BATCH: u32 = 1000;

fn layer() -> ClientLayer {
    ClientLayer::new()
        .timeout(Duration::from_secs(2))
        .attempt_timeout(Duration::from_secs(1))
        .retry(Policy::default())
        .metrics(&Metrics::new())
}

fn inner()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync
{
    tower::service_fn(|_: Request<Body>| ready(Ok(Response::new(Body::empty()))))
}

fn request() -> Request<Body> {
    let mut request = Request::get("/orders/17").body(Body::empty()).unwrap();
    for name in ["host", "accept", "user-agent", "x-request-id"] {
        request.headers_mut().insert(name, HeaderValue::from_static("some-value"));
    }
    request
}

/// A thousand calls of a service that answers at once.
fn call<S: Service<Request<Body>>>(bencher: Bencher<'_, '_>, mut service: S) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
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
    call(bencher, inner());
}

#[divan::bench]
fn layers(bencher: Bencher<'_, '_>) {
    call(bencher, layer().layer(inner()));
}

#[divan::bench]
fn versions(bencher: Bencher<'_, '_>) {
    let one = split::Split::builder().variant("orders", 1, inner()).build().unwrap();
    call(bencher, layer().layer(one.into_service(split::Policy::random(Chance::seeded(1)))));
}

/// With a breaker and an endpoint that is picked, and in flight until the answer has ended.
#[divan::bench]
fn whole(bencher: Bencher<'_, '_>) {
    let endpoints = (1..=10).map(|n| format!("10.0.0.{n}:9000"));
    let orders =
        Upstream::builder("orders").endpoints(endpoints).balance(Balance::LeastRequest).build().unwrap();
    let picking = tower::service_fn(move |mut request: Request<Body>| {
        orders.pick(&Head::of(&mut request)).unwrap().succeeded();
        ready(Ok::<_, Infallible>(Response::new(Body::empty())))
    });
    let attempts = GateLayer::new(Metrics::new().attempts("orders")).layer(picking);
    let guarded = BreakerLayer::default().layer(attempts);
    let one = split::Split::builder().variant("orders", 1, guarded).build().unwrap();
    call(bencher, layer().layer(one.into_service(split::Policy::random(Chance::seeded(1)))));
}

/// A server on a thread of its own, which answers each piece that it reads.
fn elsewhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            }
        }
    });
    address
}

fn round_trip<S, B>(bencher: Bencher<'_, '_>, service: &S)
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    bencher.counter(ItemsCount::new(1_u32)).with_inputs(request).bench_local_values(|request| {
        runtime.block_on(async {
            let response = service.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        })
    });
}

#[divan::bench]
fn loopback_proxy(bencher: Bencher<'_, '_>) {
    let upstream = Upstream::builder("orders").endpoint(elsewhere().to_string()).build().unwrap();
    round_trip(bencher, &Proxy::new(upstream).direct());
}

#[divan::bench]
fn loopback_client(bencher: Bencher<'_, '_>) {
    let upstream = Upstream::builder("orders").endpoint(elsewhere().to_string()).build().unwrap();
    round_trip(bencher, &Client::new(Destination::new(upstream).policies(layer())).unwrap());
}
