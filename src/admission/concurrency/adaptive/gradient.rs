use std::{num::NonZeroU32, time::Duration};

use super::{LimitAlgorithm, Seen, word::fraction};
use crate::{chance::Chance, ratio::Ratio};

/// By how latency rises over what it was for long: Netflix's `Gradient2Limit`, one step a window.
///
/// ```text
/// long      = exponential average of rtt over `long_window` windows (a plain mean of the first 10)
/// long/rtt > 2:  long = long · 0.95                        (after an overload, back to normal sooner)
/// gradient  = max(0.5, min(1, tolerance · long / rtt))
/// new       = limit · gradient + queue
/// limit'    = limit · (1 - smoothing) + new · smoothing
/// ```
///
/// always within its bounds; while less than half of the limit is in flight it stays as it is. What the original lacks:
///
/// - **Drops**: if more than a tolerated share of a window was dropped, `limit' = limit · backoff`.
/// - **Probes**: in a lasting overload the long average learns to take the queue for normal, and the limit drifts up.
///   So every so many windows, if the limit is in use, only half of it is let in until no more than that is in flight and
///   latencies fall no further (20 windows at most). Until the next probe `long` counts for no more than what was seen
///   then. If latencies have halved as well, the other half did nothing but queue: the limit stays halved, and it probes
///   again soon. Half of the limit, and not the 3 requests of Envoy's probe: no visible dip. The first probe comes after
///   20 windows; when the others come is varied by a quarter, so that instances do not probe together.
#[derive(Debug)]
#[must_use]
pub struct Gradient {
    limit: f64,
    min: f64,
    max: f64,
    smoothing: f64,
    queue: f64,
    tolerance: f64,
    backoff: f64,
    drops: Ratio,
    long: Average,
    probes: Option<Probes>,
}

/// When the limit is lowered to see how fast things can be.
#[derive(Debug)]
struct Probes {
    every: u32,
    chance: Chance,
    phase: Phase,
    /// What was seen the last time.
    seen: f64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// In so many windows.
    In(u32),
    /// For so many windows at most, since latencies were `before`; the least was `least`, once they can be believed.
    Looking { left: u32, before: f64, least: f64 },
}

/// The windows of a probe, and those until the next one if the limit was halved.
const PROBE: u32 = 20;
const SOON: u32 = 10;
/// Latencies that have fallen to this share, when half was let in, have halved.
const HALVED: f64 = 0.55;

impl Gradient {
    /// It begins at 20, between 2 and 1,000, with a tolerance of 1.5, a smoothing of 0.2, a queue of 4, and a long average
    /// over 600 windows; shrinks by a tenth if more than 2% are dropped; and probes every 100 windows.
    pub fn new() -> Self {
        Self {
            limit: 20.0,
            min: 2.0,
            max: 1000.0,
            smoothing: 0.2,
            queue: 4.0,
            tolerance: 1.5,
            backoff: 0.9,
            drops: Ratio::percent(2),
            long: Average::new(600),
            probes: None,
        }
        .probe_every(NonZeroU32::new(100))
    }

    /// How many requests may be in flight at first.
    pub fn initial(mut self, limit: NonZeroU32) -> Self {
        self.limit = f64::from(limit.get()).clamp(self.min, self.max);
        self
    }

    /// Its bounds. The greater of the two is the upper one.
    pub fn bounds(mut self, one: NonZeroU32, other: NonZeroU32) -> Self {
        (self.min, self.max) = (f64::from(one.min(other).get()), f64::from(one.max(other).get()));
        self.limit = self.limit.clamp(self.min, self.max);
        self
    }

    /// How much longer than the average requests may take before the limit shrinks: at least by nothing (1.0).
    pub const fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance.max(1.0);
        self
    }

    /// The share of each step that is taken.
    pub fn smoothing(mut self, share: Ratio) -> Self {
        self.smoothing = fraction(share);
        self
    }

    /// How many requests are wanted to wait at the server, so that the limit can grow.
    pub fn queue(mut self, length: u32) -> Self {
        self.queue = f64::from(length);
        self
    }

    /// The windows of the long average.
    pub fn long_window(mut self, windows: NonZeroU32) -> Self {
        self.long = Average::new(windows.get());
        self
    }

    /// What is left of the limit when more than this share of a window was dropped.
    pub fn drops(mut self, tolerated: Ratio, backoff: Ratio) -> Self {
        (self.drops, self.backoff) = (tolerated, fraction(backoff));
        self
    }

    /// After how many windows it probes; `None`: never, as the original.
    pub fn probe_every(mut self, windows: Option<NonZeroU32>) -> Self {
        self.probes = windows.map(|windows| {
            let every = windows.get();
            Probes { every, chance: Chance::new(), phase: Phase::In(every.min(20)), seen: f64::INFINITY }
        });
        self
    }

    /// Where the chance comes from that varies the probes.
    pub fn chance(mut self, chance: Chance) -> Self {
        if let Some(probes) = &mut self.probes {
            probes.chance = chance;
        }
        self
    }

    /// The limit of a probe, if this is a window for one.
    fn probe(&mut self, rtt: f64, in_flight: u32) -> Option<u32> {
        let half = (self.limit / 2.0).max(self.min) as u32;
        let probes = self.probes.as_mut()?;
        match probes.phase {
            Phase::In(0) if f64::from(in_flight) >= self.limit / 2.0 => {
                probes.phase = Phase::Looking { left: PROBE, before: rtt, least: f64::INFINITY };
                Some(half)
            }
            Phase::In(windows) => {
                probes.phase = Phase::In(windows.saturating_sub(1));
                None
            }
            Phase::Looking { left, before, least } => {
                // What came in before the probe was in flight with more.
                let fell = in_flight > half || rtt < least * 0.95;
                if fell && left > 0 {
                    let least = if in_flight > half { least } else { rtt };
                    probes.phase = Phase::Looking { left: left - 1, before, least };
                    return Some(half);
                }
                probes.seen = rtt.min(least);
                if probes.seen <= before * HALVED {
                    self.limit = self.limit.min(f64::from(half).max(self.min));
                    probes.phase = Phase::In(SOON);
                } else {
                    let earlier = probes.chance.below(u64::from(probes.every / 4) + 1);
                    probes.phase = Phase::In(probes.every - u32::try_from(earlier).unwrap_or_default());
                }
                // What was seen under half of the limit says nothing of the limit.
                Some(self.limit as u32)
            }
        }
    }
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new()
    }
}

impl LimitAlgorithm for Gradient {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn resume(&mut self, limit: u32) {
        self.limit = f64::from(limit).clamp(self.min, self.max);
    }

    fn step(&mut self, seen: &Seen) -> u32 {
        if seen.drops_more_than(self.drops) {
            self.limit = (self.limit * self.backoff).max(self.min);
            return self.limit();
        }
        let Some(rtt) = seen.rtt.map(|rtt| rtt.max(Duration::from_nanos(1)).as_secs_f64()) else {
            return self.limit();
        };
        if let Some(limit) = self.probe(rtt, seen.in_flight) {
            return limit;
        }
        let ceiling = self.probes.as_ref().map_or(f64::INFINITY, |probes| probes.seen);
        let long = self.long.add(rtt).min(ceiling);
        if long / rtt > 2.0 {
            self.long.value *= 0.95;
        }
        if f64::from(seen.in_flight) >= self.limit / 2.0 {
            let gradient = (self.tolerance * long / rtt).clamp(0.5, 1.0);
            let new = self.limit * gradient + self.queue;
            let smooth = self.limit * (1.0 - self.smoothing) + new * self.smoothing;
            self.limit = smooth.clamp(self.min, self.max);
        }
        self.limit()
    }
}

/// An exponential average that begins as a plain mean, so that the first sample is not half of the truth.
#[derive(Debug)]
struct Average {
    value: f64,
    sum: f64,
    count: u32,
    factor: f64,
}

impl Average {
    const WARM_UP: u32 = 10;

    fn new(window: u32) -> Self {
        Self { value: 0.0, sum: 0.0, count: 0, factor: 2.0 / (f64::from(window) + 1.0) }
    }

    fn add(&mut self, sample: f64) -> f64 {
        if self.count < Self::WARM_UP {
            self.count += 1;
            self.sum += sample;
            self.value = self.sum / f64::from(self.count);
        } else {
            self.value = self.value * (1.0 - self.factor) + sample * self.factor;
        }
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).unwrap()
    }

    /// `Gradient2Limit._update` and `ExpAvgMeasurement.add`, line by line.
    struct Published {
        limit: f64,
        long: f64,
        sum: f64,
        count: u32,
    }

    impl Published {
        fn update(&mut self, rtt: f64, in_flight: u32) -> u32 {
            if self.count < 10 {
                self.count += 1;
                self.sum += rtt;
                self.long = self.sum / f64::from(self.count);
            } else {
                let factor = 2.0 / 601.0;
                self.long = self.long * (1.0 - factor) + rtt * factor;
            }
            let long = self.long;
            if long / rtt > 2.0 {
                self.long *= 0.95;
            }
            if f64::from(in_flight) < self.limit / 2.0 {
                return self.limit as u32;
            }
            let gradient = (1.5 * long / rtt).clamp(0.5, 1.0);
            let mut new = self.limit * gradient + 4.0;
            new = self.limit * (1.0 - 0.2) + new * 0.2;
            self.limit = new.clamp(20.0, 200.0);
            self.limit as u32
        }
    }

    proptest! {
        /// Without probes and drops it is the published formula.
        #[test]
        fn it_is_the_published_formula(
            steps in proptest::collection::vec((1_u64..1_000_000, 0_u32..300), 1..1500),
        ) {
            let mut gradient = Gradient::new().bounds(some(20), some(200)).probe_every(None);
            let mut published = Published { limit: 20.0, long: 0.0, sum: 0.0, count: 0 };
            for (us, in_flight) in steps {
                let rtt = Duration::from_micros(us);
                let limit = gradient.step(&Seen::new(rtt, in_flight, 10));
                prop_assert_eq!(limit, published.update(rtt.as_secs_f64(), in_flight));
            }
        }

        /// Whatever is seen, the limit stays within its bounds, does not grow unless it is in use, and shrinks by drops.
        #[test]
        fn it_keeps_its_laws(
            steps in proptest::collection::vec((1_u64..10_000_000, 0_u32..2000, 0_u32..20), 1..500),
        ) {
            let mut gradient = Gradient::new().bounds(some(3), some(500)).probe_every(NonZeroU32::new(7));
            for (us, in_flight, drops) in steps {
                let before = gradient.limit;
                let seen = Seen::new(Duration::from_micros(us), in_flight, 10).drops(drops);
                let told = gradient.step(&seen);
                prop_assert!((3..=500).contains(&told) && (3.0..=500.0).contains(&gradient.limit));
                if f64::from(in_flight) < before / 2.0 {
                    prop_assert!(gradient.limit <= before, "it grew, and nobody needs it");
                }
                if drops > 0 {
                    prop_assert!(gradient.limit <= (before * 0.9).max(3.0));
                }
            }
        }
    }

    /// A server with so many workers, asked for more than it can: where the limit comes to rest.
    fn rests_at(mut gradient: Gradient, workers: u32, windows: u32) -> f64 {
        let service = Duration::from_millis(20);
        let mut sum = 0.0;
        let mut limit = gradient.limit();
        for window in 0..windows {
            let rtt = service.mul_f64((f64::from(limit) / f64::from(workers)).max(1.0));
            limit = gradient.step(&Seen::new(rtt, limit, 100));
            if window >= windows / 2 {
                sum += gradient.limit;
            }
        }
        sum / f64::from(windows - windows / 2)
    }

    #[test]
    fn a_lasting_overload_does_not_make_it_drift() {
        for workers in [10, 50, 200] {
            let probing = rests_at(Gradient::new().chance(Chance::seeded(1)), workers, 20_000);
            let ratio = probing / f64::from(workers);
            assert!((0.95..=2.0).contains(&ratio), "{workers} workers, limit {probing}");
        }
        // What the probes are for: the original takes its own queue for normal, up to its upper bound.
        let original = rests_at(Gradient::new().probe_every(None), 50, 20_000);
        assert!(original > 500.0, "{original}");
    }

    #[test]
    fn it_grows_to_what_is_needed() {
        let rest = rests_at(Gradient::new(), 5_000, 3_000);
        assert!(rest > 990.0, "nothing queues below 5,000, so it is the upper bound: {rest}");
    }

    #[test]
    fn a_probe_is_two_windows_of_half() {
        let mut gradient = Gradient::new().probe_every(NonZeroU32::new(3)).chance(Chance::seeded(1));
        let seen = |limit| Seen::new(Duration::from_millis(10), limit, 100);
        let mut limits = vec![gradient.limit()];
        for _ in 0..7 {
            limits.push(gradient.step(&seen(*limits.last().unwrap())));
        }
        assert_eq!(limits[..7], [20, 20, 21, 22, 11, 11, 22]);
    }

    #[test]
    fn a_limit_that_is_far_too_high_is_halved_soon() {
        let gradient =
            Gradient::new().bounds(some(2), some(2000)).initial(some(2000)).chance(Chance::seeded(1));
        let rest = rests_at(gradient, 20, 300);
        assert!((19.0..=40.0).contains(&rest), "{rest}");
    }
}
