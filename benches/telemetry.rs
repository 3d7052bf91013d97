//! What each layer of telemetry costs over a service that is always ready. Each row includes making the request;
//! a layer's cost is the difference to `bare`, or to `bare_with_id` for an id that is taken.

#![allow(clippy::expect_used, reason = "a bench that may stop")]

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use portcullis::{
    context::RequestId,
    gate::{Gate, Pass},
    head::Head,
    identity::{ClientAddr, PeerAddr},
    key::RouteName,
    telemetry::{
        access_log::AccessLog,
        metrics::Metrics,
        request_id::{PropagateRequestId, SetRequestId, Trust},
        span::RequestSpan,
    },
};
use std::{
    convert::Infallible,
    future, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::Divan::from_args().sample_size(1000).main();
}

/// As it comes from a server: some headers, and what the connection and the router told.
fn request() -> Request<()> {
    let mut request = Request::get("/api/v1/items?page=2")
        .header(header::HOST, "shop.example")
        .header(header::USER_AGENT, "bench/1")
        .header(header::ACCEPT, "*/*")
        .body(())
        .expect("valid");
    let peer = PeerAddr::new(SocketAddr::from(([127, 0, 0, 1], 4000)));
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(ClientAddr::from(peer));
    request.extensions_mut().insert(RouteName("items".into()));
    // A fourth, so that the map has room for a fifth: all layers together make it grow once.
    request.extensions_mut().insert(());
    request
}

fn with_id() -> Request<()> {
    let mut request = request();
    // A slice of a shared buffer, as hyper's header values are.
    let value = Bytes::from_owner(*b"4bf92f3577b34da6a3ce929d0e0e4736");
    let value = HeaderValue::from_maybe_shared(value).expect("valid");
    request.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    request
}

fn handler() -> impl Service<Request<()>, Response = Response<Full<Bytes>>, Error = Infallible> + Clone {
    service_fn(|_: Request<()>| {
        let response = Response::builder().header(header::CONTENT_TYPE, "text/plain");
        future::ready(Ok(response.body(Full::new(Bytes::from_static(b"hello"))).expect("valid")))
    })
}

/// Times one call to the end of its body.
fn time<B>(
    bencher: Bencher<'_, '_>,
    input: fn() -> Request<()>,
    mut service: impl Service<Request<()>, Response = Response<B>, Error = Infallible>,
) where
    B: http_body::Body + Unpin,
{
    bencher.bench_local(|| {
        let response = service.call(divan::black_box(input())).now_or_never();
        if let Some(Ok(response)) = response {
            let mut body = response.into_body();
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut cx) {
                drop(divan::black_box(frame));
            }
        }
    });
}

#[divan::bench]
fn bare(bencher: Bencher<'_, '_>) {
    time(bencher, request, handler());
}

#[divan::bench]
fn bare_with_id(bencher: Bencher<'_, '_>) {
    time(bencher, with_id, handler());
}

#[divan::bench]
fn request_id_made(bencher: Bencher<'_, '_>) {
    time(bencher, request, SetRequestId::new().layer().layer(handler()));
}

#[divan::bench]
fn request_id_taken(bencher: Bencher<'_, '_>) {
    time(bencher, with_id, SetRequestId::new().trust(Trust::Always).layer().layer(handler()));
}

/// The gate's own work, without the service around it: take or make, set, tell. It includes removing the id of the
/// round before.
#[divan::bench(args = ["made", "taken"])]
fn request_id_alone(bencher: Bencher<'_, '_>, id: &str) {
    let trust = if id == "taken" { Trust::Always } else { Trust::Never };
    let gate = SetRequestId::new().trust(trust);
    let mut request = with_id();
    let response = Response::builder().header(header::CONTENT_TYPE, "text/plain").body(()).expect("valid");
    let (mut head, ()) = response.into_parts();
    bencher.bench_local(|| {
        request.extensions_mut().remove::<RequestId>();
        if let Ok(mut told) = gate.check(&mut Head::of(divan::black_box(&mut request))) {
            told.on_head(divan::black_box(&mut head));
        }
    });
}

#[divan::bench]
fn request_id_propagated(bencher: Bencher<'_, '_>) {
    time(bencher, request, PropagateRequestId::new().layer().layer(handler()));
}

#[divan::bench]
fn metrics(bencher: Bencher<'_, '_>) {
    time(bencher, request, Metrics::new().layer().layer(handler()));
}

/// 1,000 routes of which each has been used.
#[divan::bench(max_time = 1)]
fn metrics_render(bencher: Bencher<'_, '_>) {
    let metrics = Metrics::new();
    let mut service = metrics.layer().layer(handler());
    for route in 0..1000 {
        let mut request = request();
        request.extensions_mut().insert(RouteName(format!("route-{route}").into()));
        drop(service.call(request).now_or_never());
    }
    bencher.bench_local(|| metrics.render());
}

#[divan::bench]
fn span_unwanted(bencher: Bencher<'_, '_>) {
    time(bencher, request, RequestSpan.layer().layer(handler()));
}

#[divan::bench]
fn span_wanted(bencher: Bencher<'_, '_>) {
    let _guard = subscribe();
    time(bencher, request, RequestSpan.layer().layer(handler()));
}

#[divan::bench]
fn access_log_unwanted(bencher: Bencher<'_, '_>) {
    time(bencher, request, AccessLog::new().layer().layer(handler()));
}

/// Formatted as JSON, into nowhere.
#[divan::bench]
fn access_log_wanted(bencher: Bencher<'_, '_>) {
    let _guard = subscribe();
    time(bencher, request, AccessLog::new().layer().layer(handler()));
}

fn subscribe() -> tracing::subscriber::DefaultGuard {
    tracing::subscriber::set_default(tracing_subscriber::fmt().json().with_writer(io::sink).finish())
}
