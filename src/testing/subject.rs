use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::Probe;
use crate::body::Body;

/// A layer that the kit can check. Every layer of HTTP services with a response body of [`Bytes`] is one; that it
/// is one is [`Law::Types`](super::Law::Types).
pub trait Subject:
    Layer<Probe, Service: SubjectService<ResB = Self::ResB>> + Clone + Send + Sync + 'static
{
    /// The body of its responses.
    type ResB: HttpBody<Data = Bytes> + Send + 'static;
}

/// The service of a [`Subject`].
pub trait SubjectService:
    Service<Request<Body>, Response = Response<Self::ResB>, Error: Send + 'static, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// The body of its responses.
    type ResB: HttpBody<Data = Bytes> + Send + 'static;
}

impl<S, ResB> SubjectService for S
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: Send + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    ResB: HttpBody<Data = Bytes> + Send + 'static,
{
    type ResB = ResB;
}

impl<L> Subject for L
where
    L: Layer<Probe, Service: SubjectService> + Clone + Send + Sync + 'static,
{
    type ResB = <L::Service as SubjectService>::ResB;
}
