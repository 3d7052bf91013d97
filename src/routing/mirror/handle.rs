use std::sync::atomic::{AtomicU64, Ordering};

use super::Policy;

/// Why a shadow has not run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// It read the request's body more slowly than the primary did.
    Behind,
    /// There were as many as there may be, so it was not begun.
    Busy,
    /// The primary did not read the request's body to its end, or that broke off.
    Cut,
    /// It took too long.
    Deadline,
    /// There was an error in the place of its response, or of the rest of it.
    Failed,
}

impl Dropped {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Behind, Self::Busy, Self::Cut, Self::Deadline, Self::Failed];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Busy => "busy",
            Self::Cut => "cut",
            Self::Deadline => "deadline",
            Self::Failed => "failed",
        }
    }
}

/// In what the answer of a shadow differs from the one that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Difference {
    /// The data of their bodies.
    Body,
    /// One of the headers that are compared.
    Header,
    /// The HTTP status, or the gRPC status.
    Status,
}

impl Difference {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Body, Self::Header, Self::Status];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Header => "header",
            Self::Status => "status",
        }
    }
}

/// What shadows under a [`Policy`] have come to. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct MirrorHandle {
    pub(super) policy: Policy,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    begun: AtomicU64,
    completed: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    compared: AtomicU64,
    different: AtomicU64,
    incomparable: AtomicU64,
    differences: [AtomicU64; Difference::ALL.len()],
}

impl MirrorHandle {
    /// What the mirror is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.policy.name()
    }

    /// Shadows that live.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.policy.places.taken()
    }

    /// Shadows that were begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.counts().begun.load(Ordering::Relaxed)
    }

    /// Shadows whose response was read, to its end or as far as it may be.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.counts().completed.load(Ordering::Relaxed)
    }

    /// Shadows that were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.counts().of_drop(why).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Pairs of answers that were compared.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.counts().compared.load(Ordering::Relaxed)
    }

    /// Those of them that were not the same.
    #[must_use]
    pub fn different(&self) -> u64 {
        self.counts().different.load(Ordering::Relaxed)
    }

    /// Those that differed in this; a pair may differ in several ways.
    #[must_use]
    pub fn differences(&self, of: Difference) -> u64 {
        self.counts().of_difference(of).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Pairs of which one was not there as a whole: the shadow was dropped or its response too long, or the caller has gone.
    #[must_use]
    pub fn incomparable(&self) -> u64 {
        self.counts().incomparable.load(Ordering::Relaxed)
    }

    fn counts(&self) -> &Counts {
        &self.policy.counts
    }
}

impl Counts {
    fn of_drop(&self, why: Dropped) -> Option<&AtomicU64> {
        Dropped::ALL.iter().zip(&self.dropped).find_map(|(known, count)| (*known == why).then_some(count))
    }

    fn of_difference(&self, of: Difference) -> Option<&AtomicU64> {
        let mut all = Difference::ALL.iter().zip(&self.differences);
        all.find_map(|(known, count)| (*known == of).then_some(count))
    }

    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn complete(&self) {
        self.completed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self, why: Dropped) {
        if let Some(count) = self.of_drop(why) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn cannot_compare(&self) {
        self.incomparable.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn compare(&self, differences: &[Difference]) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        if !differences.is_empty() {
            self.different.fetch_add(1, Ordering::Relaxed);
        }
        for count in differences.iter().filter_map(|of| self.of_difference(*of)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
