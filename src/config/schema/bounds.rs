//! Bounds of several fields, and those that are others', too. What is beyond them would bound nothing.

use crate::admission::rate_limit::Limit;

/// Accounts: 5 GB of them.
pub(super) const KEYS: u32 = 100_000_000;
/// The memory of so many.
pub(super) const BYTES: u64 = KEYS as u64 * Limit::BYTES;
/// Instances of a gateway.
pub(super) const INSTANCES: u32 = 200_000;
/// Requests in flight, or waiting, and what is kept for each of them: more than one process holds.
pub(super) const REQUESTS: u32 = 1_000_000;

/// No more are counted.
#[cfg(feature = "redis")]
const _: () = assert!(INSTANCES == crate::admission::rate_limit::Distribution::MOST_INSTANCES);
