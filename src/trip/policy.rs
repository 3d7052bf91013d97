use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::Cause;
use crate::{
    backoff::{Backoff, Jitter},
    ratio::Ratio,
    window::Window,
};

const ONE: NonZeroU32 = NonZeroU32::MIN;
const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();
const BUCKETS: NonZeroU16 = NonZeroU16::new(10).unwrap();

/// When a machine opens, for how long, and when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) consecutive: Option<NonZeroU32>,
    pub(super) ratio: Ratio,
    pub(super) slow: Option<(Duration, Ratio)>,
    pub(super) least: NonZeroU32,
    pub(super) over: Over,
    pub(super) wait: Backoff,
    pub(super) probes: NonZeroU32,
    pub(super) successes: NonZeroU32,
}

/// What shares are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Time(Duration),
    Results(NonZeroU16),
}

impl Policy {
    /// Opens after 5 failures in a row, or when half of at least 20 results of the last 10 seconds are failures; waits
    /// 1 second, growing to 30 while it keeps opening, half of it random; and closes when one probe succeeds. How long
    /// anything takes does not matter.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            consecutive: NonZeroU32::new(5),
            ratio: Ratio::percent(50),
            slow: None,
            least: TWENTY,
            over: Over::Time(Duration::from_secs(10)),
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

    /// Opens, too, when this share took `from` or longer, of as many results as [`ratio`](Self::ratio) wants. Then a probe
    /// that is slow is one that fails.
    #[must_use]
    pub fn slow(mut self, from: Duration, share: Ratio) -> Self {
        self.slow = (share != Ratio::NEVER).then_some((from, share));
        self
    }

    /// Sets over how long shares are taken.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.over = Over::Time(window);
        self
    }

    /// Takes shares over the last `results`, however old they are.
    #[must_use]
    pub fn last(mut self, results: NonZeroU16) -> Self {
        self.over = Over::Results(results);
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

    /// Whether results are remembered at all.
    pub(super) fn has_shares(&self) -> bool {
        self.ratio != Ratio::NEVER || self.slow.is_some()
    }

    /// Room for the results of so many threads that do not get into each other's way.
    pub(super) fn windows(&self, threads: usize) -> Box<[Window<3>]> {
        match self.over {
            Over::Time(window) => (0..threads).map(|_| Window::by_time(window, BUCKETS)).collect(),
            // The last ones are the last of all threads.
            Over::Results(results) => Box::new([Window::by_count(results)]),
        }
    }

    /// For how long the word of a caller in doubt counts.
    pub(super) fn memory(&self) -> Duration {
        match self.over {
            Over::Time(window) => window,
            Over::Results(_) => Duration::from_secs(10),
        }
    }

    /// Whether these open it: failures in a row, and of the window successes, failures and slow ones.
    pub(super) fn opens(&self, consecutive: u32, [successes, failures, slow]: [u64; 3]) -> Option<Cause> {
        let all = successes + failures;
        let reached = |some: u64, share: Ratio| {
            share != Ratio::NEVER
                && all >= u64::from(self.least.get())
                && u128::from(some) * u128::from(share.denominator())
                    >= u128::from(all) * u128::from(share.numerator())
        };
        if self.consecutive.is_some_and(|most| consecutive >= most.get()) {
            Some(Cause::Consecutive)
        } else if reached(failures, self.ratio) {
            Some(Cause::FailureRate)
        } else if self.slow.is_some_and(|(_, share)| reached(slow, share)) {
            Some(Cause::SlowRate)
        } else {
            None
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
