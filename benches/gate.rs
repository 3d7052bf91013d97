//! What a gate costs, nested and in a slice, over a service that is always ready.
//!
//! Each row includes making the request. The cost of one gate is the difference between two rows, divided by the
//! gates between them.

#![allow(clippy::expect_used, reason = "a bench that may stop")]

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Empty;
use portcullis::{
    gate::{Gate, GateLayer, Gates},
    head::Head,
    reject::{Answer, Reason, Rejection},
};
use std::{convert::Infallible, future};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::Divan::from_args().sample_size(1000).main();
}

/// Looks at one header and lets pass.
struct Look;

impl Gate for Look {
    type Pass = ();
    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if head.headers().contains_key(header::TE) {
            return Err(Rejection::new(Reason::BadRequest).into());
        }
        Ok(())
    }
}

fn request() -> Request<()> {
    Request::get("/api/v1/items?page=2")
        .header(header::HOST, "shop.example")
        .header(header::USER_AGENT, "bench/1")
        .header(header::ACCEPT, "*/*")
        .body(())
        .expect("valid")
}

fn handler()
-> impl Service<Request<()>, Response = Response<Empty<Bytes>>, Error = Infallible, Future: Send> + Clone {
    service_fn(|_: Request<()>| future::ready(Ok(Response::new(Empty::new()))))
}

/// Times one call, the end of its body included.
fn time<B>(bencher: Bencher<'_, '_>, mut service: impl Service<Request<()>, Response = Response<B>>) {
    bencher.bench_local(|| drop(service.call(divan::black_box(request())).now_or_never()));
}

fn look() -> GateLayer<Look> {
    GateLayer::new(Look)
}

fn slice(gates: usize) -> GateLayer<Gates> {
    GateLayer::new((0..gates).fold(Gates::new(), |gates, _| gates.with(Look)))
}

#[divan::bench]
fn nested_0(bencher: Bencher<'_, '_>) {
    time(bencher, handler());
}

#[divan::bench]
fn nested_1(bencher: Bencher<'_, '_>) {
    time(bencher, look().layer(handler()));
}

#[divan::bench]
fn nested_4(bencher: Bencher<'_, '_>) {
    time(bencher, look().layer(look().layer(look().layer(look().layer(handler())))));
}

#[divan::bench(args = [0, 1, 4, 8])]
fn slice_of(bencher: Bencher<'_, '_>, gates: usize) {
    time(bencher, slice(gates).layer(handler()));
}

#[divan::bench]
fn disabled(bencher: Bencher<'_, '_>) {
    time(bencher, GateLayer::<Look>::disabled().layer(handler()));
}

/// The other way: a refusal, rendered as problem+json.
#[divan::bench]
fn refusal(bencher: Bencher<'_, '_>) {
    let mut service = look().layer(handler());
    bencher.bench_local(|| {
        let mut request = request();
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        drop(service.call(divan::black_box(request)).now_or_never());
    });
}
