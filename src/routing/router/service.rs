//! A router as a service, and as a layer.

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

use super::Router;
use crate::{
    body::ResponseBody,
    head::Head,
    key::RouteName,
    ready::ReadyCall,
    reject::{Reason, Style},
    trail::Trail,
};

/// Hands each request to the service of its rule, or answers 404. Always ready: it waits for the chosen
/// service, and for no other, inside the call. See the [module docs](super).
///
/// The services are shared by all clones, and one is cloned for each request; so they must be `Sync`.
pub struct RouterService<S>(Arc<Router<S>>);

impl<S> RouterService<S> {
    /// A service over the services of `router`.
    #[must_use]
    pub fn new(router: Router<S>) -> Self {
        Self(Arc::new(router))
    }
}

impl<S> Clone for RouterService<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for RouterService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterService").field(&self.0).finish()
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for RouterService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone,
    ResB: HttpBody<Data = Bytes>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = RouterFuture<S, Request<ReqB>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let mut head = Head::of(&mut request);
        let Some(matched) = self.0.find(&head) else {
            let response = Style::of(&head).render(Reason::NoRoute.into());
            return RouterFuture { state: State::Answer { response: Some(Box::new(response)) } };
        };
        let name = RouteName(matched.shared_name());
        if let Some(trail) = head.extensions().get::<Trail>() {
            trail.set_route(name.clone());
        }
        head.extensions_mut().insert(name);
        RouterFuture { state: State::Call { call: ReadyCall::new(matched.value().clone(), request) } }
    }
}

pin_project! {
    /// The future of a [`RouterService`].
    pub struct RouterFuture<S: Service<R>, R> {
        #[pin]
        state: State<S, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S: Service<R>, R> {
        Call { #[pin] call: ReadyCall<S, R> },
        Answer { response: Option<Box<Response<Bytes>>> },
    }
}

impl<S, R, ResB> Future for RouterFuture<S, R>
where
    S: Service<R, Response = Response<ResB>>,
    ResB: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Call { call } => {
                call.poll(cx).map_ok(|response| response.map(ResponseBody::inner))
            }
            StateProjection::Answer { response } => {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                let response = response.take().expect("polled after completion");
                Poll::Ready(Ok(response.map(ResponseBody::full)))
            }
        }
    }
}

impl<S: Service<R>, R> fmt::Debug for RouterFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterFuture").finish_non_exhaustive()
    }
}

/// Wraps a service in the layer of each rule; requests that no rule is for are answered 404.
///
/// What the layers of the rules own is shared by every service made from this layer.
pub struct RouterLayer<L>(Arc<Router<L>>);

impl<L> RouterLayer<L> {
    /// A layer over the layers of `router`.
    #[must_use]
    pub fn new(router: Router<L>) -> Self {
        Self(Arc::new(router))
    }
}

impl<L> Clone for RouterLayer<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L> fmt::Debug for RouterLayer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RouterLayer").field(&self.0).finish()
    }
}

impl<S: Clone, L: Layer<S>> Layer<S> for RouterLayer<L> {
    type Service = RouterService<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        RouterService::new(self.0.map(|layer| layer.layer(inner.clone())))
    }
}
