//! From a rule's policies to its upstreams.
use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use tower::util::Either;
use tower_service::Service;

use crate::{
    attempt::Variant,
    body::Body,
    gate::{Gate, GateLayer, Gated, Gates},
    head::Head,
    reject::{Answer, Reason, Rejection, Rescue},
    resilience::timeout::Timeout,
    routing::split::SplitService,
    trail::Trail,
    upstream::Proxy,
};

/// One upstream of a rule.
pub(super) type Backend = Gated<Timeout<Proxy>, Mark>;
/// All of them, or none.
pub(super) type Backends = Either<SplitService<Backend>, Nowhere>;
/// What a rule does with its requests. What fails inside becomes an answer before any gate sees it.
pub(super) type RuleService = Gated<Rescue<Timeout<Backends>>, Gates>;

type Answered = <Backend as Service<Request<Body>>>::Response;

/// Tells the watchers outside which of several upstreams was chosen.
#[derive(Debug)]
pub(super) struct Mark(Variant);

impl Mark {
    pub(super) fn layer(name: &Arc<str>, of_several: bool) -> GateLayer<Self> {
        match of_several {
            true => GateLayer::new(Self(Variant::new(Arc::clone(name)))),
            false => GateLayer::disabled(),
        }
    }
}

impl Gate for Mark {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if let Some(trail) = head.extensions().get::<Trail>() {
            trail.set_variant(self.0.clone());
        }
        Ok(())
    }
}

/// The upstream of a rule that has none, because its gates answer everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nowhere;

impl Service<Request<Body>> for Nowhere {
    type Response = Answered;
    type Error = Rejection;
    type Future = Ready<Result<Answered, Rejection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Err(Rejection::new(Reason::NoEndpoint).detail("the rule has no upstream")))
    }
}
