//! One step of a canary: both versions over the same time.

use std::time::Duration;

use super::{Policy, Version, evidence::Evidence, policy::Slow};

/// What became of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) failed: bool,
    /// How long it took to the head of its response, or to its end if there was none.
    pub(super) took: Duration,
    /// Nobody waited for a response. It says nothing, unless it was waited for too long.
    pub(super) given_up: bool,
}

/// Calls of one version, and how many of them were bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// All of them.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were slow.
    pub slow: u64,
}

/// What was found out in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Worse {
    /// More of the new version's calls fail.
    Failures,
    /// More of the new version's calls are slow.
    Slowness,
}

impl Worse {
    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Slowness => "slowness",
        }
    }
}

/// Compares both versions since the step began.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) old: Calls,
    pub(super) new: Calls,
    /// Those of both that were not compared yet.
    open: [Calls; 2],
    failures: Evidence,
    slowness: Evidence,
}

impl Trial {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            old: Calls::default(),
            new: Calls::default(),
            open: Default::default(),
            failures: Evidence::new(policy.margin.as_f64()),
            slowness: Evidence::new(policy.slow_margin.as_f64()),
        }
    }

    /// As soon as there are calls of both versions, they are compared. When that is does not depend on what became of them,
    /// so that each difference is what it is on average.
    pub(super) fn add(&mut self, version: Version, failed: bool, slow: bool) {
        let (all, at) = match version {
            Version::Old => (&mut self.old, 0),
            Version::New => (&mut self.new, 1),
        };
        all.add(failed, slow);
        self.open[at].add(failed, slow);
        let [old, new] = self.open;
        if old.calls > 0 && new.calls > 0 {
            self.failures.add(new.share(new.failed) - old.share(old.failed));
            self.slowness.add(new.share(new.slow) - old.share(old.slow));
            self.open = Default::default();
        }
    }

    pub(super) fn worse(&self, policy: &Policy) -> Option<Worse> {
        let error = policy.error_of_a_test();
        if self.failures.is_worse(error) {
            return Some(Worse::Failures);
        }
        (policy.slow != Slow::Never && self.slowness.is_worse(error)).then_some(Worse::Slowness)
    }

    pub(super) fn is_fine(&self, policy: &Policy) -> bool {
        let error = policy.beta.as_f64();
        self.failures.is_fine(error) && (policy.slow == Slow::Never || self.slowness.is_fine(error))
    }
}

impl Calls {
    fn add(&mut self, failed: bool, slow: bool) {
        self.calls += 1;
        self.failed += u64::from(failed);
        self.slow += u64::from(slow);
    }

    fn share(self, of: u64) -> f64 {
        of as f64 / self.calls as f64
    }
}

/// How long is slow.
#[derive(Debug)]
pub(super) enum Bound {
    Never,
    Fixed(Duration),
    /// What this share of the old version's calls do not exceed, in seconds; `None` before the first.
    Quantile(f64, Option<f64>),
}

/// By how much an estimate of a quantile moves, in proportion.
const STEP: f64 = 0.1;
/// The least estimate, in seconds.
const LEAST: f64 = 1e-6;

impl Bound {
    pub(super) fn new(slow: Slow) -> Self {
        match slow {
            Slow::Never => Self::Never,
            Slow::Than(time) => Self::Fixed(time),
            Slow::ThanOld(share) => Self::Quantile(share.as_f64(), None),
        }
    }

    /// Whether a call of this length is slow, by what is known from calls before.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        match self {
            Self::Never | Self::Quantile(_, None) => false,
            Self::Fixed(most) => took > *most,
            Self::Quantile(_, Some(most)) => took.as_secs_f64() > *most,
        }
    }

    /// A call of the old version took so long.
    pub(super) fn learn(&mut self, took: Duration) {
        let Self::Quantile(share, at) = self else { return };
        let took = took.as_secs_f64();
        *at = Some(match *at {
            None => took.max(LEAST),
            // Robbins and Monro: up by much when it is exceeded, down by little when not, so that it rests where that is even.
            Some(most) if took > most => most * (STEP * *share).exp(),
            Some(most) => (most * (STEP * (*share - 1.0)).exp()).max(LEAST),
        });
    }

    /// In force now.
    pub(super) fn now(&self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::Fixed(most) => Some(*most),
            Self::Quantile(_, most) => most.and_then(|most| Duration::try_from_secs_f64(most).ok()),
        }
    }
}
