//! Where a layer takes its random decisions from: shared, seeded, without a lock.
//!
//! Every layer that rolls dice (a split without a key, a fault, a jitter, a share) is given a [`Chance`]. With
//! a seed its decisions are the same in every run. It is not for secrets: who sees its numbers can tell the
//! next ones.
//!
//! # Example
//!
//! ```
//! use portcullis::chance::Chance;
//! use portcullis::ratio::Ratio;
//!
//! let chance = Chance::seeded(7);
//! let again = Chance::seeded(7);
//! assert_eq!(chance.next(), again.next());
//!
//! assert!(chance.below(6) < 6);
//! assert!(chance.ratio(Ratio::ALWAYS));
//! ```

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "upstream")]
use std::time::Duration;

use crate::ratio::Ratio;

/// The step of `SplitMix64`: odd, so that the counter visits every `u64` before it repeats.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A source of random `u64`: `SplitMix64` over an atomic counter.
///
/// Clones draw from the same sequence. A draw is one atomic addition and a few multiplications; threads that
/// draw at once never get the same number of the sequence twice.
#[derive(Clone)]
pub struct Chance {
    state: Arc<AtomicU64>,
}

impl Chance {
    /// A source that nobody can predict from outside the process.
    #[must_use]
    pub fn new() -> Self {
        // The standard hasher is keyed by the operating system's generator.
        Self::seeded(RandomState::new().hash_one(GOLDEN))
    }

    /// A source whose numbers depend on `seed` only.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: Arc::new(AtomicU64::new(seed)) }
    }

    /// A name that no other has: 16 hexadecimal digits of the next number.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("{:016x}", self.next())
    }

    /// The next number, even over all of `u64`.
    #[must_use]
    #[inline]
    pub fn next(&self) -> u64 {
        mix(self.state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN))
    }

    /// A number below `bound`, each as likely as the other; 0 if `bound` is 0.
    #[must_use]
    #[inline]
    pub fn below(&self, bound: u64) -> u64 {
        // Lemire, "Fast Random Integer Generation in an Interval" (2019): the high half of a product, and a
        // new draw for the few products that would favour some numbers.
        let mut product = u128::from(self.next()) * u128::from(bound);
        if low(product) < bound {
            let unfair = bound.wrapping_neg() % bound;
            while low(product) < unfair {
                product = u128::from(self.next()) * u128::from(bound);
            }
        }
        high(product)
    }

    /// Less than `most`, each time as likely as the other; nothing if that is nothing. Of more than 584 years it is a part.
    #[cfg(feature = "upstream")]
    pub(crate) fn up_to(&self, most: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// `true` in this share of the cases.
    #[must_use]
    #[inline]
    pub fn ratio(&self, ratio: Ratio) -> bool {
        ratio.admits(self.next())
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chance").finish_non_exhaustive()
    }
}

/// A number that no other thread, process or machine draws, but for an accident of 1 in 2^128. It is no secret.
///
/// Each thread has a source of its own, keyed by the operating system, so that threads share nothing.
#[cfg(feature = "telemetry")]
pub(crate) fn distinct() -> u128 {
    thread_local!(static OWN: std::cell::Cell<Option<[u64; 2]>> = const { std::cell::Cell::new(None) });
    let state = OWN.get().unwrap_or_else(|| {
        let keyed = RandomState::new();
        [keyed.hash_one(0), keyed.hash_one(1)]
    });
    let next = state.map(|half| half.wrapping_add(GOLDEN));
    OWN.set(Some(next));
    let [high, low] = next.map(mix);
    u128::from(high) << 64 | u128::from(low)
}

/// The finalizer of `SplitMix64`: another number for each, far from that of its neighbours.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn low(product: u128) -> u64 {
    product as u64
}

fn high(product: u128) -> u64 {
    (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::thread;

    #[test]
    fn follows_splitmix64() {
        // The first outputs of the reference implementation (Vigna, splitmix64.c) for the seed 1234567.
        let chance = Chance::seeded(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([chance.next(), chance.next(), chance.next()], expected);
    }

    #[test]
    fn clones_share_one_sequence() {
        let chance = Chance::seeded(1);
        let clone = chance.clone();
        let alone = Chance::seeded(1);
        for _ in 0..100 {
            assert_eq!(chance.next(), alone.next());
            assert_eq!(clone.next(), alone.next());
        }
    }

    #[test]
    fn unseeded_sources_differ() {
        assert_ne!(Chance::new().next(), Chance::new().next());
    }

    #[test]
    fn threads_never_draw_the_same() {
        let chance = Chance::seeded(3);
        let drawn: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..10_000).map(|_| chance.next()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 40_000);
    }

    #[test]
    fn is_even_below_a_bound() {
        let chance = Chance::seeded(11);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[usize::try_from(chance.below(6)).unwrap()] += 1;
        }
        // Six standard deviations of a binomial with n = 60,000 and p = 1/6 are 548.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 548), "{counts:?}");
    }

    #[test]
    fn keeps_a_share() {
        let chance = Chance::seeded(5);
        let hits = (0..100_000).filter(|_| chance.ratio(Ratio::percent(2))).count();
        // Six standard deviations are 266.
        assert!(hits.abs_diff(2_000) < 266, "{hits}");
        assert!((0..1_000).all(|_| !chance.ratio(Ratio::NEVER) && chance.ratio(Ratio::ALWAYS)));
    }

    proptest! {
        #[test]
        fn below_is_below(seed: u64, bound: u64) {
            let number = Chance::seeded(seed).below(bound);
            prop_assert!(number < bound || (bound == 0 && number == 0));
        }
    }
}
