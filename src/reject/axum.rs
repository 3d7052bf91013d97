use axum::{body::Body, response::IntoResponse};
use http::Response;

use super::{Protocol, Rejection};

/// A handler's own refusals look like ours. Handlers speak HTTP; for gRPC use the conversion to `tonic::Status`.
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl IntoResponse for Rejection {
    fn into_response(self) -> Response<Body> {
        Self::into_response(self, Protocol::Http).map(Body::from)
    }
}
