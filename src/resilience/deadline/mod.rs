//! Carries the time that a caller has left from the request that came to every call that is made while it is handled.
//!
//! A caller that waits for two seconds has no use of what comes after three. [`ReadDeadline`] reads from a request until
//! when its caller waits; [`InheritDeadline`] gives a call the deadline of the request it is made for; and [`TellDeadline`]
//! tells the server that is called what is left of it. Between them stands a [`Deadline`], one word that timeouts narrow,
//! retries look at, and a [`Context`](crate::context::Context) carries to calls.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, context::Deadline, gate::GateLayer, resilience::deadline::ReadDeadline};
//! use std::time::Duration;
//! use tokio::time::Instant;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let handler = service_fn(|request: Request<Body>| async move {
//!     let deadline = request.extensions().get::<Deadline>().unwrap();
//!     assert_eq!(deadline.left(Instant::now()), Duration::from_millis(250));
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let call = Request::post("/shop.Stock/Get")
//!     .header("content-type", "application/grpc")
//!     .header("grpc-timeout", "250m")
//!     .body(Body::empty())
//!     .unwrap();
//! GateLayer::new(ReadDeadline::new()).layer(handler).oneshot(call).await.unwrap();
//! # }
//! ```
//!
//! # Example, customised
//!
//! Plain HTTP has no field for it; choose one for your services.
//!
//! ```
//! use portcullis::{
//!     gate::GateLayer,
//!     resilience::deadline::{InheritDeadline, ReadDeadline, TellDeadline},
//! };
//! use std::time::Duration;
//!
//! let server = GateLayer::new(ReadDeadline::new().header("x-timeout-ms".parse()?));
//! let client = (
//!     GateLayer::new(InheritDeadline::new().margin(Duration::from_millis(5))), // time to answer with what came
//!     GateLayer::new(TellDeadline::new().header("x-timeout-ms".parse()?)),
//! );
//! # let _ = (server, client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the wire
//!
//! gRPC calls have `grpc-timeout`: up to eight digits and a unit, as `250m` for milliseconds. The header that you choose has
//! milliseconds in digits, or the same form. It is how much time is left when it is sent, since clocks differ; the time on
//! the way is not counted, which is what [margins](InheritDeadline::margin) are for. What is malformed is as if it were not
//! there.
//!
//! # Answers
//!
//! None of its own. Once a deadline has passed a [timeout](super::timeout) answers `CallerDeadline`: 504, and
//! `DEADLINE_EXCEEDED` in gRPC. A caller can only shorten what the route allows, and what that cut off is not the
//! upstream's fault.
//!
//! # Position
//!
//! [`ReadDeadline`] before everything that waits, and outside of the timeout of the whole request. [`InheritDeadline`]
//! outside of the timeout of a call; [`TellDeadline`] inside of retries, of the timeout of an attempt and of queues, so that
//! each attempt tells what is left by then.
//!
//! # Shared state
//!
//! None.
//!
//! # Compared with tower
//!
//! tonic's server and channel read and write `grpc-timeout`, each for itself: what is left of a request's time is not what
//! its calls are given.
//!
//! # Metrics
//!
//! None of its own; refusals are counted under the timeout's reasons.
//!
//! [`Deadline`]: crate::context::Deadline

mod call;
mod read;
#[cfg(test)]
mod tests;
mod wire;

pub use call::{InheritDeadline, TellDeadline};
pub use read::ReadDeadline;
