//! A bounded map whose entries end, read without a lock: for answers that are dear to find out again.
//!
//! Verified tokens, answers of an introspection endpoint and of an external authorizer, and old answers are kept in it.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use portcullis::cache::{Cache, Domain, Item};
//! use tokio::time::Instant;
//!
//! let cache: Cache<bool> = Cache::new(1_000, 1 << 20);
//! let (domain, now) = (Domain::unique(), Instant::now());
//! let expires = now + Duration::from_secs(60);
//! cache.insert(Item { domain, key: (*b"a question").into(), value: true, weight: 0, expires }, now);
//!
//! assert_eq!(cache.read(domain, b"a question", now, |answer| *answer), Some(true));
//! assert_eq!(cache.read(domain, b"a question", expires, |answer| *answer), None);
//! assert_eq!(cache.read(Domain::unique(), b"a question", now, |answer| *answer), None);
//! ```
//!
//! # What is kept
//!
//! The table is divided into sets of eight places, and a key has its place in one of them. A new entry takes the place
//! of its key's old one, or else an empty one, or one whose entry has expired, or that of the entry of its set that was
//! not read for the longest. If all entries together would be larger than the cap, more are dropped, set by set, until it
//! fits. An entry larger than the cap is not kept. So nobody ever waits for room, and who floods the cache makes it
//! forget, but not grow.
//!
//! As many keys as there are places do not all find one: about one in seven shares its set with eight others. What has
//! expired is not handed out, and stays in memory until its place is wanted.
//!
//! # Which entry is read
//!
//! The one whose domain and whole key are the same, byte by byte. The hash, which has a secret of its own, only tells
//! where to look: keys that collide drop each other, and never answer for each other.
//!
//! # Why not another map
//!
//! A read is a hash, eight comparisons of numbers and one guarded pointer: nothing is locked, nobody is counted, and two
//! threads that read one entry do not write to the same memory more than once in a millisecond. `quick_cache` takes a
//! lock in every read, though a shared one, and writes to it; `papaya` reads without a lock and has no bound, no expiry
//! and no order of use, so that each of these would be a second structure, kept in step with the first.

mod table;

pub use table::{Cache, Domain, Item};

#[cfg(test)]
mod tests;
