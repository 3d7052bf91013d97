//! What became of a request, decided at the end of its response body.
//!
//! One word for everybody who must know: retry, breaker, balancing, metrics, logs. Most middleware stops at the
//! response's head and counts a gRPC call that failed in its trailers as a success. An [`Outcome`] is decided when
//! the body has ended, and each observer is told exactly once, at its own position.
//!
//! A body has ended with its last frame, its trailers, or a frame after which it says so; when `Content-Length` is
//! reached; and at once in answer to HEAD, with 204 and with 304. Servers drop bodies unpolled in those cases, and
//! that is no cancellation. A body dropped after a head that already failed is that failure. Only the rest is
//! [`End::Cancelled`].

mod completion;
mod course;
mod failure;
mod judgement;
mod word;

pub use completion::Completion;
#[cfg(feature = "upstream")]
pub(crate) use course::Course;
pub use failure::Failure;
pub(crate) use failure::rejection_in;
#[cfg(feature = "upstream")]
pub(crate) use failure::{is_bad_chunk, is_refused_stream};
#[cfg(feature = "resilience")]
pub(crate) use failure::{is_connect, is_refused};
pub use judgement::Judgement;
#[cfg(feature = "resilience")]
pub(crate) use word::is_events;
#[cfg(any(feature = "resilience", feature = "upstream"))]
pub(crate) use word::lasts;
pub use word::{End, Outcome, Verdict};
