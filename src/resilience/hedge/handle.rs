use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::Policy;
use crate::resilience::budget::Budget;

/// What calls under a [`Policy`] have come to. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct HedgeHandle {
    pub(super) policy: Policy,
}

/// Why a call that was late had no second attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HedgeStop {
    /// Its body is too long to be kept, or broke off.
    Body,
    /// There are too many second attempts already.
    Budget,
    /// What is left of its time does not suffice.
    Deadline,
    /// It may not be done twice, and nobody has said that any method may. Of a percentile that is not known yet, its least
    /// time is taken for late.
    Unsafe,
}

impl HedgeStop {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Body, Self::Budget, Self::Deadline, Self::Unsafe];

    /// The word for it in metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Unsafe => "unsafe",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) won: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) stopped: [AtomicU64; HedgeStop::ALL.len()],
}

impl Counts {
    pub(super) fn stop(&self, why: HedgeStop) {
        self.stopped[why as usize].fetch_add(1, Relaxed);
    }
}

impl HedgeHandle {
    /// Attempts that were sent beside a late one.
    #[must_use]
    pub fn hedges(&self) -> u64 {
        self.policy.counts.sent.load(Relaxed)
    }

    /// Those of them whose answer was given.
    #[must_use]
    pub fn won(&self) -> u64 {
        self.policy.counts.won.load(Relaxed)
    }

    /// Attempts that were cancelled, since another had come first.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.policy.counts.cancelled.load(Relaxed)
    }

    /// Calls that were late and had no further attempt, for this reason.
    #[must_use]
    pub fn stopped(&self, why: HedgeStop) -> u64 {
        self.policy.counts.stopped[why as usize].load(Relaxed)
    }

    /// How late an attempt must be at the moment. `None`: too few answers have come to know.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.policy.delay()
    }

    /// The budget.
    pub fn budget(&self) -> &Budget {
        &self.policy.budget
    }
}
