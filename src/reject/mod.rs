//! How a layer says no.
//!
//! A [`Rejection`] has a [`Reason`]; one table ([`Reason`]'s own docs) maps each reason to an HTTP status, a gRPC
//! code, a metric label and an access-log flag. A rejection is rendered for the caller's [`Protocol`]:
//! `application/problem+json` (RFC 9457) for HTTP, a trailers-only response for gRPC and gRPC-Web. It also rides
//! in the response's extensions, so that whoever stands outside (retry, metrics, logs) knows why.
//!
//! ```
//! use http::{Request, StatusCode};
//! use portcullis::reject::{Protocol, Reason, Rejection};
//! use std::time::Duration;
//!
//! let no = Rejection::new(Reason::RateLimited).retry_after(Duration::from_millis(200));
//! let response = no.clone().into_response(Protocol::Http);
//! assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(response.headers()["retry-after"], "1"); // rounded up
//!
//! let response = no.into_response(Protocol::Grpc);
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(response.headers()["grpc-status"], "8"); // RESOURCE_EXHAUSTED
//! ```
//!
//! Details are for logs. Strangers read them only where the request carries [`Disclose`].
//!
//! [`RescueLayer`] turns errors into answers at a server's edge; [`RaiseLayer`] turns refusals into errors for
//! client stacks.

#[cfg(any(feature = "admission", feature = "authn"))]
mod challenge;
mod grpc;
mod protocol;
mod raise;
mod reason;
mod rejection;
mod render;
mod rescue;

#[cfg(any(feature = "admission", feature = "authn"))]
pub(crate) use challenge::challenge;
pub use grpc::GrpcCode;
pub use protocol::Protocol;
pub use raise::{Raise, RaiseFuture, RaiseLayer};
pub use reason::Reason;
pub use rejection::{Answer, Disclose, Rejection};
pub(crate) use render::Style;
#[cfg(feature = "telemetry")]
pub(crate) use render::escape_json;
pub use rescue::{Rescue, RescueBody, RescueFuture, RescueLayer};

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "tonic")]
mod tonic;
