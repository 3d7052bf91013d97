use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    partition::Share,
    pool::{Pool, Spots},
};

/// A view of a limit, for operators and tests.
#[derive(Debug, Clone)]
pub struct ConcurrencyHandle(Arc<Pool>);

impl ConcurrencyHandle {
    pub(super) const fn new(pool: Arc<Pool>) -> Self {
        Self(pool)
    }

    /// The limit's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.live.name
    }

    /// How many requests may be in flight now; of one key, if each has its own.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.0.live.limit()
    }

    /// How many requests are in flight, of all keys.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.live.in_flight()
    }

    /// How many requests wait for a place.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.0.live.waiting()
    }

    /// How long the one who came first has waited.
    #[must_use]
    pub fn queue_delay(&self) -> Duration {
        self.0.live.queue_delay()
    }

    /// The keys that have requests in flight, and how many may be told apart. Nothing of a limit without a key.
    #[must_use]
    pub fn keys(&self) -> Option<(usize, usize)> {
        match &self.0.live.spots {
            Spots::Keyed(keyed) => Some((keyed.keys(), keyed.capacity())),
            Spots::Shared(_) => None,
        }
    }

    /// The partitions: name, in flight, and the places that are its own.
    #[must_use]
    pub fn partitions(&self) -> Vec<(Arc<str>, u32, u32)> {
        let limit = self.limit();
        let shares = self.0.partitions.iter().flat_map(|divided| &divided.shares);
        let read = |share: &Share| {
            (Arc::clone(&share.partition.name), share.partition.in_flight(), share.places(limit))
        };
        shares.map(read).collect()
    }

    /// How many requests had to wait.
    #[must_use]
    pub fn queued(&self) -> u64 {
        read(&self.0.live.counts.queued)
    }

    /// How many requests were refused at once.
    #[must_use]
    pub fn refused(&self) -> u64 {
        read(&self.0.live.counts.full)
    }

    /// How many requests were refused after they had waited for the whole timeout of the queue.
    #[must_use]
    pub fn timed_out(&self) -> u64 {
        read(&self.0.live.counts.timed_out)
    }

    /// How many requests were dropped from the queue: it was too slow, or somebody more important came.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        read(&self.0.live.counts.dropped)
    }

    /// How many requests passed only because the limit is in shadow.
    #[must_use]
    pub fn spared(&self) -> u64 {
        read(&self.0.live.counts.spared)
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
