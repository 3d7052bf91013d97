//! Refuses what is least important when there is too much of everything, and what would fail anyway.
//!
//! An [`Overload`] watches this process: how late its event loop is, how much memory it takes, how long requests wait in
//! queues, whatever you give it. It makes one number of them, the pressure. A [`Shed`] refuses by it: first what is of
//! low [`Priority`](super::Priority), a growing share of it, then more. A [`SuccessRate`] looks at another server: as it fails more, it is
//! asked less.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::admission::{Priorities, Priority, shed::{Overload, Shed}};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // From 50 ms of delay on, requests are refused; from 500 ms on, all are.
//! let overload = Overload::builder().event_loop(Duration::from_millis(50)..Duration::from_millis(500)).build()?;
//! // It watches from the first request on, or from `overload.start()`.
//! let app = Shed::new(&overload).layer().layer(tower::service_fn(|_: Request<String>| async {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
//! }));
//! assert_eq!(app.oneshot(Request::new(String::new())).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::HeaderName;
//! use portcullis::{
//!     admission::{Priorities, Priority, concurrency::Concurrency, shed::{Memory, Overload, Shed, SuccessRate}},
//!     ratio::Ratio,
//! };
//! use std::{num::{NonZeroU32, NonZeroU64}, time::Duration};
//!
//! let search = Concurrency::fixed("search", NonZeroU32::new(100).unwrap()).build()?;
//! let overload = Overload::builder()
//!     .memory(Memory::resident(NonZeroU64::new(2 << 30).unwrap()), Ratio::percent(85)..Ratio::percent(95))
//!     .queue_delay(&search, Duration::from_millis(10)..Duration::from_millis(100))
//!     .source("disk", 0.9..0.99, |_| Some(0.5)) // how full it is, say
//!     .build()?;
//! let priorities = Priorities::new(Priority::Normal)
//!     .plan("gold", Priority::High)
//!     .header(HeaderName::from_static("x-priority"), "10.0.0.0/8".parse()?);
//! let shed = Shed::new(&overload).priorities(priorities).retry_after(Duration::from_secs(5));
//! let health = Shed::new(&overload).priorities(Priorities::new(Priority::Critical));
//! assert_eq!(overload.pressure(), 0.0);
//!
//! // In front of a server: of what fails more than 1 in 20 times, a share is not even tried.
//! let upstream = SuccessRate::builder().threshold(Ratio::percent(95)).build();
//! # let _ = (shed.layer(), health.layer(), upstream.layer());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC | `Retry-After` |
//! |---|---|---|---|---|
//! | the pressure is too high for this request | [`Overloaded`] | 503 | `UNAVAILABLE` | 1 s, or as [told](Shed::retry_after) |
//! | a [`SuccessRate`] expects it to fail | [`Overloaded`] | 503 | `UNAVAILABLE` | 1 s |
//!
//! # Position
//!
//! Outermost inside of access log and metrics, which see the refusals: what is refused should cost nothing else. Where
//! only the rule or the plan tells how important a request is, a second time inside of that; until then a request counts
//! as critical. A [`SuccessRate`] in front of the server that it watches.
//!
//! # Pressure
//!
//! Each source has a reading, and a range: below it the pressure is 0, above it 1, and between them it rises evenly. Once
//! it is more than 0, the range begins earlier, by a fifth of its length or half of where it begins if that is less, so
//! that it does not flutter. The highest of all sources counts. The pressure of memory that is taken and does not grow goes by
//! itself: see [`OverloadBuilder::memory`].
//!
//! | pressure | low | normal | high | critical |
//! |---|---|---|---|---|
//! | 0 | pass | pass | pass | pass |
//! | 0 to 1/3 | a rising share is refused | pass | pass | pass |
//! | 1/3 to 2/3 | refused | a rising share is refused | pass | pass |
//! | 2/3 to 1 | refused | refused | a rising share is refused | pass |
//! | 1 | refused | refused | refused | refused |
//!
//! # Shared state
//!
//! An [`Overload`] is one for all gates made of it; its one task ends when it is dropped. A [`SuccessRate`] has one window
//! for all its layers and clones.
//!
//! # Compared with tower
//!
//! `tower::load_shed` refuses whenever the service inside is not ready, everybody alike, and turns the refusal into an
//! error. Here nothing depends on `poll_ready`.
//!
//! # Metrics
//!
//! [`Overload::readings`] tells each source's reading and pressure, [`Overload::shed`] the refusals by priority,
//! [`SuccessRate::refusing`] and [`SuccessRate::refused`] theirs. Refusals have the label `overloaded` and the access-log
//! flag `OM`.
//!
//! [`Overloaded`]: crate::reject::Reason::Overloaded

mod gate;
mod memory;
mod overload;
mod ramp;
mod settle;
mod success;
#[cfg(test)]
mod tests;

pub use gate::Shed;
pub use memory::{Memory, MemoryError};
pub use overload::{Overload, OverloadBuilder, OverloadError, Reading, Tick};
pub use success::{Judged, SuccessRate, SuccessRateBuilder};
