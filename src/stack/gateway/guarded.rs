//! What stands directly in front of an upstream.
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Request;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::backend::Sender;
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    body::{Body, ResponseBody},
    gate::{AsyncGateLayer, AsyncGated, AsyncGates},
    outcome::Completion,
    stack::guards::guarded,
};

/// Limits of an upstream, shared by all rules that it serves.
#[derive(Debug, Clone, Default)]
pub(super) struct Guards {
    pub(super) concurrency: Vec<Concurrency>,
    pub(super) success_rate: Option<SuccessRate>,
}

impl Guards {
    /// The upstream behind them.
    pub(super) fn before(&self, sender: Sender) -> Guarded {
        if self.concurrency.is_empty() && self.success_rate.is_none() {
            return Guarded::Bare(sender);
        }
        let gates = guarded(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        Guarded::Behind(AsyncGateLayer::new(gates).layer(sender))
    }
}

type Behind = AsyncGated<Sender, AsyncGates>;

/// An upstream, and the limits in front of it if there are any.
#[derive(Debug, Clone)]
pub(in crate::stack) enum Guarded {
    Bare(Sender),
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
        Bare { #[pin] future: <Sender as Service<Request<Body>>>::Future },
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
