//! A split as a service, and as a layer.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Policy, Split};
use crate::{attempt, head::Head, ready::ReadyCall, trail::Trail};

/// Hands each request to one of several services. Always ready: it waits for the chosen service, and for no
/// other, inside the call. See the [module docs](super).
///
/// The services are shared by all clones, and one is cloned for each request; so they must be `Sync`.
pub struct SplitService<S>(Arc<Shared<S>>);

struct Shared<S> {
    split: Split<S>,
    policy: Policy,
}

impl<S> SplitService<S> {
    /// A service over the services of `split`.
    #[must_use]
    pub fn new(split: Split<S>, policy: Policy) -> Self {
        Self(Arc::new(Shared { split, policy }))
    }
}

impl<S> Clone for SplitService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for SplitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { split, policy } = &*self.0;
        f.debug_struct("SplitService").field("split", split).field("policy", policy).finish()
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for SplitService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = SplitFuture<S, Request<ReqB>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let Shared { split, policy } = &*self.0;
        let variant = policy.choose(split, &mut Head::of(&mut request));
        let told = policy.told(variant);
        // The policy has told it to the trail, if there is one.
        let label = match request.extensions().get::<Trail>() {
            Some(_) => None,
            None => split.label(variant),
        };
        SplitFuture { call: ReadyCall::new(variant.value().clone(), request), told, label }
    }
}

pin_project! {
    /// The future of a [`SplitService`].
    pub struct SplitFuture<S: Service<R>, R> {
        #[pin]
        call: ReadyCall<S, R>,
        told: Option<(HeaderName, HeaderValue)>,
        label: Option<attempt::Variant>,
    }
}

impl<S, R, ResB> Future for SplitFuture<S, R>
where
    S: Service<R, Response = Response<ResB>>,
{
    type Output = Result<Response<ResB>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.call.poll(cx))?;
        if let Some((header, value)) = this.told.take() {
            response.headers_mut().insert(header, value);
        }
        if let Some(label) = this.label.take() {
            response.extensions_mut().insert(label);
        }
        Poll::Ready(Ok(response))
    }
}

impl<S: Service<R>, R> fmt::Debug for SplitFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitFuture").field("call", &self.call).finish_non_exhaustive()
    }
}

/// Wraps a service in one of several layers for each request: the versions are ways to the same service.
///
/// What the layers own is shared by every service made from this layer.
pub struct SplitLayer<L>(Arc<Shared<L>>);

impl<L> SplitLayer<L> {
    /// A layer over the layers of `split`.
    #[must_use]
    pub fn new(split: Split<L>, policy: Policy) -> Self {
        Self(Arc::new(Shared { split, policy }))
    }
}

impl<L> Clone for SplitLayer<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L> fmt::Debug for SplitLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { split, policy } = &*self.0;
        f.debug_struct("SplitLayer").field("split", split).field("policy", policy).finish()
    }
}

impl<S: Clone, L: Layer<S>> Layer<S> for SplitLayer<L> {
    type Service = SplitService<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        let split = self.0.split.map(|layer| layer.layer(inner.clone()));
        SplitService::new(split, self.0.policy.clone())
    }
}
