//! From a rule's policies to its upstreams.
use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::Request;
use tower::util::Either;
use tower_service::Service;

use crate::{
    body::{Body, Tapped},
    gate::{AsyncGated, AsyncGates},
    reject::{Reason, Rejection, Rescue},
    resilience::timeout::Timeout,
    routing::split::SplitService,
    upstream::Proxy,
};

/// One upstream of a rule.
pub(super) type Backend = Timeout<Proxy>;
/// All of them, or none.
pub(super) type Backends = Either<SplitService<Backend>, Nowhere>;
/// What a rule does with its requests. What fails inside becomes an answer before any gate sees it.
pub(super) type RuleService = Tapped<AsyncGated<Rescue<Timeout<Backends>>, AsyncGates>>;

type Answered = <Backend as Service<Request<Body>>>::Response;

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
