//! What a timeout costs: `cargo bench --features resilience --bench resilience`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{convert::Infallible, future::ready, pin::pin, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use http::{Request, Response};
use portcullis::{body::Body, context::Deadline, resilience::timeout::TimeoutLayer};
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
