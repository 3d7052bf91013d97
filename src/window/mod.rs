//! How things went lately: counters over a window that slides, by time or by number of results.
//!
//! A [`Window<N>`](Window) keeps `N` counters, of which each result counts for some: successes, failures, slow
//! ones, whatever its owner makes of them. A result takes a few atomic operations, whatever the window's
//! length, and no lock.
//!
//! # Example
//!
//! ```
//! use std::num::NonZeroU16;
//! use std::time::Duration;
//! use portcullis::window::Window;
//! use tokio::time::Instant;
//!
//! const BUCKETS: NonZeroU16 = NonZeroU16::new(10).unwrap();
//! let window = Window::by_time(Duration::from_secs(10), BUCKETS);
//!
//! let now = Instant::now();
//! let (success, failure) = ([true, false], [false, true]);
//! window.record(now, success);
//! window.record(now + Duration::from_secs(5), failure);
//! assert_eq!(window.totals(now + Duration::from_secs(6)), [1, 1]);
//! // The success is 11 seconds old and has left, the failure stays.
//! assert_eq!(window.totals(now + Duration::from_secs(11)), [0, 1]);
//! ```
//!
//! # How exact it is
//!
//! By time, the span is divided into buckets, and a bucket leaves as a whole when its oldest result is as old
//! as the span. A result is therefore counted for at most the span, and for at least the span less one bucket.
//! Time is taken from the caller; a result told so late that its bucket has left is dropped, and one told with
//! a later time than the reader's may not be seen yet.
//!
//! By number, the window holds exactly the last results, each replacing the one that many results older.
//!
//! Threads may record and read at once. No result is lost or counted twice. A reader who looks while others
//! record sees some of their results and not others, and possibly one counter of a result but not the
//! other: each sum is off by no more than the results being recorded at that moment, and is exact when they
//! are done. A thread that is suspended while it records by number, for as long as it takes others to go once
//! round the window, puts its result in the place of a newer one.

mod counted;
mod either;
mod timed;

pub use either::Window;

#[cfg(test)]
mod tests;
