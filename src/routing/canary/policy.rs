use std::time::Duration;

use crate::ratio::Ratio;

/// How a new version is given more of the calls, and when they are taken away. See the [module docs](super).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Policy {
    /// From nothing to all.
    pub(super) shares: Box<[Ratio]>,
    pub(super) least_time: Duration,
    pub(super) least_calls: u64,
    pub(super) alpha: Ratio,
    pub(super) beta: Ratio,
    pub(super) margin: Ratio,
    pub(super) slow: Slow,
    pub(super) slow_margin: Ratio,
    pub(super) caller_faults: bool,
    pub(super) paused: bool,
}

/// Which calls are slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// None: how long calls take is not compared.
    Never,
    /// Those that take longer than this to the head of their response.
    Than(Duration),
    /// Those that take longer than this share of the old version's do, as learnt from those before: 99% is its p99.
    ThanOld(Ratio),
}

/// Why a policy is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// There is no step, or one is not larger than the one before.
    #[error("each step has to be more than the one before, the first more than nothing")]
    Steps,
    /// An error or a margin is nothing or all.
    #[error("has to be more than nothing and less than all")]
    Share,
}

impl Policy {
    /// These shares of the calls, one after the other, and then all. What else it is by default is told at each method.
    ///
    /// # Errors
    ///
    /// If a share is not larger than the one before, or there is none.
    pub fn new(steps: impl IntoIterator<Item = Ratio>) -> Result<Self, InvalidPolicy> {
        let mut shares = vec![Ratio::NEVER];
        for share in steps {
            if shares.last().is_some_and(|last| *last >= share) {
                return Err(InvalidPolicy::Steps);
            }
            shares.push(share);
        }
        if shares.len() == 1 {
            return Err(InvalidPolicy::Steps);
        }
        if shares.last() != Some(&Ratio::ALWAYS) {
            shares.push(Ratio::ALWAYS);
        }
        Ok(Self { shares: shares.into(), ..Self::default() })
    }

    /// How long a step lasts at least. 5 minutes unless told.
    pub fn least_time(self, time: Duration) -> Self {
        Self { least_time: time, ..self }
    }

    /// How many calls of the new version a step has at least. 100 unless told.
    pub fn least_calls(self, calls: u64) -> Self {
        Self { least_calls: calls, ..self }
    }

    /// How often a new version that is no worse is rolled back, at most: over the whole schedule, all its tests together.
    /// 5% unless told.
    ///
    /// # Errors
    ///
    /// If it is nothing, or all.
    pub fn alpha(self, error: Ratio) -> Result<Self, InvalidPolicy> {
        Ok(Self { alpha: some(error)?, ..self })
    }

    /// How often a new version that is worse by the margin passes, at most. 5% unless told.
    ///
    /// # Errors
    ///
    /// If it is nothing, or all.
    pub fn beta(self, error: Ratio) -> Result<Self, InvalidPolicy> {
        Ok(Self { beta: some(error)?, ..self })
    }

    /// By how much more of all calls the new version's have to fail to be caught as [`beta`](Self::beta) says. The smaller,
    /// the more calls a step takes. 1% unless told.
    ///
    /// # Errors
    ///
    /// If it is nothing, or all.
    pub fn margin(self, margin: Ratio) -> Result<Self, InvalidPolicy> {
        Ok(Self { margin: some(margin)?, ..self })
    }

    /// Which calls are slow. Those that take longer than the old version's p99 unless told.
    pub fn slow(self, slow: Slow) -> Self {
        Self { slow, ..self }
    }

    /// By how much more of all calls the new version's have to be slow to be caught. 5% unless told.
    ///
    /// # Errors
    ///
    /// If it is nothing, or all.
    pub fn slow_margin(self, margin: Ratio) -> Result<Self, InvalidPolicy> {
        Ok(Self { slow_margin: some(margin)?, ..self })
    }

    /// Whether what the caller did wrong (4xx, and what gRPC has of them) counts as failed: a new version that knows nobody
    /// any more answers 401 to everybody. `false` unless told.
    pub fn caller_faults(self, count: bool) -> Self {
        Self { caller_faults: count, ..self }
    }

    /// Begins paused and without any calls, until somebody says so: blue-green. It begins at once unless told.
    pub fn paused(self) -> Self {
        Self { paused: true, ..self }
    }

    /// The shares: nothing, those of the steps, and all.
    #[must_use]
    pub fn shares(&self) -> &[Ratio] {
        &self.shares
    }

    /// Whether versions are compared at this place of the shares: each has some.
    pub(super) fn is_trial(&self, at: usize) -> bool {
        0 < at && at < self.last()
    }

    pub(super) fn last(&self) -> usize {
        self.shares.len() - 1
    }

    /// Each test may err so often that all of them together err no more than `alpha`.
    pub(super) fn error_of_a_test(&self) -> f64 {
        let of_a_step = if self.slow == Slow::Never { 1 } else { 2 };
        let tests = self.last().saturating_sub(1).max(1) * of_a_step;
        self.alpha.as_f64() / tests as f64
    }
}

impl Default for Policy {
    /// 1%, 5%, 25%, all.
    fn default() -> Self {
        let percents = [0, 1, 5, 25, 100];
        Self {
            shares: percents.map(Ratio::percent).into(),
            least_time: Duration::from_secs(5 * 60),
            least_calls: 100,
            alpha: Ratio::percent(5),
            beta: Ratio::percent(5),
            margin: Ratio::percent(1),
            slow: Slow::ThanOld(Ratio::percent(99)),
            slow_margin: Ratio::percent(5),
            caller_faults: false,
            paused: false,
        }
    }
}

fn some(share: Ratio) -> Result<Ratio, InvalidPolicy> {
    if share == Ratio::NEVER || share == Ratio::ALWAYS { Err(InvalidPolicy::Share) } else { Ok(share) }
}
