//! What stands directly in front of an upstream.
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Request;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::backend::Told;
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    body::{Body, ResponseBody},
    gate::{AsyncGateLayer, AsyncGated, AsyncGates},
    outcome::Completion,
    resilience::breaker::BreakerLayer,
    stack::guards::guarded,
};

/// What spares an upstream, shared by all rules that it serves.
#[derive(Debug, Clone, Default)]
pub(super) struct Guards {
    pub(super) breaker: Option<BreakerLayer>,
    pub(super) concurrency: Vec<Concurrency>,
    pub(super) success_rate: Option<SuccessRate>,
}

impl Guards {
    /// The upstream behind them.
    pub(super) fn before(&self, sender: Told) -> Guarded {
        // Outermost: who is refused waits for no place, and a refusal of a limit is no failure to it.
        let gates = broken(AsyncGates::new(), self.breaker.as_ref());
        let gates = guarded(gates, &self.concurrency, self.success_rate.as_ref());
        if gates.is_empty() {
            return Guarded::Bare(sender);
        }
        Guarded::Behind(AsyncGateLayer::new(gates).layer(sender))
    }
}

/// A breaker inside of these gates, if there is one.
pub(super) fn broken(outside: AsyncGates, breaker: Option<&BreakerLayer>) -> AsyncGates {
    let circuit = breaker.and_then(BreakerLayer::gate);
    circuit.into_iter().cloned().fold(outside, |gates, circuit| gates.with_shared(circuit))
}

type Behind = AsyncGated<Told, AsyncGates>;

/// An upstream, and the limits in front of it if there are any.
#[derive(Debug, Clone)]
pub(in crate::stack) enum Guarded {
    Bare(Told),
    Behind(Behind),
}

impl Service<Request<Body>> for Guarded {
    type Response = <Behind as Service<Request<Body>>>::Response;
    type Error = <Behind as Service<Request<Body>>>::Error;
    type Future = GuardedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Bare(sender) => Service::<Request<Body>>::poll_ready(sender, cx),
            Self::Behind(behind) => Service::<Request<Body>>::poll_ready(behind, cx),
        }
    }

    fn call(&mut self, request: Request<Body>) -> GuardedFuture {
        match self {
            Self::Bare(sender) => GuardedFuture::Bare { future: sender.call(request) },
            Self::Behind(behind) => GuardedFuture::Behind { future: behind.call(request) },
        }
    }
}

pin_project! {
    #[project = GuardedProjection]
    pub(in crate::stack) enum GuardedFuture {
        Bare { #[pin] future: <Told as Service<Request<Body>>>::Future },
        Behind { #[pin] future: <Behind as Service<Request<Body>>>::Future },
    }
}

impl Future for GuardedFuture {
    type Output =
        Result<<Guarded as Service<Request<Body>>>::Response, <Guarded as Service<Request<Body>>>::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            GuardedProjection::Bare { future } => {
                let response = ready!(future.poll(cx));
                let unwatched = |body| ResponseBody::watched(body, Completion::spent());
                Poll::Ready(response.map(|response| response.map(unwatched)))
            }
            GuardedProjection::Behind { future } => future.poll(cx),
        }
    }
}
