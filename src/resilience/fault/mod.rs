//! Makes some requests fail on purpose, to see what becomes of those who sent them.
//!
//! Off unless told. Each fault is marked in the [`Trail`](crate::trail::Trail) and on the response, so that logs and metrics
//! show it, or written down here where there is no trail; and a switch ends them all.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use portcullis::{
//!     body::Body,
//!     ratio::Ratio,
//!     resilience::fault::{Abort, FaultLayer, Policy},
//! };
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let stock = service_fn(|_: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
//! let faults = FaultLayer::new(Policy::new().abort(Abort::status(StatusCode::SERVICE_UNAVAILABLE), Ratio::ALWAYS));
//! let handle = faults.handle().unwrap();
//! let service = faults.layer(stock);
//! assert_eq!(service.clone().oneshot(Request::new(Body::empty())).await.unwrap().status(), 503);
//! handle.stop();
//! assert_eq!(service.oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
//! assert_eq!(handle.aborted(), 1);
//! # }
//! ```
//!
//! # Example, customised
//!
//! One read in ten takes two seconds more, one in a hundred is broken off, and testers ask for what they like:
//!
//! ```
//! use http::Method;
//! use portcullis::{
//!     chance::Chance,
//!     matching::RequestMatch,
//!     ratio::Ratio,
//!     resilience::fault::{FaultLayer, Policy},
//! };
//! use std::time::Duration;
//!
//! let policy = Policy::new()
//!     .when(RequestMatch::prefix("/api/orders")?.method(Method::GET))
//!     .delay(Duration::from_secs(2), Ratio::percent(10))
//!     .reset(Ratio::percent(1))
//!     .believing("10.1.0.0/16".parse()?)
//!     .chance(Chance::seeded(7)); // the same requests in each run
//! # let _ = FaultLayer::new(policy);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What can be done to a request
//!
//! A delay, and then one of these, the first that its share hits:
//!
//! | fault | what becomes of the request |
//! |---|---|
//! | delay | it is held back, and then goes on |
//! | [abort](Policy::abort) | it is answered with a status of HTTP, or of gRPC, and goes nowhere |
//! | [reset](Policy::reset) | it is broken off, and goes nowhere |
//! | [throttle](Policy::throttle) | the body of its response comes at so many bytes a second, in ten pieces |
//!
//! # What a reset is
//!
//! A layer gives responses, and has no hands on the connection. It gives a head (200) with a body that fails at once; a server
//! of hyper, as ours is, then closes the connection of HTTP/1.1, and in HTTP/2 resets the stream with `INTERNAL_ERROR`, which
//! leaves the connection to other streams. So a client sees a head at most, and then the end, and a gRPC client a call without
//! a status. A refused or vanished connection is nothing that a layer can show.
//!
//! # Headers
//!
//! Of peers that it [believes](Policy::believing) it also does what they ask for, as Envoy has it:
//!
//! | header | value |
//! |---|---|
//! | `x-portcullis-fault-delay-request` | milliseconds, at most a minute |
//! | `x-portcullis-fault-abort-request` | an HTTP status from 200 |
//! | `x-portcullis-fault-abort-grpc-request` | a gRPC status from 1 |
//! | `x-portcullis-fault-reset-request` | anything |
//! | `x-portcullis-fault-throughput-response` | KiB a second |
//!
//! They are taken out of each request, whoever sends it. What strangers or the malformed say is not heard.
//!
//! # Answers
//!
//! | reason | HTTP | gRPC |
//! |---|---|---|
//! | [`FaultInjected`](crate::reject::Reason::FaultInjected) | the status of the [`Abort`], in `application/problem+json` | its code |
//!
//! # Position
//!
//! Inside of everything that decides whether a request may pass, of logs and metrics, so that those who have no business here
//! cannot tell it from an outage; outside of mirrors, splits and retries, which would hide it, and which the callers are to do
//! without. In a gateway also outside of its timeout: its clients are tried. In a mesh client inside of the
//! timeout of the call: the service that calls is tried, which has set that.
//!
//! # Shared state
//!
//! The numbers, the switch and the source of chance: all clones and all services of a layer share them.
//!
//! # Compared with tower
//!
//! It has no counterpart.
//!
//! # Metrics
//!
//! A [`FaultHandle`] counts each kind; `telemetry::metrics` outside of it has `faults_injected_total`. Access logs have
//! `fault`; without one there is an event of the target `portcullis::fault`.

mod body;
mod future;
mod handle;
mod header;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub use body::FaultBody;
pub use future::ResponseFuture;
pub use handle::FaultHandle;
pub use header::HEADERS;
pub use layer::{Fault, FaultLayer};
pub use policy::{Abort, Policy};
