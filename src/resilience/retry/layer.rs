use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{Policy, ResponseFuture, RetryBody, RetryHandle, call::Call};
use crate::{
    body::{Body, BoxError},
    resilience::again::has_attempts,
};

/// Tries calls again that failed. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct RetryLayer(Option<Arc<Policy>>);

impl RetryLayer {
    /// A layer that does as `policy` says. One whose budget allows nothing is warned of in the log.
    pub fn new(policy: Policy) -> Self {
        if policy.retries() == 0 {
            return Self::disabled();
        }
        policy.budget.warn_if_zero("retry");
        Self(Some(Arc::new(policy)))
    }

    /// A layer of the same type that tries once.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// What it has done. `None` if it is disabled.
    #[must_use]
    pub fn handle(&self) -> Option<RetryHandle> {
        self.0.as_deref().map(Policy::handle)
    }
}

impl Default for RetryLayer {
    /// By the [default](Policy::default) policy.
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, policy: self.0.clone() }
    }
}

/// The service of a [`RetryLayer`].
#[derive(Clone)]
pub struct Retry<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
}

impl<S, B, ResB> Service<Request<B>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<ResB>> + Clone,
    S::Error: 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<RetryBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S>;

    /// Always ready, unless it is disabled: each attempt waits for the inner service inside of the call.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.policy.is_some() { Poll::Ready(Ok(())) } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S> {
        let mut request = request.map(Body::new);
        let Some(policy) = &self.policy else {
            return ResponseFuture::calling(self.inner.call(request));
        };
        // What cannot be tried again waits for its service nevertheless.
        let call = has_attempts(&request).then(|| Call::begin(policy, &mut request));
        ResponseFuture::readying(self.inner.clone(), request, call)
    }
}

impl<S> fmt::Debug for Retry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("policy", &self.policy).finish_non_exhaustive()
    }
}
