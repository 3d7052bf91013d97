//! Gives a new version more and more of the requests as long as it is no worse than the old one, and takes them away when it
//! is.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use http::{Request, Response};
//! use portcullis::{
//!     body::Body,
//!     key::Key,
//!     routing::{canary::{Canary, Policy, State}, split::{self, Split}},
//! };
//! use std::convert::Infallible;
//! use tower::{ServiceExt, service_fn};
//!
//! let version = |name: &'static str| {
//!     service_fn(move |_: Request<Body>| async move { Ok::<_, Infallible>(Response::new(Body::from(name))) })
//! };
//! let canary = Canary::new("orders", Policy::default()); // 1%, 5%, 25%, all
//! let split = Split::builder().variant("stable", 1, version("old")).variant("next", 1, version("new")).build()?;
//! let orders = canary.over(&split)?.into_service(split::Policy::sticky(Key::Principal, "orders"));
//!
//! orders.oneshot(Request::new(Body::empty())).await?;
//! let status = canary.handle().status();
//! assert_eq!((status.state, status.step, status.share.to_string()), (State::Running, 1, "1%".to_owned()));
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::{ratio::Ratio, routing::canary::{Canary, Policy, Slow, State}};
//! use std::time::Duration;
//!
//! let policy = Policy::new(["2%".parse()?, "20%".parse()?])?
//!     .least_time(Duration::from_secs(600))
//!     .least_calls(1_000)
//!     .margin("0.5%".parse()?)?
//!     .slow(Slow::Than(Duration::from_millis(300)))
//!     .alpha(Ratio::percent(1))?;
//! let canary = Canary::new("orders", policy.paused()); // nobody sees it until somebody says so
//! let handle = canary.handle();
//! assert_eq!(handle.status().share, Ratio::NEVER);
//! handle.promote(); // all at once: blue-green
//! assert_eq!(handle.status().share, Ratio::ALWAYS);
//! handle.abort(); // and back
//! assert_eq!(handle.status().state, State::Aborted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is compared
//!
//! Both versions over the same time: as soon as there are calls of both they are compared, and counting begins anew, so that
//! what befalls both, an outage of a database say, is no difference. Compared are
//!
//! - **failures**: calls whose [`Outcome`](crate::outcome::Outcome), at the end of the response's body and from gRPC's trailers,
//!   is the server's fault; the caller's too [if you say so](Policy::caller_faults);
//! - **slowness**: calls that take longer to the head of their response than [`slow`](Policy::slow) says: the old version's
//!   p99, or a time of yours. A caller who goes away before there is a head says nothing of the version, unless it was slow
//!   by then. A timeout of ours is a failure, of those outside too if they [tell their
//!   deadline](crate::context::Deadline).
//!
//! Calls count that begin and end in one step.
//!
//! # When it moves
//!
//! Each step is a test, which may be looked at after every call:
//!
//! - **It rolls back** as soon as the new version is found worse. A version that is no worse is rolled back with a probability
//!   of [`alpha`](Policy::alpha) at most, in the whole schedule: each of its tests may err by its part of that.
//! - **It goes on** to the next step when the step has lasted its [time](Policy::least_time), has had its
//!   [calls](Policy::least_calls), and the new version was found not to be worse by the [margins](Policy::margin). A version
//!   that is, in failures or in slowness, passes with a probability of [`beta`](Policy::beta) at most.
//!
//! Both hold whatever the shares of failures are, even if they change, and for every number of calls: they rest on Ville's
//! inequality and on no approximation. What the shares do change is how long it takes. With the defaults and few failures a
//! step takes about 500 calls of the new version; with 1% of failures in both about 1,000; a version of which half of the
//! calls fail is gone after about 20. As long as there is no answer it stays where it is.
//!
//! The last step is not tested: who has all calls has nobody to be compared with. [`abort`](CanaryHandle::abort) takes them back.
//!
//! Who has seen the new version goes on seeing it while its share grows, with a [sticky](super::split::Policy::sticky) split.
//!
//! # Answers
//!
//! None of its own.
//!
//! # Position
//!
//! That of a [split](super::split): inside of what decides who may ask; outside of retries, so that it judges calls as their
//! callers see them.
//!
//! # Shared state
//!
//! One canary for all clones and services, in memory: who begins anew begins with the first step, and each of several instances
//! judges by what it sees.
//!
//! # Compared with tower
//!
//! It has no counterpart. Flagger and Argo Rollouts compare numbers that Prometheus has scraped with thresholds, once a minute.
//!
//! # Metrics
//!
//! A [`CanaryHandle`] tells the [`Status`], and moves it. Each move is logged with its numbers, target `portcullis::canary`.

mod evidence;
mod handle;
mod policy;
mod rollout;
mod shared;
#[cfg(test)]
mod tests;
mod trial;
mod watch;

pub use handle::{CanaryHandle, Ended, Status};
pub use policy::{InvalidPolicy, Policy, Slow};
pub use rollout::State;
pub use shared::Canary;
pub use trial::{Calls, Worse};
pub use watch::{Version, Watch, Watched};
