use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{answer::Verdict, ask::Failure};

/// What became of the questions to one authorizer: numbers that only grow. Clones show the same ones.
#[derive(Clone, Debug, Default)]
pub struct ExternalAuthHandle(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    remembered: AtomicU64,
}

impl ExternalAuthHandle {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests that passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.0.passed.load(Relaxed)
    }

    /// Requests that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    /// Requests about which there was no verdict.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// How many of those that passed or were refused did so by an answer from before.
    #[must_use]
    pub fn remembered(&self) -> u64 {
        self.0.remembered.load(Relaxed)
    }

    pub(super) fn count(&self, told: &Result<Verdict, Failure>) {
        let number = match told {
            Ok(Verdict::Pass(_)) => &self.0.passed,
            Ok(Verdict::Refuse(_)) => &self.0.refused,
            Err(_) => &self.0.failed,
        };
        number.fetch_add(1, Relaxed);
    }

    pub(super) fn count_remembered(&self) {
        self.0.remembered.fetch_add(1, Relaxed);
    }
}
