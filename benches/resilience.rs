//! What a timeout costs over a service that is always ready. Each row includes making the request; the layer's cost
//! is the difference to `bare`.
#![allow(clippy::expect_used, reason = "a bench that may stop")]

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Empty;
use portcullis::resilience::timeout::TimeoutLayer;
use std::{convert::Infallible, future, time::Duration};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _timers = runtime.enter();
    divan::Divan::from_args().sample_size(1000).main();
}

fn handler() -> impl Service<Request<()>, Response = Response<Empty<Bytes>>, Error = Infallible> + Clone {
    service_fn(|_: Request<()>| future::ready(Ok(Response::new(Empty::new()))))
}

fn time<B>(bencher: Bencher<'_, '_>, mut service: impl Service<Request<()>, Response = Response<B>>) {
    bencher.bench_local(|| drop(service.call(divan::black_box(Request::new(()))).now_or_never()));
}

#[divan::bench]
fn bare(bencher: Bencher<'_, '_>) {
    time(bencher, handler());
}

#[divan::bench]
fn timeout(bencher: Bencher<'_, '_>) {
    time(bencher, TimeoutLayer::new(Duration::from_secs(10)).layer(handler()));
}
