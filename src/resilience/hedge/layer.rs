use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{HedgeBody, HedgeHandle, Policy, ResponseFuture, call::Call, future::Sending};
use crate::{
    body::{Body, BoxError},
    resilience::again::has_attempts,
};

/// Sends a second attempt beside a late one. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct HedgeLayer(Option<Arc<Policy>>);

impl HedgeLayer {
    /// A layer that does as `policy` says. One whose budget allows nothing is warned of in the log.
    pub fn new(policy: Policy) -> Self {
        if policy.hedges == 0 {
            return Self::disabled();
        }
        policy.budget.warn_if_zero("hedge");
        Self(Some(Arc::new(policy)))
    }

    /// A layer of the same type that sends once.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// What it has done. `None` if it is disabled.
    #[must_use]
    pub fn handle(&self) -> Option<HedgeHandle> {
        self.0.as_deref().map(Policy::handle)
    }
}

impl<S> Layer<S> for HedgeLayer {
    type Service = Hedge<S>;

    fn layer(&self, inner: S) -> Hedge<S> {
        Hedge { inner, policy: self.0.clone() }
    }
}

/// The service of a [`HedgeLayer`].
#[derive(Clone)]
pub struct Hedge<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
}

impl<S, B, ResB> Service<Request<B>> for Hedge<S>
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: 'static> + Clone,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes>,
{
    type Response = Response<HedgeBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ResB>;

    /// Always ready, unless it is disabled: each attempt waits for the inner service inside of the call.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.policy.is_some() { Poll::Ready(Ok(())) } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, ResB> {
        let mut request = request.map(Body::new);
        let Some(policy) = &self.policy else {
            return ResponseFuture::alone(Sending::calling(self.inner.call(request)));
        };
        let service = self.inner.clone();
        // What is sent once waits for its service nevertheless.
        if !has_attempts(&request) {
            return ResponseFuture::alone(Sending::new(service, request));
        }
        let (policy, started) = (Arc::clone(policy), Instant::now());
        if !policy.is_for(&request) {
            return ResponseFuture::once(Sending::new(service, request), policy, started);
        }
        let Some(delay) = policy.delay() else {
            return ResponseFuture::learning(Sending::new(service, request), policy, started);
        };
        let call = Call::begin(Arc::clone(&policy), delay, &mut request);
        let first = Sending::new(service.clone(), request);
        ResponseFuture::racing(first, policy, started, call, service)
    }
}

impl<S> fmt::Debug for Hedge<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge").field("policy", &self.policy).finish_non_exhaustive()
    }
}
