use std::{
    fmt,
    marker::PhantomData,
    task::{Context, Poll},
};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

/// Converts request bodies into those that the inner service takes.
///
/// Layers that change the request's body hand on [`Body`](super::Body). A client such as tonic's `Channel` takes
/// its own; this stands between them.
///
/// # Example
///
/// ```
/// use portcullis::body::{Body, ConvertLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let takes_axum = service_fn(|request: http::Request<axum::body::Body>| async move {
///     axum::body::to_bytes(request.into_body(), 64).await
/// });
/// # #[cfg(feature = "axum")] {
/// let client = ServiceBuilder::new().layer(ConvertLayer::<axum::body::Body>::new()).service(takes_axum);
/// assert_eq!(client.oneshot(http::Request::new(Body::from("hello"))).await.unwrap(), "hello");
/// # }
/// # });
/// ```
///
/// # Answers
///
/// None: it never refuses.
///
/// # Position
///
/// Innermost, around the client that takes a body of its own.
///
/// # Shared state
///
/// None.
///
/// # Compared with tower
///
/// tower's `MapRequest` does the same with a function, and has its type in that of the service.
///
/// # Metrics
///
/// None.
pub struct ConvertLayer<B>(PhantomData<fn() -> B>);

impl<B> ConvertLayer<B> {
    /// A layer for services that take `B`.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B> Default for ConvertLayer<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Clone for ConvertLayer<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for ConvertLayer<B> {}

impl<B> fmt::Debug for ConvertLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConvertLayer")
    }
}

impl<S, B> Layer<S> for ConvertLayer<B> {
    type Service = Convert<S, B>;

    fn layer(&self, inner: S) -> Self::Service {
        Convert { inner, into: PhantomData }
    }
}

/// The service of a [`ConvertLayer`].
pub struct Convert<S, B> {
    inner: S,
    into: PhantomData<fn() -> B>,
}

impl<S: Clone, B> Clone for Convert<S, B> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), into: PhantomData }
    }
}

impl<S: fmt::Debug, B> fmt::Debug for Convert<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Convert").field("inner", &self.inner).finish()
    }
}

impl<S, ReqB, B> Service<Request<ReqB>> for Convert<S, B>
where
    S: Service<Request<B>>,
    B: From<ReqB>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> S::Future {
        self.inner.call(request.map(B::from))
    }
}
