use std::{num::NonZeroU32, time::Duration};

use crate::{
    backoff::{Backoff, Jitter},
    ratio::Ratio,
};

const ONE: NonZeroU32 = NonZeroU32::MIN;
const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// When a machine opens, for how long, and when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) consecutive: Option<NonZeroU32>,
    pub(super) ratio: Ratio,
    pub(super) least: NonZeroU32,
    pub(super) window: Duration,
    pub(super) wait: Backoff,
    pub(super) probes: NonZeroU32,
    pub(super) successes: NonZeroU32,
}

impl Policy {
    /// Opens after 5 failures in a row, or when half of at least 20 results of the last 10 seconds are failures; waits
    /// 1 second, growing to 30 while it keeps opening, half of it random; and closes when one probe succeeds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            consecutive: NonZeroU32::new(5),
            ratio: Ratio::percent(50),
            least: TWENTY,
            window: Duration::from_secs(10),
            wait: Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(30)).jitter(Jitter::Equal),
            probes: ONE,
            successes: ONE,
        }
    }

    /// Sets how many failures in a row open it; `None`: no number does.
    #[must_use]
    pub fn consecutive(mut self, failures: impl Into<Option<NonZeroU32>>) -> Self {
        self.consecutive = failures.into();
        self
    }

    /// Sets which share of failures opens it, from how many results on. [`Ratio::NEVER`]: no share does.
    #[must_use]
    pub fn ratio(mut self, failures: Ratio, least: NonZeroU32) -> Self {
        (self.ratio, self.least) = (failures, least);
        self
    }

    /// Sets over how long the share is taken.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets how long it stays open, the nth time without having closed between.
    #[must_use]
    pub fn wait(mut self, wait: Backoff) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how many probes are under way at once when it is half open, and how many must succeed for it to close.
    #[must_use]
    pub fn probes(mut self, at_once: NonZeroU32, successes: NonZeroU32) -> Self {
        (self.probes, self.successes) = (at_once, successes);
        self
    }

    pub(super) fn opens(&self, consecutive: u32, [successes, failures]: [u64; 2]) -> bool {
        let all = successes + failures;
        let by_share = self.ratio != Ratio::NEVER
            && all >= u64::from(self.least.get())
            && u128::from(failures) * u128::from(self.ratio.denominator())
                >= u128::from(all) * u128::from(self.ratio.numerator());
        by_share || self.consecutive.is_some_and(|most| consecutive >= most.get())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
