//! The rules that requests of a listener go by.
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{backend::RuleService, served::Served};
use crate::{
    body::{Body, ResponseBody},
    gate::{AsyncGateLayer, AsyncGates},
    routing::router::RouterService,
};

/// The rules, and the limits in front of them if one of those has requests wait.
#[derive(Debug, Clone)]
pub(super) enum Routes {
    Bare(Rules),
    Behind(Served<Infallible>),
}

type Rules = RouterService<RuleService>;

impl Routes {
    pub(super) fn behind(gates: AsyncGates, rules: Rules) -> Self {
        if gates.is_empty() {
            return Self::Bare(rules);
        }
        Self::Behind(Served::new(AsyncGateLayer::new(gates).layer(rules)))
    }
}

impl Service<Request<Body>> for Routes {
    type Response = <Rules as Service<Request<Body>>>::Response;
    type Error = Infallible;
    type Future = RoutesFuture;

    /// Always ready: what waits, waits inside of the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> RoutesFuture {
        match self {
            Self::Bare(rules) => RoutesFuture::Bare { future: rules.call(request) },
            Self::Behind(behind) => RoutesFuture::Behind { future: behind.call(request) },
        }
    }
}

pin_project! {
    #[project = RoutesProjection]
    pub(super) enum RoutesFuture {
        Bare { #[pin] future: <Rules as Service<Request<Body>>>::Future },
        Behind { #[pin] future: <Served<Infallible> as Service<Request<Body>>>::Future },
    }
}

impl Future for RoutesFuture {
    type Output = Result<<Routes as Service<Request<Body>>>::Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            RoutesProjection::Bare { future } => future.poll(cx),
            RoutesProjection::Behind { future } => {
                let inner = |body| ResponseBody::inner(ResponseBody::inner(body));
                future.poll(cx).map_ok(|response: Response<Body>| response.map(inner))
            }
        }
    }
}
