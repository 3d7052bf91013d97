//! Tries calls again that failed, where that does no harm.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::retry::RetryLayer};
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! static FAILED: AtomicBool = AtomicBool::new(false);
//! let stock = service_fn(|_: Request<Body>| async {
//!     let status = if FAILED.swap(true, Ordering::Relaxed) { 200 } else { 503 };
//!     Response::builder().status(status).body(Body::empty())
//! });
//! let stock = RetryLayer::default().layer(stock);
//! assert_eq!(stock.oneshot(Request::new(Body::empty())).await.unwrap().status(), 200);
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::StatusCode;
//! use portcullis::{
//!     backoff::Backoff,
//!     ratio::Ratio,
//!     resilience::{budget::Budget, retry::{Policy, RetryLayer, RetryOn}},
//! };
//! use std::time::Duration;
//!
//! let budget = Budget::new(Ratio::percent(10)); // shared by the retries and the hedges of one upstream
//! let reads = Policy::new(3)
//!     .on([RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset])
//!     .codes([StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE])
//!     .budget(budget)
//!     .backoff(Backoff::new(Duration::from_millis(50)))
//!     .most_wait(Duration::from_secs(2)) // for a `Retry-After`
//!     .attempt_header("x-attempt".parse()?);
//! let layer = RetryLayer::new(reads);
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is tried again
//!
//! An attempt that failed as the policy's [conditions](RetryOn) have it, if all of this holds:
//!
//! | what must hold | else the failure is given, and [`RetryStop`] says |
//! |---|---|
//! | there are attempts left: [`new`](Policy::new) has so many *beside* the first | `Attempts` |
//! | nobody has looked at the request, or it may be done twice: its method is idempotent (RFC 9110 section 9.2.2), it has an `Idempotency-Key`, or you said that [any method](Policy::danger_any_method) may | `Unsafe` |
//! | the server does not ask to stay away, or for longer than [`most_wait`](Policy::most_wait) | `Told` |
//! | there is time left of the request's [`Deadline`](crate::context::Deadline) for the wait and [an attempt](Policy::least_left) | `Deadline` |
//! | its body was kept: it is no longer than [`most_body`](Policy::most_body), and came whole as far as it was read | `Body` |
//! | the [`Budget`](super::budget::Budget) has something left | `Budget` |
//!
//! Nothing is tried again once a part of a response was given, nor what one of our own layers has refused: a limiter, an
//! open breaker, a policy would say the same again. Only where one endpoint has no room for it, which the refusal tells by
//! being [unsent](crate::reject::Rejection::unsent), another may have some. What was refused is no call from which the budget
//! grows. CONNECT and upgrades have one attempt.
//!
//! That nothing was sent is known by the word of who connects: our [`upstream`](crate::upstream), hyper-util's client, and a
//! `Channel` of tonic with the features `tonic` and `transport`; through a `BoxError`, too. A client that wraps their errors
//! in its own hides it.
//!
//! A status counts from the head and, with gRPC, from trailers that follow it at once: the body is polled once, and not
//! waited for. What a server says about when to come again is obeyed, in this order: `grpc-retry-pushback-ms` (gRFC A6; a
//! negative one says never), `Retry-After`, the time of a `RateLimit` that has nothing left. Up to half of it is added by
//! chance, so that not all come at once. Otherwise the wait is the [back-off](Policy::backoff)'s.
//!
//! A body streams to the first attempt while it is recorded; the next gets what was recorded and goes on from there, with
//! its trailers, as [`Replay`](crate::body::Replay) has it. The failed attempt is dropped before the next begins, and its
//! body stops.
//!
//! The next attempt carries [`Earlier`](crate::attempt::Earlier), so that [`upstream`](crate::upstream) takes another
//! endpoint.
//!
//! # Answers
//!
//! None of its own: what the last attempt ended with.
//!
//! # Position
//!
//! Inside of the timeout of the whole request, of metrics and logs, and of a split, so that all attempts go to the same
//! version; outside of the timeout of an attempt, of balancing and of whatever counts attempts.
//!
//! # Shared state
//!
//! The policy's budget, and the numbers: all clones and all services of a layer share them. A policy that takes another's
//! place [counts on](Policy::counted_by).
//!
//! What waits for its next attempt has let go of the failed one: of its connection, and of what it held in layers inside of
//! the retry. It holds its places in those outside. That is why a server [cannot ask](Policy::most_wait) for much.
//!
//! # Compared with tower
//!
//! `tower::retry` asks for requests that can be cloned, whole bodies that is, knows nothing of methods, of what a server
//! asks for and of endpoints, and its budget takes 70% for 100%.
//!
//! # Metrics
//!
//! A [`RetryHandle`] counts attempts, calls that recovered, and calls that were not tried again by reason. The
//! [`Trail`](crate::trail::Trail) carries the reason, and the number of attempts.
//!
//! [`RetryStop`]: crate::attempt::RetryStop

mod body;
mod call;
mod future;
mod handle;
mod layer;
mod on;
mod policy;
#[cfg(test)]
mod tests;
mod told;

pub use body::RetryBody;
pub use future::ResponseFuture;
pub use handle::RetryHandle;
pub use layer::{Retry, RetryLayer};
pub(super) use on::{Cases, Conditions, Lost};
pub use on::{RetryOn, UnknownCondition};
pub use policy::Policy;
