//! Layers under one name: of all that a rule can have, there are those that it has.
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
use tower_service::Service;

use crate::{
    body::{Body, BoxError},
    ready::ReadyCall,
};

/// A service of whatever layers, whose future and whose response's body are in a box each. A layer that does nothing is not there, and
/// what stands around moves pointers: what layers keep of a request is large, and would be moved by each of them.
pub(super) struct Served<E>(Arc<dyn Serve<E>>);

type Serving<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

trait Serve<E>: Send + Sync {
    fn serve(&self, request: Request<Body>) -> Serving<E>;
}

impl<S, B, E> Serve<E> for S
where
    S: Service<Request<Body>, Response = Response<B>, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    E: Send + 'static,
{
    fn serve(&self, request: Request<Body>) -> Serving<E> {
        Box::pin(Answering { call: ReadyCall::new(self.clone(), request) })
    }
}

impl<E: Send + 'static> Served<E> {
    pub(super) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Error = E> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(service))
    }
}

impl<E> Service<Request<Body>> for Served<E> {
    type Response = Response<Body>;
    type Error = E;
    type Future = Serving<E>;

    /// Always ready: what waits, waits inside of the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Serving<E> {
        self.0.serve(request)
    }
}

pin_project! {
    struct Answering<F> { #[pin] call: F }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_ok(|response| response.map(Body::new))
    }
}

impl<E> Clone for Served<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for Served<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::gateway::{
        backend::{RuleService, Told},
        service::ListenerService,
    };

    fn of_call<S: Service<Request<Body>>>() -> usize {
        size_of::<S::Future>()
    }

    /// What stands around a future moves it, so that each byte of it counts several times.
    #[test]
    fn what_is_moved_for_each_request_is_small() {
        let sizes = [of_call::<Told>(), of_call::<RuleService>(), of_call::<ListenerService>()];
        assert!(sizes.iter().zip([320, 128, 640]).all(|(size, most)| *size <= most), "{sizes:?}");
    }
}
