use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{BreakerHandle, Judged, Policy, circuit::Circuit};
use crate::{
    body::ResponseBody,
    gate::{GateLayer, Gated, GatedFuture},
    ready::ReadyCall,
};

/// Does not ask a server that has been failing. See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct BreakerLayer(GateLayer<Circuit>);

impl BreakerLayer {
    /// A breaker. Clones of the layer, and all services that they make, are one.
    pub fn new(policy: impl Into<Policy>) -> Self {
        Self(GateLayer::new(Circuit::new(policy.into())))
    }

    /// A layer of the same type that lets everything pass.
    pub const fn disabled() -> Self {
        Self(GateLayer::disabled())
    }

    /// Looks at it, and steers it. `None` if it is disabled.
    #[must_use]
    pub fn handle(&self) -> Option<BreakerHandle> {
        self.0.gate().map(|circuit| BreakerHandle(Arc::clone(circuit)))
    }

    /// The breaker, for slices of gates.
    #[cfg(feature = "stack")]
    pub(crate) fn gate(&self) -> Option<&Arc<Circuit>> {
        self.0.gate()
    }
}

impl Default for BreakerLayer {
    /// By the [default](Policy::default) policy.
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = Breaker<S>;

    fn layer(&self, inner: S) -> Breaker<S> {
        let waits = self.0.gate().is_some();
        Breaker(self.0.layer(Late { inner, waits }))
    }
}

impl fmt::Debug for BreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerLayer").field("handle", &self.handle()).finish()
    }
}

/// The service of a [`BreakerLayer`]. Always ready, unless it is disabled: it waits for the inner service inside of the
/// call.
#[derive(Clone)]
pub struct Breaker<S>(Gated<Late<S>, Circuit>);

impl<S, B, ResB> Service<Request<B>> for Breaker<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    S::Error: 'static,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<ResponseBody<ResB, Judged>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        ResponseFuture { call: self.0.call(request) }
    }
}

impl<S> fmt::Debug for Breaker<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").finish_non_exhaustive()
    }
}

/// A service that is waited for inside of the call.
#[derive(Clone)]
struct Late<S> {
    inner: S,
    waits: bool,
}

impl<S: Service<Request<B>> + Clone, B> Service<Request<B>> for Late<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = ReadyCall<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.waits { Poll::Ready(Ok(())) } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.waits {
            true => ReadyCall::new(self.inner.clone(), request),
            false => ReadyCall::calling(self.inner.call(request)),
        }
    }
}

pin_project! {
    /// The future of a [`Breaker`]. Dropping it gives a probe back.
    pub struct ResponseFuture<S: Service<Request<B>>, B> {
        #[pin]
        call: GatedFuture<ReadyCall<S, Request<B>>, Judged>,
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: 'static,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Output = Result<Response<ResponseBody<ResB, Judged>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
