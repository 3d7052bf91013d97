use std::{
    fmt,
    pin::Pin,
    task::{Poll, ready},
};

use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Context;

type Cx<'a, 'b> = &'a mut std::task::Context<'b>;

/// Opens a [`Context`] around a handler. See the [module docs](crate::context).
#[derive(Debug, Clone, Copy, Default)]
pub struct ContextLayer(());

impl ContextLayer {
    /// A layer that opens a scope.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for ContextLayer {
    type Service = Contextual<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Contextual { inner }
    }
}

/// The service of a [`ContextLayer`].
#[derive(Debug, Clone)]
pub struct Contextual<S> {
    inner: S,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Contextual<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<ContextBody<ResB>>;
    type Error = S::Error;
    type Future = ContextFuture<S::Future>;

    fn poll_ready(&mut self, cx: Cx<'_, '_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let context = Context::of_request(&request);
        request.extensions_mut().insert(context.clone());
        let future = context.enter(|| self.inner.call(request));
        ContextFuture { future, context }
    }
}

pin_project! {
    /// The future of a [`Contextual`] service.
    pub struct ContextFuture<F> {
        #[pin]
        future: F,
        context: Context,
    }
}

impl<F, ResB, E> Future for ContextFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = Result<Response<ContextBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: Cx<'_, '_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.context.enter(|| this.future.poll(cx)))?;
        let context = this.context.clone();
        Poll::Ready(Ok(response.map(|body| ContextBody { body, context })))
    }
}

impl<F> fmt::Debug for ContextFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFuture").field("context", &self.context).finish_non_exhaustive()
    }
}

pin_project! {
    /// A body that is polled in its request's [`Context`].
    #[derive(Debug)]
    pub struct ContextBody<B> {
        #[pin]
        body: B,
        context: Context,
    }
}

impl<B: HttpBody> HttpBody for ContextBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: Cx<'_, '_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.context.enter(|| this.body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
