//! Sends a second attempt beside a late one, and gives what comes first.
//!
//! Where one answer in a hundred is slow by accident (a pause of a collector, a full disk, a lost packet), a caller who asks
//! twenty servers waits for one of the slow ones nearly every fifth time. A second attempt, at another endpoint, when the
//! first is later than nearly all are, takes the accidents away for a few calls more. Where *all* answers are slow it makes
//! things worse, as retries do: it is bound by the same [`Budget`](super::budget::Budget).
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::hedge::{HedgeLayer, Policy}};
//! use std::{sync::atomic::{AtomicBool, Ordering}, time::Duration};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! static SLOW: AtomicBool = AtomicBool::new(true);
//! let stock = service_fn(|_: Request<Body>| async {
//!     if SLOW.swap(false, Ordering::Relaxed) {
//!         tokio::time::sleep(Duration::from_secs(10)).await; // an accident
//!     }
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let hedges = HedgeLayer::new(Policy::after(Duration::from_millis(50)));
//! let start = tokio::time::Instant::now();
//! hedges.layer(stock).oneshot(Request::new(Body::empty())).await.unwrap();
//! assert!(start.elapsed() < Duration::from_millis(60));
//! let handle = hedges.handle().unwrap();
//! assert_eq!((handle.hedges(), handle.won(), handle.cancelled()), (1, 1, 1));
//! # }
//! ```
//!
//! # Example, customised
//!
//! Later than 95% of the answers are, whatever that comes to, and within the budget of the retries:
//!
//! ```
//! use portcullis::{
//!     ratio::Ratio,
//!     resilience::{
//!         budget::Budget,
//!         hedge::{HedgeLayer, Policy},
//!         retry::{self, RetryLayer},
//!         timeout::TimeoutLayer,
//!     },
//! };
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//!
//! let budget = Budget::new(Ratio::percent(20));
//! let late = Policy::at_percentile(Ratio::percent(95)).least_delay(Duration::from_millis(5));
//! let attempts = ServiceBuilder::new()
//!     .layer(RetryLayer::new(retry::Policy::new(2).budget(budget.clone()))) // counts the calls
//!     .layer(HedgeLayer::new(late.shared_budget(budget)))
//!     .layer(TimeoutLayer::new(Duration::from_secs(2)).per_attempt());
//! # let _ = attempts;
//! ```
//!
//! # What is sent twice
//!
//! What a [retry](super::retry) may repeat: idempotent methods, requests with an `Idempotency-Key`, and others if you say
//! that [any method](Policy::danger_any_method) may. Neither CONNECT nor upgrades. If an attempt is later than
//! [`after`](Policy::after) or [`at_percentile`](Policy::at_percentile) says, another is sent, unless
//!
//! | what stands against it | [`HedgeStop`] |
//! |---|---|
//! | its body is too long to be [kept](Policy::most_body), or broke off | `Body` |
//! | the budget has nothing left | `Budget` |
//! | of the request's [`Deadline`](crate::context::Deadline) there is not [enough](Policy::least_left) left | `Deadline` |
//! | it may not be done twice: gRPC is always POST, and nobody has said that any method may | `Unsafe` |
//!
//! A second attempt is not begun before all of the body has come: two that read from one caller would wait for the same
//! thing. Until then the first is not late, the caller is.
//!
//! The first *good* head is given, and the other attempts are dropped at that moment; nothing of two answers is ever mixed.
//! A head with a status of 500 and above, a gRPC status in it that is the server's fault, or no answer at all is not good; nor,
//! while another attempt is in flight, is an answer in gRPC that ends with such a status in its trailers at once, or breaks off.
//! Before there is a second attempt a failure is given at once: it is for a retry to mend. After that it waits for the others,
//! as long again as the first was waited for, and the best of what came is given. What one of our own layers has refused, a
//! limit in front of the server say, is given only if nothing else comes, and then no further attempt is sent.
//!
//! The second attempt carries [`Earlier`](crate::attempt::Earlier), so that [`upstream`](crate::upstream) takes another
//! endpoint, and a [`Trail`](crate::trail::Trail) of its own; the request's learns of the attempt whose answer is given.
//!
//! # How late is late
//!
//! A percentile is that of the first attempts of the last 10 to 20 seconds, those that lost to a second one included with the
//! time for which they were waited for. It is never too short, and too long by an eighth at most, and takes 1.6 KB. It is
//! reckoned anew with each 32nd answer. Failures do not count.
//!
//! # Answers
//!
//! None of its own.
//!
//! # Position
//!
//! Inside of a retry, which tries again only when all attempts have failed, and shares its budget; outside of the timeout of
//! an attempt, of what bounds requests to the server, and of balancing: each attempt stands for itself there.
//!
//! # Shared state
//!
//! The policy's budget, the numbers, and what is known of how long answers take: all clones and all services of a layer share
//! them.
//!
//! # Compared with tower
//!
//! `tower::hedge` asks for requests that can be cloned and knows nothing of methods, failures and endpoints: a fast error of
//! the second attempt wins over a good answer of the first.
//!
//! # Metrics
//!
//! A [`HedgeHandle`] counts attempts, those that won and those that were cancelled, and late calls that had none by reason.

mod body;
mod call;
mod future;
mod handle;
mod latency;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub use body::HedgeBody;
pub use future::ResponseFuture;
pub use handle::{HedgeHandle, HedgeStop};
pub use layer::{Hedge, HedgeLayer};
pub use policy::Policy;
