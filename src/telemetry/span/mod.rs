//! Opens one `tracing` span for each request.
//!
//! The span `request` (target `portcullis::request`, level `INFO`) has the fields `request_id`, `method` and
//! `route`. It is entered whenever the service or the response body is polled, and around the gates inside, so that
//! what a handler logs, and what a stream logs while it is being sent, is found by the request's id.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::telemetry::{request_id::SetRequestId, span::RequestSpan};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let handler = service_fn(|_: Request<String>| async {
//!     tracing::info!("this line has the request's id");
//!     Ok::<_, std::convert::Infallible>(Response::new(String::new()))
//! });
//! let service = SetRequestId::new().layer().layer(RequestSpan.layer().layer(handler));
//! service.oneshot(Request::new(String::new())).await.unwrap();
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::{gate::GateLayer, telemetry::span::RequestSpan};
//!
//! let verbose = std::env::args().any(|arg| arg == "--verbose");
//! let layer = if verbose { RequestSpan.layer() } else { GateLayer::disabled() };
//! # let _ = layer;
//! ```
//!
//! # Answers
//!
//! None: it never refuses.
//!
//! # Position
//!
//! Directly inside of request id, outside of everything that logs.
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! `tower_http::trace` opens a span with method, target and version, the query included, and its events.
//!
//! # Metrics
//!
//! None. Without a subscriber that wants the span, no span is made and nothing is entered.

mod gate;
#[cfg(test)]
mod tests;

pub use gate::{Opened, RequestSpan};
