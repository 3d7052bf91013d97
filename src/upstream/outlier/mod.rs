//! Leaves an endpoint out for a while when its answers say that it is broken.
//!
//! It is judged by what became of requests at their end, a gRPC status in trailers included: Envoy's outlier detection,
//! with what that cannot see. What the caller gave up, shortened or broke off itself counts for nothing.
//!
//! # Example
//!
//! ```
//! use portcullis::upstream::{Upstream, outlier};
//!
//! let orders = Upstream::builder("orders")
//!     .endpoints(["192.0.2.1:9000", "192.0.2.2:9000", "192.0.2.3:9000"])
//!     .outlier_detection(outlier::Policy::new())
//!     .build()?;
//! # Ok::<(), portcullis::upstream::BuildError>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use portcullis::{ratio::Ratio, upstream::{Upstream, outlier}};
//!
//! let policy = outlier::Policy::new()
//!     .consecutive_5xx(NonZeroU32::new(3))
//!     .success_rate(None)
//!     .ejection_time(Duration::from_secs(10), Duration::from_secs(60))
//!     .jitter(Duration::from_secs(5))
//!     .max_ejected(Ratio::percent(50))
//!     .shadow(true); // for a week, before it is meant
//! let orders = Upstream::builder("orders").endpoint("192.0.2.1:9000").outlier_detection(policy).build()?;
//!
//! // For operators: who is left out, and back with it.
//! for endpoint in orders.endpoints().iter().filter(|endpoint| endpoint.ejected.is_some()) {
//!     orders.readmit(endpoint.address);
//! }
//! # Ok::<(), portcullis::upstream::BuildError>(())
//! ```
//!
//! # What counts
//!
//! | what became of a request | counts as |
//! |---|---|
//! | a status below 500, a gRPC code that does not blame the server | success |
//! | 502, 503, 504; gRPC `UNAVAILABLE`, `DEADLINE_EXCEEDED` | failure of a gateway, and failure |
//! | another status of 500 and above; gRPC `UNKNOWN`, `INTERNAL`, `DATA_LOSS`, no status at all | failure |
//! | no connection, a reset, a body that broke off, no answer in the time of a timeout of ours | both, or [for itself](Policy::consecutive_local_origin_failures) |
//! | cancelled by the caller, or by a deadline that the caller set, be it by the endpoint's own word that it is over; a request whose body broke off; all connections in use; gRPC `UNIMPLEMENTED` | nothing |
//!
//! # How many
//!
//! At most [`Policy::max_ejected`] of the endpoints at a time, one in any case, and never the last that takes requests:
//! where all fail, leaving them out would only add an outage of ours. Envoy's tenth is nobody where there are less than ten
//! endpoints; here it is one.
//!
//! # Answers
//!
//! None of its own: requests go to the other endpoints.
//!
//! # Position
//!
//! Inside of the upstream, at each attempt: retries are seen one by one. Timeouts stand outside and drop what they cut off;
//! that the time of a [`Deadline`](crate::context::Deadline) which this gateway imposed had passed by then is seen, and
//! counts as no answer.
//!
//! # Shared state
//!
//! What is known of an endpoint stays with it, in every clone of its upstream and across
//! [`inherit`](crate::upstream::UpstreamBuilder::inherit). A result costs a few counters; what is judged is judged beside, in
//! a task that begins with the first request and ends with the upstream.
//!
//! # Compared with tower
//!
//! tower has none. Envoy ejects by the head of an answer, and nobody in sets of less than ten.
//!
//! # Metrics
//!
//! None of its own: [`Upstream::ejections`](crate::upstream::Upstream::ejections) and
//! [`EndpointStatus`](crate::upstream::EndpointStatus) tell, from which a gateway makes metrics.

mod judge;
mod policy;
mod record;
mod watch;

pub use judge::Cause;
pub use policy::{FailurePercentage, Policy, SuccessRate};
pub use record::Ejected;
pub use watch::Ejections;
pub(super) use {record::Record, watch::Watch};

#[cfg(test)]
mod tests;
