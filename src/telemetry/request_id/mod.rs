//! Gives each request one id, from the edge to the last call made for it.
//!
//! [`SetRequestId`] takes the id that a trusted peer sent, or makes one (UUIDv7, RFC 9562), and sets it on the
//! request's header, on the response, and as [`RequestId`](crate::context::RequestId) in the extensions, where
//! the context, the [span](crate::telemetry::span) and the access log find it. [`PropagateRequestId`] belongs to
//! clients: it puts the id of the request being handled on the calls made for it.
//!
//! An id is taken only from a trusted peer, only from a single header line, and only if it is 1 to 128 visible
//! ASCII characters without `"`, `'`, `\`, `,`, `;`, `<`, `>`, `{` and `}`, which end a field in some log, or mean
//! something to a template behind it (think of `${jndi:...}`). UUIDs, ULIDs, base64, hexadecimal and the roots of
//! `X-Amzn-Trace-Id` are all fine. Anything else is replaced: all its lines by one.
//!
//! An id that stands in the extensions already is the word of a layer outside, and stays: one request has one id,
//! however often the layer stands around it.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::telemetry::request_id::SetRequestId;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = SetRequestId::new().layer().layer(service_fn(|request: Request<String>| async move {
//!     assert_eq!(request.headers()["x-request-id"].len(), 36);
//!     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
//! }));
//! let response = service.oneshot(Request::new(String::new())).await.unwrap();
//! assert!(response.headers().contains_key("x-request-id"));
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::HeaderName;
//! use portcullis::identity::TrustedProxies;
//! use portcullis::telemetry::request_id::{PropagateRequestId, SetRequestId, Trust};
//!
//! let edge = TrustedProxies::parse(["10.0.0.0/8"]).unwrap();
//! let server = SetRequestId::new()
//!     .header(HeaderName::from_static("x-correlation-id"))
//!     .trust(Trust::Peers(edge))
//!     .layer();
//! let client = PropagateRequestId::new().header(HeaderName::from_static("x-correlation-id")).layer();
//! # let _ = (server, client);
//! ```
//!
//! # Answers
//!
//! None: it never refuses.
//!
//! # Position
//!
//! [`SetRequestId`] first, inside of the rescue only, so that every log line and every answer has an id.
//! [`PropagateRequestId`] outermost in a client, so that all tries of one call carry the same id.
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! `tower_http::request_id` takes any value from anyone, unchecked and unbounded, looks at the first of several
//! lines only, and leaves the others. Its UUID asks the system's generator each time, which costs 400 ns.
//!
//! # Metrics
//!
//! None.

mod make;
mod propagate;
mod set;
#[cfg(test)]
mod tests;

#[cfg(feature = "stack")]
pub(crate) use make::make;
pub use propagate::PropagateRequestId;
pub use set::{SetRequestId, Tell, Trust, X_REQUEST_ID};
