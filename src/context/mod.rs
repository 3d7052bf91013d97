//! What travels with a request to the calls that are made while it is handled.
//!
//! A [`Context`] holds the request id, the trace, the deadline and the principal. [`ContextLayer`], innermost on
//! the server side, collects them from the request's extensions and opens a scope around the handler: around the
//! polls of its future *and* of its response's body, so that a handler which streams still knows them.
//! Client-side layers read [`Context::current`].
//!
//! # Example
//!
//! ```
//! use http::{HeaderValue, Request, Response};
//! use portcullis::body::Body;
//! use portcullis::context::{Context, ContextLayer, RequestId};
//! use tower::{Layer, Service, ServiceExt};
//!
//! # tokio_test::block_on(async {
//! let handler = tower::service_fn(|_: Request<()>| async {
//!     let id = Context::current().and_then(|c| c.request_id().cloned());
//!     assert_eq!(id.unwrap().as_str(), "r-1");
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let mut request = Request::new(());
//! request.extensions_mut().insert(RequestId::new(HeaderValue::from_static("r-1")).unwrap());
//! ContextLayer::new().layer(handler).oneshot(request).await.unwrap();
//! # });
//! ```
//!
//! # Example, customised
//!
//! A task that is spawned is outside the scope; give it one with [`Context::scope`].
//!
//! ```
//! use http::{HeaderValue, Request, Response};
//! use portcullis::body::Body;
//! use portcullis::context::{Context, ContextLayer, RequestId};
//! use tower::{Layer, ServiceExt};
//!
//! async fn in_the_background() -> String {
//!     let context = Context::current().expect("it was given one");
//!     context.request_id().map_or_else(String::new, |id| id.as_str().to_owned())
//! }
//!
//! # tokio_test::block_on(async {
//! let handler = tower::service_fn(|_: Request<()>| async {
//!     let context = Context::current().unwrap_or_default();
//!     let task = tokio::spawn(context.scope(in_the_background()));
//!     assert_eq!(task.await.unwrap(), "r-1");
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let mut request = Request::new(());
//! request.extensions_mut().insert(RequestId::new(HeaderValue::from_static("r-1")).unwrap());
//! ContextLayer::new().layer(handler).oneshot(request).await.unwrap();
//! # });
//! ```
//!
//! # Answers
//!
//! None: it never refuses.
//!
//! # Position
//!
//! Inside everything that tells something about the request: request id, trace, authentication, deadline.
//!
//! # Shared state
//!
//! None: each request has a context of its own.
//!
//! # Compared with tower
//!
//! tower has no counterpart. A `tokio::task_local` scope around a handler's future alone is gone while its body streams.
//!
//! # Metrics
//!
//! None.

mod deadline;
#[cfg(feature = "axum")]
mod extract;
mod layer;
mod request_id;
mod trace;
mod word;

pub use deadline::Deadline;
pub use layer::{ContextBody, ContextFuture, ContextLayer, Contextual};
pub use request_id::RequestId;
pub use trace::TraceContext;
pub use word::Context;
