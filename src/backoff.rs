//! How long to wait before the next attempt: exponential, capped, with jitter.
//!
//! Attempts that wait equally long come back together and fail together. Full jitter spreads them over the
//! whole time, which is what Envoy does and what is done here unless told otherwise.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use portcullis::backoff::Backoff;
//! use portcullis::chance::Chance;
//!
//! let chance = Chance::new();
//! assert!(Backoff::default().delay(1, &chance) < Duration::from_millis(25));
//! assert!(Backoff::default().delay(2, &chance) < Duration::from_millis(75));
//! assert!(Backoff::default().delay(9, &chance) < Duration::from_millis(250));
//! ```
//!
//! # Example, customised
//!
//! ```
//! use std::time::Duration;
//! use portcullis::backoff::{Backoff, Jitter};
//! use portcullis::chance::Chance;
//!
//! let backoff = Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(5)).jitter(Jitter::None);
//! let delays = [1, 2, 3, 4].map(|retry| backoff.delay(retry, &Chance::new()).as_secs());
//! assert_eq!(delays, [1, 3, 5, 5]);
//! ```

use std::time::Duration;

use crate::chance::Chance;

/// Which part of a delay is left to chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// A random half on top of a fixed half: never shorter than half of what grows.
    Equal,
    /// All of it: anything from nothing to what grows.
    #[default]
    Full,
    /// Nothing: it only grows. Callers who fail together come back together.
    None,
}

/// Exponential delays: retry `n` waits up to `(2^n - 1) * base`, and never longer than `max`.
///
/// With the defaults, 25 ms and 250 ms, these are 25, 75, 175 and then 250 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    jitter: Jitter,
}

impl Backoff {
    /// Delays that begin at `base` and grow to ten times that, with full jitter.
    #[must_use]
    pub const fn new(base: Duration) -> Self {
        Self { base, max: base.saturating_mul(10), jitter: Jitter::Full }
    }

    /// Sets what no delay exceeds.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets which part of a delay is left to chance.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// How long to wait before retry `retry`, counted from 1. Retry 0, the first attempt, does not wait.
    #[must_use]
    pub fn delay(&self, retry: u32, chance: &Chance) -> Duration {
        let ceiling = self.ceiling(retry);
        let fixed = match self.jitter {
            Jitter::Equal => ceiling / 2,
            Jitter::Full => 0,
            Jitter::None => ceiling,
        };
        Duration::from_nanos(fixed + chance.below(ceiling - fixed))
    }

    /// In nanoseconds, of which a `u64` holds 584 years.
    fn ceiling(&self, retry: u32) -> u64 {
        let factor = 1u128.checked_shl(retry.min(64)).map_or(u128::MAX, |power| power - 1);
        let grown = self.base.as_nanos().saturating_mul(factor).min(self.max.as_nanos());
        u64::try_from(grown).unwrap_or(u64::MAX)
    }
}

impl Default for Backoff {
    /// Envoy's: from 25 ms to 250 ms, with full jitter.
    fn default() -> Self {
        Self::new(Duration::from_millis(25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn grows_as_envoy_documents_it() {
        let ceilings =
            [0, 1, 2, 3, 4, 5, u32::MAX].map(|retry| Backoff::default().ceiling(retry) / 1_000_000);
        assert_eq!(ceilings, [0, 25, 75, 175, 250, 250, 250]);
    }

    #[test]
    fn full_jitter_is_even_over_the_whole() {
        let chance = Chance::seeded(1);
        let mut quarters = [0u32; 4];
        for _ in 0..40_000 {
            let delay = Backoff::default().delay(4, &chance);
            quarters[usize::try_from(delay.as_nanos() * 4 / (250 * MS).as_nanos()).unwrap()] += 1;
        }
        // Six standard deviations of a binomial with n = 40,000 and p = 1/4 are 520.
        assert!(quarters.iter().all(|count| count.abs_diff(10_000) < 520), "{quarters:?}");
    }

    #[test]
    fn the_same_seed_waits_the_same() {
        let delays = || {
            let chance = Chance::seeded(9);
            (1..20).map(|retry| Backoff::default().delay(retry, &chance)).collect::<Vec<_>>()
        };
        assert_eq!(delays(), delays());
    }

    #[test]
    fn a_cap_below_the_base_is_still_a_cap() {
        let backoff = Backoff::new(100 * MS).max(10 * MS).jitter(Jitter::None);
        assert_eq!(backoff.delay(1, &Chance::seeded(0)), 10 * MS);
    }

    fn any_duration() -> impl Strategy<Value = Duration> {
        prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (0..10_000u64).prop_map(Duration::from_millis),
            any::<Duration>(),
        ]
    }

    proptest! {
        #[test]
        fn keeps_its_bounds(base in any_duration(), max in any_duration(), retry: u32, seed: u64) {
            let chance = Chance::seeded(seed);
            let with = |jitter| Backoff::new(base).max(max).jitter(jitter).delay(retry, &chance);
            let grown = with(Jitter::None);
            prop_assert!(grown <= max);
            prop_assert!(grown <= base.saturating_mul(2u32.checked_pow(retry).unwrap_or(u32::MAX)) || retry > 31);
            prop_assert!(with(Jitter::Full) < grown || grown.is_zero());
            let equal = with(Jitter::Equal);
            prop_assert!(equal >= grown / 2 && (equal < grown || grown.is_zero()));
        }

        #[test]
        fn never_shrinks(base in any_duration(), max in any_duration(), retry in 0..u32::MAX) {
            let backoff = Backoff::new(base).max(max);
            prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(retry + 1));
        }
    }
}
