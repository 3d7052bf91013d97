use super::SpannedBody;
use crate::{
    context::RequestId,
    telemetry::findings::{Route, name_of},
};
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{
    Level, Span,
    field::{Empty, display},
};

/// Opens a span for each request; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct SpanLayer {
    enabled: bool,
}

impl Default for SpanLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl SpanLayer {
    /// A layer that opens spans.
    #[must_use]
    pub const fn new() -> Self {
        Self { enabled: true }
    }

    /// A layer of the same type that opens none.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { enabled: false }
    }
}

impl<S> Layer<S> for SpanLayer {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned { inner, enabled: self.enabled }
    }
}

/// A service whose requests are served inside of a span.
#[derive(Clone, Copy, Debug)]
pub struct Spanned<S> {
    inner: S,
    enabled: bool,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Spanned<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
{
    type Response = Response<SpannedBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let (span, has_route) = if self.enabled { open(&request) } else { (Span::none(), true) };
        let future = span.in_scope(|| self.inner.call(request));
        ResponseFuture { future, span, has_route }
    }
}

/// The span, and whether its route is known.
fn open<B>(request: &Request<B>) -> (Span, bool) {
    if !tracing::enabled!(target: "portcullis::request", Level::INFO) {
        return (Span::none(), true);
    }
    let route = Route::of(request.extensions());
    let id = request.extensions().get::<RequestId>().map(display);
    let span = tracing::info_span!(
        target: "portcullis::request",
        "request",
        request_id = id,
        method = name_of(request.method()),
        route = Empty,
    );
    tell(&span, route.as_ref());
    (span, route.is_some())
}

fn tell(span: &Span, route: Option<&Route>) {
    if let Some(route) = route {
        span.record("route", route.as_str());
    }
}

pin_project! {
    /// The future of a [`Spanned`] service.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        span: Span,
        has_route: bool,
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = Result<Response<SpannedBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.span.enter();
        let response = ready!(this.future.poll(cx))?;
        drop(entered);
        if !*this.has_route {
            tell(this.span, Route::of(response.extensions()).as_ref());
        }
        let span = std::mem::replace(this.span, Span::none());
        Poll::Ready(Ok(response.map(|body| SpannedBody::new(body, span))))
    }
}
