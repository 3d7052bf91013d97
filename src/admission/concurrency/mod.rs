//! Bounds how many requests are in flight: a bulkhead of a fixed size, or one that finds its size by itself.
//!
//! A request has its place until the body of its response has ended, or its tunnel has closed. (On a server that is not ours,
//! the response with status 101 has to bring a [`Tunnel`](crate::tunnel::Tunnel).) Who finds no place is refused at once, or waits in a
//! bounded [`Queue`]. A limit is for all together, or for [each key](ConcurrencyBuilder::by).
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::admission::concurrency::Concurrency;
//! use std::num::NonZeroU32;
//! use tower::{Layer, Service, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let reports = Concurrency::fixed("reports", NonZeroU32::new(1).unwrap()).build()?;
//! let app = reports.layer().layer(tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("a long report")))
//! }));
//! let first = app.clone().oneshot(Request::new(String::new())).await?;
//! assert_eq!(app.clone().oneshot(Request::new(String::new())).await?.status(), 503);
//! drop(first); // its body has ended
//! assert_eq!(app.clone().oneshot(Request::new(String::new())).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use portcullis::{
//!     admission::concurrency::{Concurrency, Gradient, Order, Partitions, Queue},
//!     key::Key,
//!     ratio::Ratio,
//! };
//! use std::{num::NonZeroU32, time::Duration};
//!
//! let some = |n| NonZeroU32::new(n).unwrap();
//! // 5 uploads at a time for each customer, and a few more wait.
//! let uploads = Concurrency::fixed("uploads", some(5))
//!     .by(Key::Principal)
//!     .queue(Queue::new(some(10)).timeout(Duration::from_millis(500)))
//!     .build()?;
//!
//! // As many as the search takes, of which the paid plan has half for certain.
//! let search = Concurrency::adaptive("search", Gradient::new().bounds(some(4), some(400)))
//!     .partitions(Partitions::by_plan().share("gold", Ratio::percent(50)))
//!     .queue(Queue::new(some(50)).order(Order::Newest).codel(Duration::from_millis(10), Duration::from_millis(100)))
//!     .build()?;
//! assert_eq!(search.handle().limit(), 20); // where it begins
//! # let _ = uploads.layer();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|---|
//! | no place is free, and nobody may wait, or too many do | [`Overloaded`] | 503 | `UNAVAILABLE` | 1 s, or as [told](ConcurrencyBuilder::retry_after) |
//! | the queue's timeout, or the caller's deadline, has passed | [`Overloaded`] | 503 | `UNAVAILABLE` | the same |
//! | the queue [stands](Queue::codel), or somebody more important came | [`Overloaded`] | 503 | `UNAVAILABLE` | the same |
//!
//! # Position
//!
//! As near as can be to what it protects, inside of all that may refuse for another reason: who waits or holds a place
//! there would have got in. Limits by [`Principal`] inside of authentication. Outside of timeouts, so that a wait is no
//! attempt; the queue has a timeout of its own. A limit that adapts must see all traffic of what it measures, and stands
//! inside of nothing that answers by itself, such as a cache.
//!
//! # Shared state
//!
//! A [`Concurrency`] is the limit: its clones, in however many layers, routes and listeners, count together. A
//! [`ConcurrencyHandle`] looks at it. After a reload it is the same limit under [other terms](Concurrency::redefine): who is
//! in flight or waits counts on.
//!
//! # How it waits
//!
//! Who finds a place and nobody waiting takes it by one atomic exchange. A place that becomes free is handed to who waits,
//! so nobody who comes later overtakes. A caller who goes away leaves the queue at once, and a place that was just given to
//! them goes to the next. A queue takes one small allocation for each who waits, and a lock held for a few instructions.
//!
//! A limit by key keeps only keys that have requests in flight or waiting, at most
//! [`max_keys`](ConcurrencyBuilder::max_keys) of them; those for whom there is no room share the places of one key.
//!
//! # Compared with tower
//!
//! `tower::limit::ConcurrencyLimit` is a semaphore for each service it makes, gives its permit back when the response's head
//! has come, waits for ever in `poll_ready`, and knows no keys. `tower::load_shed` then refuses everything that would wait.
//!
//! # Metrics
//!
//! [`ConcurrencyHandle`] tells limit, in flight, waiting, queue delay, and how many were queued, refused, dropped, timed
//! out, and spared by a limit in shadow. Refusals have the label `overloaded` and the access-log flag `OM`; the detail names the limit.
//!
//! [`Overloaded`]: crate::reject::Reason::Overloaded
//! [`Principal`]: crate::key::Key::Principal

mod adaptive;
mod codel;
mod gate;
mod handle;
mod keyed;
mod limit;
mod partition;
mod permit;
mod pool;
mod queue;
mod slots;
#[cfg(test)]
mod tests;

pub use adaptive::{Aimd, Gradient, Latency, LimitAlgorithm, Seen};
pub use handle::ConcurrencyHandle;
pub use limit::{Concurrency, ConcurrencyBuilder, ConcurrencyError};
pub use partition::Partitions;
pub use permit::{Held, Told, Wait};
pub use queue::{Order, Queue};
