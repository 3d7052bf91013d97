//! Gives something else in the place of a failure: an answer that is always there, an old one, or another server's.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::fallback::{FallbackLayer, Policy}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let down = service_fn(|_: Request<Body>| async {
//!     Ok::<_, std::convert::Infallible>(Response::builder().status(503).body(Body::empty()).unwrap())
//! });
//! let nothing = Response::builder().header("content-type", "application/json").body(Bytes::from_static(b"[]")).unwrap();
//! let proposals = FallbackLayer::new(Policy::answer(nothing)).layer(down);
//! assert_eq!(proposals.oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use portcullis::{
//!     body::Body,
//!     resilience::{breaker::BreakerLayer, fallback::{FallbackLayer, Policy}, retry::RetryOn},
//! };
//! use std::{collections::HashMap, convert::Infallible};
//! use tower::{ServiceBuilder, service_fn};
//!
//! # async fn other(_: Request<Body>) -> Result<Response<Body>, Infallible> { Ok(Response::new(Body::empty())) }
//! // What was good once, from a store of yours that does not wait:
//! let old: HashMap<String, Bytes> = HashMap::new();
//! let stale = Policy::answer_with(move |request: &Request<()>| {
//!     let bytes = old.get(request.uri().path())?.clone();
//!     Response::builder().header("warning", "110 - \"Response is Stale\"").body(bytes).ok()
//! });
//! // Another server, also while the breaker of the first one is open:
//! let elsewhere = Policy::ask(service_fn(other))
//!     .on([RetryOn::ConnectFailure, RetryOn::GatewayError])
//!     .codes([StatusCode::TOO_MANY_REQUESTS])
//!     .most_body(16 * 1024);
//! let client = ServiceBuilder::new()
//!     .layer(FallbackLayer::new(stale))
//!     .layer(FallbackLayer::new(elsewhere))
//!     .layer(BreakerLayer::default())
//!     .service(service_fn(other));
//! # let _ = client;
//! ```
//!
//! # When
//!
//! The cases are those of [retries](super::retry::RetryOn), seen in the head of a response or in an error in its place. A
//! refusal of a layer further inside is one by its status: an open breaker, a full limit, no endpoint. What blames the caller
//! is none, unless its status is among the [codes](Policy::codes) and a server has said it. A response that has begun is
//! given: a gRPC status in trailers after it comes too late.
//!
//! Another server is asked only if what was asked may be done twice, and if its body was kept; it is recorded while the
//! first server reads it, as [`Replay`](crate::body::Replay) has it. If that server has no answer, or a layer in front of it
//! refuses, the first failure stands. An answer of it that is a failure is given.
//!
//! There is no cache here: [`answer_with`](Policy::answer_with) is the seam for one, which has to know what may be given to
//! whom (`Cache-Control`, `Vary`, `Authorization`).
//!
//! # Answers
//!
//! Those it is given, with [`FellBack`](crate::trail::FellBack) in their extensions; those to `HEAD` without their body. A gRPC
//! caller to whom an answer means nothing gets the failure.
//!
//! # Position
//!
//! Inside of whatever decides who may ask: when nobody can be authenticated, nobody reaches the other server by that.
//! Outside of retries, breakers and limits on what is in flight, whose refusals are failures too; inside of metrics and logs.
//! A timeout outside of it bounds the other server too, and cuts it off as well; with one inside of it the other server has
//! to have its own, as it does in a gateway.
//!
//! # Shared state
//!
//! The numbers.
//!
//! # Compared with tower
//!
//! tower has none. `tower-resilience` clones the request for each call, and its breaker has a second copy of its service for
//! it.
//!
//! # Metrics
//!
//! A [`FallbackHandle`] counts the failures in whose place something was given, and those that stood. The
//! [`Trail`](crate::trail::Trail) says what failed, and what was given.

mod body;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub use body::FallbackBody;
pub use layer::{Fallback, FallbackLayer, ResponseFuture};
pub use policy::{FallbackHandle, Policy};
