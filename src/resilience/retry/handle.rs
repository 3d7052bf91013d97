use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{attempt::RetryStop, resilience::budget::Budget};

/// What calls under a [`Policy`](super::Policy) have come to. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct RetryHandle {
    pub(super) counts: Arc<Counts>,
    pub(super) budget: Budget,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    retries: AtomicU64,
    recovered: AtomicU64,
    stopped: [AtomicU64; RetryStop::ALL.len()],
}

impl RetryHandle {
    /// Attempts that were made beside the first.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.counts.retries.load(Ordering::Relaxed)
    }

    /// Calls that failed at first and ended well: as their [`Outcome`](crate::outcome::Outcome) says at the end of the
    /// response, trailers included.
    #[must_use]
    pub fn recovered(&self) -> u64 {
        self.counts.recovered.load(Ordering::Relaxed)
    }

    /// Calls that failed and were not tried again, for this reason.
    #[must_use]
    pub fn stopped(&self, why: RetryStop) -> u64 {
        self.counts.stopped[why as usize].load(Ordering::Relaxed)
    }

    /// The budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Counts {
    pub(super) fn retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn recover(&self) {
        self.recovered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stop(&self, why: RetryStop) {
        self.stopped[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}
