use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What a [`TokenSource`](super::TokenSource) has done: numbers that only grow. Clones show the same ones.
#[derive(Debug, Clone, Default)]
pub struct TokenSourceHandle(pub(super) Arc<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) kept: AtomicU64,
    pub(super) fetched: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Counts {
    /// A token was had.
    pub(super) fn had(&self, now: Instant) {
        count(&self.fetched);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl TokenSourceHandle {
    /// Requests for which a token was at hand.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.0.kept.load(Relaxed)
    }

    /// How often a token was had anew.
    #[must_use]
    pub fn fetched(&self) -> u64 {
        self.0.fetched.load(Relaxed)
    }

    /// How long ago that was.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|last| last.elapsed())
    }

    /// How often none could be had.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Answers that said that a token is no good.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}
