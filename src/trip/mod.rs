//! The machine of a circuit breaker: whether to ask somebody who has been failing lately.
//!
//! Closed, everything goes and results are counted. When too many fail it opens: nothing goes until a wait is over,
//! which grows each time it opens again. Then, half open, a few probes go; when enough of them succeed it closes, and
//! when one fails it opens again. The names are those of Release It! and Resilience4j.
//!
//! It knows neither requests nor what a failure is. Whoever asks takes an [`Entry`], and says with it how it went.
//!
//! # Example
//!
//! ```
//! use std::{num::NonZeroU32, time::Duration};
//! use portcullis::{backoff::Backoff, trip::{Policy, Trip}};
//! use tokio::time::Instant;
//!
//! const THREE: NonZeroU32 = NonZeroU32::new(3).unwrap();
//! let trip = Trip::new(Policy::new().consecutive(THREE));
//! let now = Instant::now();
//! for _ in 0..3 {
//!     trip.enter(now)?.failure(now);
//! }
//! let wait = trip.enter(now).unwrap_err().retry_after();
//! trip.enter(now + wait)?.success(now + wait);
//! assert!(trip.enter(now + wait).is_ok());
//! # Ok::<(), portcullis::trip::CircuitOpen>(())
//! ```
//!
//! # Who is to blame
//!
//! Where callers choose the words of what is asked, one of them may know words that make the other side fail. Who goes
//! [for a caller](Trip::enter_for) can say that the failure may be [its own](Entry::doubt): of each caller one such
//! failure counts within the window, and half open it takes two callers to open the machine again, none of whom gets a
//! second probe. So nobody alone keeps the others from asking, and somebody who fails for all is left alone as soon as
//! several have seen it.
//!
//! # Slow ones
//!
//! Where the policy says from when on a result is [slow](Policy::slow), the machine looks at the time from the entry to
//! the word, and opens by the share of slow ones too.
//!
//! # By hand
//!
//! A [`Mode`] forces it open or closed, or lets it only be observed. A [`Change`] is told of every move.
//!
//! # Shared state
//!
//! Clones are one machine. Closed, an entry is one atomic read and a clone of a reference, and a success one or two atomic
//! operations, whatever the window's length; only a failure adds up the window, of ten buckets or sums that are there. Who
//! is refused while it is open takes no lock either: a lock is taken to open, to close, for probes and for doubts.
//!
//! An entry that is dropped without a word counts for nothing and gives its probe back, and a probe that takes longer than
//! 10 seconds lets another go beside it: it cannot be stuck half open. What began before the machine changed its state has
//! no say in the new one. A success never opens it, not even the one by which there are enough results.

mod asked;
mod change;
mod doubts;
mod machine;
mod policy;

pub use asked::{CircuitOpen, Entry, Trip};
#[cfg(feature = "resilience")]
pub(crate) use change::Counts;
pub use change::{Cause, Change, Mode, State, Watcher};
#[cfg(feature = "upstream")]
pub(crate) use machine::PATIENCE;
#[cfg(any(feature = "resilience", feature = "upstream"))]
pub(crate) use machine::Parts;
pub use policy::Policy;

#[cfg(test)]
mod tests;
