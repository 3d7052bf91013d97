//! The accounts of one limit, in tables that are locked one by one.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::{
    gcra::nanos,
    table::{Fingerprint, Table},
};

/// So that two threads seldom meet, and a rebuild stays short.
const MOST_SHARDS: u32 = 256;
/// So that the shards of a full store are about equally full.
const LEAST_SHARE: u32 = 1024;

pub(super) struct Store {
    shards: Box<[Shard]>,
    /// Times are nanoseconds since then.
    epoch: Instant,
    share: u32,
}

/// A cache line of its own.
#[repr(align(64))]
struct Shard(Mutex<Table>);

impl Store {
    /// A store for at most `most` accounts.
    pub(super) fn with_most(most: NonZeroU32) -> Self {
        let shards = prev_power_of_two((most.get() / LEAST_SHARE).clamp(1, MOST_SHARDS));
        let share = most.get() / shards;
        let shard = || Shard(Mutex::new(Table::with_most(share)));
        Self {
            shards: std::iter::repeat_with(shard).take(shards as usize).collect(),
            epoch: Instant::now(),
            share,
        }
    }

    /// The nanoseconds from the store's beginning to `now`.
    pub(super) fn clock(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// Locks the table that has this account. Whoever holds one of this store's tables must not lock another.
    pub(super) fn open(&self, key: Fingerprint) -> MutexGuard<'_, Table> {
        // The high half picks the shard, and the low half the slot.
        let at = (key >> 64) as usize & (self.shards.len() - 1);
        self.shards[at].lock()
    }

    /// The accounts that it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.share as usize * self.shards.len()
    }

    /// Adds up what `read` finds in each table.
    pub(super) fn sum<T: std::iter::Sum>(&self, read: impl Fn(&Table) -> T) -> T {
        self.shards.iter().map(|shard| read(&shard.lock())).sum()
    }
}

impl Shard {
    /// Nothing panics under the lock, so that a table is whole even where its lock is said to be poisoned.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prev_power_of_two(n: u32) -> u32 {
    1 << n.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_capacity_is_never_above_what_was_asked() {
        for most in [1, 2, 100, 1023, 1024, 5000, 65_536, 1_000_000, 10_000_000] {
            let store = Store::with_most(NonZeroU32::new(most).unwrap());
            let capacity = store.capacity();
            assert!(
                capacity <= most as usize && capacity * 100 >= most as usize * 99,
                "{capacity} of {most}"
            );
        }
    }

    #[test]
    fn a_shard_is_one_cache_line() {
        assert_eq!(size_of::<Shard>(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_went_back_reads_zero() {
        let now = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let store = Store::with_most(NonZeroU32::MIN);
        assert_eq!(store.clock(now), 0);
        assert_eq!(store.clock(now + std::time::Duration::from_secs(3)), 2_000_000_000);
    }
}
