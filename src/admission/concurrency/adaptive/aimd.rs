use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use super::{LimitAlgorithm, Seen, word::fraction};
use crate::ratio::Ratio;

/// Additive increase, multiplicative decrease, as Netflix's `AIMDLimit`, one step a window:
///
/// ```text
/// dropped, or rtt > timeout:   limit' = ⌊limit · backoff⌋
/// in flight · 2 >= limit:      limit' = limit + 1
/// else                         limit' = limit
/// ```
///
/// always within its bounds. It knows no latency but `timeout`: for servers that say 503 when they are full.
#[derive(Debug, Clone)]
#[must_use]
pub struct Aimd {
    limit: u32,
    bounds: RangeInclusive<u32>,
    backoff: Ratio,
    timeout: Duration,
    tolerance: Ratio,
}

impl Aimd {
    /// It begins at 20, between 2 and 1,000, shrinks by a tenth, and has a timeout of 5 s.
    pub const fn new() -> Self {
        Self {
            limit: 20,
            bounds: 2..=1000,
            backoff: Ratio::percent(90),
            timeout: Duration::from_secs(5),
            tolerance: Ratio::percent(2),
        }
    }

    /// How many requests may be in flight at first.
    pub fn initial(mut self, limit: NonZeroU32) -> Self {
        self.limit = limit.get().clamp(*self.bounds.start(), *self.bounds.end());
        self
    }

    /// Its bounds. The greater of the two is the upper one.
    pub fn bounds(mut self, one: NonZeroU32, other: NonZeroU32) -> Self {
        self.bounds = one.min(other).get()..=one.max(other).get();
        self.limit = self.limit.clamp(*self.bounds.start(), *self.bounds.end());
        self
    }

    /// What is left of the limit when something was dropped.
    pub const fn backoff(mut self, backoff: Ratio) -> Self {
        self.backoff = backoff;
        self
    }

    /// A latency that is as bad as a drop.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The share of drops that is borne. 2% unless told; the original bears none.
    pub const fn drop_tolerance(mut self, share: Ratio) -> Self {
        self.tolerance = share;
        self
    }
}

impl Default for Aimd {
    fn default() -> Self {
        Self::new()
    }
}

impl LimitAlgorithm for Aimd {
    fn limit(&self) -> u32 {
        self.limit
    }

    fn resume(&mut self, limit: u32) {
        self.limit = limit.clamp(*self.bounds.start(), *self.bounds.end());
    }

    fn step(&mut self, seen: &Seen) -> u32 {
        let limit = self.limit;
        let next = if seen.drops_more_than(self.tolerance) || seen.rtt.is_some_and(|rtt| rtt > self.timeout) {
            (f64::from(limit) * fraction(self.backoff)) as u32
        } else if u64::from(seen.in_flight) * 2 >= u64::from(limit) {
            limit.saturating_add(1)
        } else {
            limit
        };
        self.limit = next.clamp(*self.bounds.start(), *self.bounds.end());
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    proptest! {
        /// Without tolerance it is the published formula.
        #[test]
        fn it_is_the_published_formula(
            steps in proptest::collection::vec((1_u64..10_000, 0_u32..300, 0_u32..3), 1..200),
        ) {
            let mut aimd = Aimd::new().bounds(some(5), some(200)).drop_tolerance(Ratio::NEVER);
            let mut reference = 20_u32;
            for (ms, in_flight, drops) in steps {
                let rtt = Duration::from_millis(ms);
                // AIMDLimit._update
                if drops > 0 || rtt > Duration::from_secs(5) {
                    reference = (f64::from(reference) * 0.9) as u32;
                } else if in_flight * 2 >= reference {
                    reference += 1;
                }
                reference = 200.min(5.max(reference));
                prop_assert_eq!(aimd.step(&Seen::new(rtt, in_flight, 10).drops(drops)), reference);
            }
        }
    }

    /// A server that refuses what is over its capacity is found within a tenth, and stays found.
    #[test]
    fn it_finds_the_capacity() {
        for capacity in [10, 50, 400] {
            let mut aimd = Aimd::new();
            let (mut sum, mut steps) = (0, 0);
            for step in 0..3000 {
                let limit = aimd.limit();
                let drops = limit.saturating_sub(capacity);
                let seen = Seen::new(Duration::from_millis(10), limit, limit - drops).drops(drops);
                aimd.step(&seen);
                if step >= 1000 {
                    (sum, steps) = (sum + aimd.limit(), steps + 1);
                }
            }
            let mean = sum / steps;
            assert!((capacity * 9 / 10..=capacity * 11 / 10 + 1).contains(&mean), "{capacity}: {mean}");
        }
    }
}
