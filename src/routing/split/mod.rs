//! Gives each version of a service its share of the requests, and one caller always the same version.
//!
//! # Example
//!
//! ```
//! use portcullis::routing::split::Split;
//!
//! let split = Split::builder().variant("stable", 98, "orders:9001").variant("canary", 2, "orders:9003").build()?;
//! assert_eq!(split.pick(0).name(), "stable");
//! # Ok::<(), portcullis::routing::split::InvalidSplit>(())
//! ```
//!
//! # Example, customised
//!
//! Two percent of the tenants, and always the same tenants; who got what is told to both sides.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use std::convert::Infallible;
//! use http::{HeaderName, Request, Response};
//! use portcullis::key::Key;
//! use portcullis::routing::split::{Policy, Split};
//! use tower::{ServiceExt, service_fn};
//!
//! let version = |_name: &'static str| {
//!     service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(String::new())) })
//! };
//! let header = HeaderName::from_static("x-version");
//! let policy = Policy::sticky(Key::Header(HeaderName::from_static("x-tenant")), "orders")
//!     .tell_client(header.clone())
//!     .tell_upstream(header);
//! let service = Split::builder()
//!     .variant("stable", 98, version("stable"))
//!     .variant("canary", 2, version("canary"))
//!     .build()?
//!     .into_service(policy);
//!
//! let response = service.oneshot(Request::get("/").header("x-tenant", "acme").body(())?).await?;
//! assert_eq!(response.headers()["x-version"], "canary"); // acme is, and stays, one of the two percent
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! The numbers from 0 to 2^64 are a circle. Each variant has its share of the circle; a request has a point on
//! it, which for a sticky split is the [stable hash](crate::key::Key::stable_hash) of its key and the rule's
//! salt. Nothing else decides: the same key gets the same variant after a restart, on every instance and
//! every architecture. Another salt is another, independent throw of the dice. As with any hash a share of a half is met by
//! 100,000 keys with a standard deviation of 0.16 percentage points: within 0.3 points for 16 salts in 17. A share of up to 5.8%, of
//! which the deviation is 0.07 points or less, is met within 0.3 points by all but one salt in 16,000.
//!
//! The first variant is the base; the others are canaries. Canary *k* starts at a point of its own (1/2, 1/4,
//! 3/4, 1/8, 5/8, ...) and reaches as far up as its share is wide; the base has what is left. So:
//!
//! - **Whose share grows keeps everyone it had.** With two variants, always. With more, as long as no canary
//!   listed before it grows into its place: where two meet, the one listed first goes on, and the other has
//!   its missing part behind it. Up to three canaries of up to 25% each, or seven of up to 12.5%, never meet.
//! - **Whose share stays the same keeps exactly whom it had**, under the same condition, whatever the base and
//!   the others do. Callers move only between the base and the canary that was changed.
//! - **A variant that is added at the end** takes callers from the base only.
//! - **A variant that is to go** gets the weight 0 and keeps its place in the list: if it is taken out, those
//!   listed after it have other places, and other callers.
//!
//! A share is the weight divided by the sum of the weights: 98 and 2 is the same as 49 and 1.
//!
//! # Answers
//!
//! None of its own.
//!
//! # Position
//!
//! Inside of everything that counts or decides for the rule as a whole, authentication too where the key is the
//! principal; outside of retries, so that each attempt of a request goes to the same version.
//!
//! # Shared state
//!
//! None: shares and places are immutable; a random split shares its [`Chance`](crate::chance::Chance).
//!
//! # Compared with tower
//!
//! `tower::steer` and the weighted routers of peers are ready only if every version is; here only the chosen one
//! has to be. None of them is sticky.
//!
//! # Metrics
//!
//! None of its own: if there are several, the variant is told to the request's [`Trail`](crate::trail::Trail) and rides in the extensions of
//! the response ([`attempt::Variant`](crate::attempt::Variant)); it is the label `variant` of the metrics outside.

mod circle;
mod policy;
mod service;
mod variants;

#[cfg(test)]
mod tests;

pub use policy::Policy;
pub use service::{SplitFuture, SplitLayer, SplitService};
pub use variants::{InvalidSplit, Share, Split, SplitBuilder};
