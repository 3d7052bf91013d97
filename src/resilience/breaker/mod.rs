//! Does not ask a server that has been failing: a circuit breaker.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, resilience::breaker::BreakerLayer};
//! use tower::{Layer, Service, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let down = service_fn(|_: Request<Body>| async {
//!     Ok::<_, std::convert::Infallible>(Response::builder().status(500).body(Body::empty()).unwrap())
//! });
//! let mut stock = BreakerLayer::default().layer(down);
//! for _ in 0..5 {
//!     assert_eq!(stock.call(Request::new(Body::empty())).await.unwrap().status(), 500);
//! }
//! let refused = stock.call(Request::new(Body::empty())).await.unwrap(); // nobody was asked
//! assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::HeaderName;
//! use portcullis::{
//!     backoff::{Backoff, Jitter},
//!     key::Key,
//!     ratio::Ratio,
//!     resilience::breaker::{BreakerLayer, Policy},
//!     trip,
//! };
//! use std::{num::NonZeroU32, time::Duration};
//!
//! let some = |number| NonZeroU32::new(number).unwrap();
//! let seconds = Duration::from_secs;
//! let trip = trip::Policy::new()
//!     .consecutive(None)                                    // by shares only:
//!     .ratio(Ratio::percent(30), some(50))                  // 3 of 10 fail, of 50 at least,
//!     .slow(seconds(2), Ratio::percent(80))                 // or 8 of 10 take 2 s or longer,
//!     .window(seconds(30))                                  // in 30 s
//!     .wait(Backoff::new(seconds(5)).max(seconds(60)).jitter(Jitter::Equal))
//!     .probes(some(3), some(10));                           // 3 at once, and 10 that do well
//! let policy = Policy::new(trip).name("stock").by(Key::Header(HeaderName::from_static("x-shard"))).throttling_fails(true);
//! let layer = BreakerLayer::new(policy);
//!
//! let handle = layer.handle().unwrap();
//! let mut events = handle.subscribe();
//! handle.force_open(); // for the time of a migration
//! handle.reset();
//! # let _ = events.try_recv();
//! ```
//!
//! # When it opens and closes
//!
//! As the [`trip::Policy`](crate::trip::Policy) says: after failures in a row, or when a share of the results of a window,
//! of the last seconds or the last results, failed or was slow. Open, it refuses for a time that grows, with jitter, while
//! it opens again and again. Half open, a stated number of probes goes, and all others are refused; it closes when enough
//! of them do well, and opens when one does not. A probe is given back when its future or body is dropped, at any await,
//! and one that takes longer than 10 seconds lets another go beside it.
//!
//! # What is a failure
//!
//! A call is judged by its [`Outcome`](crate::outcome::Outcome), at the end of its body:
//!
//! | what became of it | closed | half open |
//! |---|---|---|
//! | it went well | success | success |
//! | 5xx; a gRPC status that blames the server, in head or trailers; no or half a response | failure | failure |
//! | 4xx, a gRPC status that blames the caller, `UNIMPLEMENTED` | nothing | success, if the server says it |
//! | 429, `RESOURCE_EXHAUSTED` | nothing, or a failure [by choice](Policy::throttling_fails) | the same |
//! | the caller's own time was too short | nothing | nothing |
//! | a layer of ours, further inside, has refused it: a limit, an open breaker | nothing | nothing |
//! | nobody waited for it, since a time that a layer of ours has [told](crate::resilience::timeout#what-those-inside-are-told) was over | failure | failure |
//! | nobody waited for it | nothing, or a failure [by choice](Policy::cancelling_fails) | the same |
//! | nobody waited for it, and it was slow already | a slow one | failure |
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | open | [`CircuitOpen`] | 503, `Retry-After`: what is left of its wait | `UNAVAILABLE`, `grpc-retry-pushback-ms` |
//! | half open, and all probes are under way | the same | 503, `Retry-After: 1` | the same |
//!
//! # Position
//!
//! Inside of retries, which do not try again what it refuses: it would be refused again. Where there is a breaker for each
//! endpoint, the balancer leaves out who is open, so that every attempt goes to another. Inside of limits, whose refusals
//! are no failure of the server. A timeout belongs inside of it; one that is outside has to
//! [tell its time](crate::resilience::timeout::TimeoutLayer::tell_deadline), as those of our stacks do, or else what hangs
//! is never known to have failed.
//!
//! # Shared state
//!
//! The layer's clones, and all services that they make, are one breaker, or one for each key. For each server make a layer
//! of its own.
//!
//! By key there are [at most so many](Policy::max_keys). A new key takes the room of those that have done well lately; if
//! there are none, which is looked up once a second, it goes unguarded and is counted.
//!
//! Closed, a call takes no lock and allocates nothing; by key it takes the lock of one of 16 parts for a look-up.
//!
//! # Compared with tower
//!
//! tower has none. That of `tower-resilience` has a window of results that never slides, locks twice in each call, boxes
//! its futures, and is done at the head; those of `failsafe` and `recloser` let everybody in when half open.
//!
//! # Metrics
//!
//! A [`BreakerHandle`] tells where it stands and counts how often it opened and what it refused, and
//! [events](BreakerHandle::subscribe) tell of every move. Each is logged, too, to the target `portcullis::breaker`.
//!
//! [`CircuitOpen`]: crate::reject::Reason::CircuitOpen

mod circuit;
mod handle;
mod keyed;
mod layer;
mod policy;
#[cfg(test)]
mod tests;

pub use circuit::{Event, Judged};
pub use handle::BreakerHandle;
pub use layer::{Breaker, BreakerLayer, ResponseFuture};
pub use policy::Policy;
