//! Asks endpoints whether they are well, and sends no requests to those that are not.
//!
//! Over HTTP, by gRPC's health service, or by a connection alone. Each question has a connection of its own, so that
//! whether one can be made is a part of it, and none is taken from requests.
//!
//! # Example
//!
//! ```
//! use http::uri::PathAndQuery;
//! use portcullis::upstream::{Upstream, health};
//!
//! let orders = Upstream::builder("orders")
//!     .endpoints(["192.0.2.1:9000", "192.0.2.2:9000"])
//!     .health_check(health::Policy::http(PathAndQuery::from_static("/healthz")))
//!     .build()?;
//! # Ok::<(), portcullis::upstream::BuildError>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use portcullis::upstream::{Upstream, health};
//!
//! let check = health::Policy::grpc("orders.Orders")
//!     .interval(Duration::from_secs(2))
//!     .timeout(Duration::from_millis(500))
//!     .unhealthy_threshold(NonZeroU32::new(2).unwrap())
//!     .wait_for_first(true); // nothing is sent to who has not said yet that it serves
//! let orders = Upstream::builder("orders").endpoint("orders.internal:9000").health_check(check).build()?;
//! # Ok::<(), portcullis::upstream::BuildError>(())
//! ```
//!
//! # What is asked
//!
//! | [`Policy`] | asked over | good is |
//! |---|---|---|
//! | [`http`](Policy::http) | HTTP/1.1; HTTP/2 where the upstream's [`Wire`](crate::upstream::Wire) is | 200, or what is [expected](Policy::expect); the body is not read |
//! | [`grpc`](Policy::grpc) | HTTP/2 | `SERVING` and the status `OK`, in 1 KiB at most |
//! | [`tcp`](Policy::tcp) | TCP | a connection |
//!
//! No more than 64 endpoints of an upstream are asked at a time.
//!
//! # Answers
//!
//! None of its own: requests go to the other endpoints.
//!
//! # Position
//!
//! Inside of the upstream, beside its requests.
//!
//! # Shared state
//!
//! How an endpoint is stays with it, in every clone of its upstream and across
//! [`inherit`](crate::upstream::UpstreamBuilder::inherit). What asks begins with
//! [`Upstream::warm`](crate::upstream::Upstream::warm) or the first request, and ends with the upstream. New endpoints are
//! asked at once.
//!
//! # Compared with tower
//!
//! tower has none.
//!
//! # Metrics
//!
//! None of its own: [`Upstream::checks`](crate::upstream::Upstream::checks) and
//! [`EndpointStatus`](crate::upstream::EndpointStatus) tell, from which a gateway makes metrics.

mod checks;
mod policy;
mod probe;
mod progress;
mod wire;

pub(super) use checks::{Checks, State};
pub use policy::Policy;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use probe::fuzzing;
pub use progress::Health;
