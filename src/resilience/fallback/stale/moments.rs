use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use tokio::time::Instant;

/// How many there are.
const PLACES: u64 = 1024;

/// When what has a name was changed last, in bounded memory: names that share a place are changed together.
pub(super) struct Moments {
    hasher: RandomState,
    born: Instant,
    last: Box<[AtomicU64]>,
}

/// The place of a name.
#[derive(Clone, Copy)]
pub(in crate::resilience::fallback) struct Place(usize);

impl Moments {
    pub(super) fn new() -> Self {
        let last = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { hasher: RandomState::new(), born: Instant::now(), last }
    }

    pub(super) fn place(&self, name: &[u8]) -> Place {
        Place((self.hasher.hash_one(name) % PLACES) as usize)
    }

    /// It is no longer what it was.
    pub(super) fn change(&self, Place(at): Place) {
        self.last[at].fetch_max(self.moment(Instant::now()), SeqCst);
    }

    /// Whether it may have changed since.
    pub(super) fn changed_since(&self, Place(at): Place, then: Instant) -> bool {
        self.moment(then) <= self.last[at].load(SeqCst)
    }

    /// Milliseconds, from 1.
    fn moment(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}
