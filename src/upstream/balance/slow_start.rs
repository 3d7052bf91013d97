use std::time::Duration;

use crate::ratio::Ratio;

/// How an endpoint that is new, or was withheld, is given more and more: caches are cold, code is not yet compiled.
///
/// Its part grows from `min` to the whole over a window: after the time `t` it is `t / window`, to the power of
/// `1 / aggression`. Those of a set that is new altogether are given all they can get at once.
///
/// ```
/// use std::time::Duration;
/// use portcullis::upstream::{SlowStart, Upstream};
///
/// let orders = Upstream::builder("orders")
///     .endpoints(["192.0.2.1:9000", "192.0.2.2:9000"])
///     .slow_start(SlowStart::new(Duration::from_secs(60)))
///     .build()?;
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlowStart {
    window: Duration,
    min: Ratio,
    /// In hundredths, so that equal ones are equal.
    aggression: u32,
}

impl SlowStart {
    /// Over so long; from a tenth, in a straight line.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, min: Ratio::percent(10), aggression: 100 }
    }

    /// What it is given at first, of the whole. By default a tenth.
    #[must_use]
    pub const fn min(mut self, min: Ratio) -> Self {
        self.min = min;
        self
    }

    /// How steeply it begins, in percent: above 100 it is given more at first than a straight line would give it, below
    /// less. By default 100; 0 counts as 1.
    #[must_use]
    pub const fn aggression(mut self, percent: u32) -> Self {
        self.aggression = percent;
        self
    }

    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// Its part after so long, of 2^32.
    pub(super) fn part(&self, elapsed: Duration) -> u64 {
        let passed = (elapsed.as_secs_f64() / self.window.as_secs_f64()).clamp(0.0, 1.0);
        let least = f64::from(self.min.numerator()) / f64::from(self.min.denominator());
        let part = passed.powf(100.0 / f64::from(self.aggression.max(1))).max(least);
        (part * 2_f64.powi(32)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_grows_over_the_window() {
        let percent = |slow: SlowStart, secs| (slow.part(Duration::from_secs(secs)) * 100 + (1 << 31)) >> 32;
        let slow = SlowStart::new(Duration::from_secs(100));
        assert_eq!([0, 5, 10, 50, 100, 200].map(|secs| percent(slow, secs)), [10, 10, 10, 50, 100, 100]);
        assert_eq!([0, 25, 100].map(|secs| percent(slow.aggression(200), secs)), [10, 50, 100]);
        assert_eq!([0, 50, 100].map(|secs| percent(slow.aggression(50), secs)), [10, 25, 100]);
        assert_eq!(percent(slow.aggression(0), 99), 37, "0 counts as 1");
        assert_eq!(percent(slow.min(Ratio::percent(50)), 0), 50);
    }
}
