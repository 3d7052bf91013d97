use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What an [`Introspection`](super::Introspection) has done: numbers that only grow. Clones show the same ones.
#[derive(Debug, Clone, Default)]
pub struct IntrospectionHandle(pub(super) Arc<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) active: AtomicU64,
    pub(super) inactive: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unasked: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl IntrospectionHandle {
    /// Tokens about which nobody had to be asked: the answer was remembered.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Relaxed)
    }

    /// Calls after which a token was good for us.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.0.active.load(Relaxed)
    }

    /// Calls after which a token was not: inactive, or for somebody else.
    #[must_use]
    pub fn inactive(&self) -> u64 {
        self.0.inactive.load(Relaxed)
    }

    /// Calls that got no answer that could be used.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Requests that were refused without a call: the breaker is open, or too many calls are under way.
    #[must_use]
    pub fn unasked(&self) -> u64 {
        self.0.unasked.load(Relaxed)
    }

    /// All calls that have ended.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.active() + self.inactive() + self.failed()
    }
}
