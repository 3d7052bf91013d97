use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Rejection;
use crate::body::BoxError;

/// Turns refusals into errors, for client stacks: a response in which a [`Rejection`] of this process rides becomes
/// `Err(BoxError)`, and the rejection is found in it by [`Rejection::find`].
///
/// The inverse of [`RescueLayer`](super::RescueLayer). Answers that a remote peer gave stay answers.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use portcullis::reject::{Protocol, RaiseLayer, Reason, Rejection};
/// use tower::{Layer, Service, ServiceExt};
///
/// # tokio_test::block_on(async {
/// let limited = tower::service_fn(|_: Request<()>| async {
///     Ok::<_, std::convert::Infallible>(Rejection::new(Reason::RateLimited).into_response(Protocol::Http))
/// });
/// let error = RaiseLayer::new().layer(limited).oneshot(Request::new(())).await.unwrap_err();
/// assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::RateLimited);
/// # });
/// ```
///
/// # Answers
///
/// None: what it has to say is an error.
///
/// # Position
///
/// Outermost in a client stack, whose callers expect that a call which was refused here has failed. Whatever looks at
/// answers (retries, breakers, metrics) stands inside, where a refusal is still an answer with its reason.
///
/// # Shared state
///
/// None.
///
/// # Compared with tower
///
/// tower's own limits fail with errors of their own types, so each has to be known to be told apart.
///
/// # Metrics
///
/// None of its own: refusals are counted where they are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct RaiseLayer(());

impl RaiseLayer {
    /// A layer that raises.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for RaiseLayer {
    type Service = Raise<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Raise { inner }
    }
}

/// The service of a [`RaiseLayer`].
#[derive(Debug, Clone)]
pub struct Raise<S> {
    inner: S,
}

impl<S, Req, ResB> Service<Req> for Raise<S>
where
    S: Service<Req, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = RaiseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        RaiseFuture { future: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of a [`Raise`].
    pub struct RaiseFuture<F> { #[pin] future: F }
}

impl<F, ResB, E> Future for RaiseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<ResB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().future.poll(cx)).map_err(Into::into)?;
        Poll::Ready(match response.extensions().get::<Rejection>() {
            Some(rejection) => Err(rejection.clone().into()),
            None => Ok(response),
        })
    }
}

impl<F> fmt::Debug for RaiseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaiseFuture").finish_non_exhaustive()
    }
}
