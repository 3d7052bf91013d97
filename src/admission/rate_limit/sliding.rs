//! The sliding window, of two counts.
//!
//! Time is cut into windows of the rate's period. An account has what it spent in the running window, and what it spent
//! in the one before. Of the latter counts the part that the window which ends now still covers, as if it had been
//! spent evenly:
//!
//! ```text
//! load    = before * (period - elapsed) / period + running
//! spend   : load + cost <= count
//! ```
//!
//! So what is spent in two neighbouring windows is at most twice the count less what the first of them spent late; a
//! window of one account is never above its count by that estimate. The state is the index of the running window and
//! both counts, in 64 bits. Where these do not suffice, above some 100,000 a second, the count of the window before is
//! rounded up: by less than 1 part in 1000 at a million a second, and in 200 at ten.

use super::{
    Rate,
    judge::{Shift, Verdict},
    rate::nanos,
};

/// The longest time that is told apart: 36 years since the limit was made.
const ERA: u64 = 1 << 60;
/// The fewest bits that the count of the window before is given.
const FEWEST: u32 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlidingWindow {
    count: u32,
    /// The window in nanoseconds. Not zero.
    period: u64,
    /// The bits of the running window's count, and of that before.
    running_bits: u32,
    before_bits: u32,
    /// The bits by which the count before is rounded.
    coarse: u32,
}

/// A state, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    index: u64,
    running: u64,
    before: u64,
}

impl SlidingWindow {
    /// For states that hold up to `most` units in a window. `None` if they do not fit into 64 bits.
    pub(super) fn new(count: u32, period: u64, most: u64) -> Option<Self> {
        let bits = |number: u64| u64::BITS - number.leading_zeros();
        let both = 64 - bits(ERA.checked_div(period)?);
        // Half of them each, as far as that is enough: limits of other counts then read the same states.
        let running_bits = bits(most).max(both / 2);
        let before_bits = both.checked_sub(running_bits).filter(|&bits| bits >= running_bits.min(FEWEST))?;
        let coarse = if before_bits >= running_bits { 0 } else { running_bits + 1 - before_bits };
        Some(Self { count, period, running_bits, before_bits, coarse })
    }

    /// Whether both read the same states.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        let layout = |window: &Self| (window.period, window.running_bits, window.before_bits);
        layout(self) == layout(other)
    }

    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        if cost > self.count {
            return Verdict::Never;
        }
        let counts = self.counts(state, now);
        let (cost, count, period) = (u128::from(cost), u128::from(self.count), u128::from(self.period));
        if self.load(counts, now) + cost * period <= count * period {
            return Verdict::Spend(self.state(Counts { running: counts.running + cost as u64, ..counts }));
        }
        Verdict::Wait(self.wait(counts, now, cost as u64))
    }

    /// The units that weigh on the window that ends now, rounded up.
    pub(super) fn owed(&self, state: u64, now: u64) -> u64 {
        self.load(self.counts(state, now), now).div_ceil(u128::from(self.period)) as u64
    }

    pub(super) fn remaining(&self, state: u64, now: u64) -> u64 {
        u64::from(self.count).saturating_sub(self.owed(state, now))
    }

    pub(super) fn whole_in(&self, state: u64, now: u64) -> u64 {
        let counts = self.counts(state, now);
        let windows = match (counts.running, counts.before) {
            (0, 0) => return 0,
            (0, _) => 1,
            _ => 2,
        };
        self.start(counts.index + windows).saturating_sub(now)
    }

    pub(super) fn shift(&self, state: u64, then: u64, now: u64, shift: Shift) -> u64 {
        let mut counts = self.counts(state, now);
        let size = u64::from(shift.size());
        if shift.units >= 0 {
            let most = (u64::from(self.count) + u64::from(shift.beyond)).min((1 << self.running_bits) - 1);
            counts.running = (counts.running + size).min(most).max(counts.running);
        } else if then / self.period == counts.index {
            counts.running = counts.running.saturating_sub(size);
        } else if then / self.period + 1 == counts.index {
            counts.before = counts.before.saturating_sub(size >> self.coarse << self.coarse);
        }
        self.state(counts)
    }

    /// A state that owes at least what either does, from now on.
    pub(super) fn join(&self, one: u64, other: u64, now: u64) -> u64 {
        let (one, other) = (self.counts(one, now), self.counts(other, now));
        let index = one.index.max(other.index);
        let (one, other) = (self.rolled(one, index), self.rolled(other, index));
        let (running, before) = (one.running.max(other.running), one.before.max(other.before));
        self.state(Counts { index, running, before })
    }

    /// The same windows with another count, which is cut to what states have room for. `None` if the rate's windows are
    /// others.
    pub(super) fn counting(self, rate: Rate) -> Option<Self> {
        let count = u64::from(rate.count().get()).min((1 << self.running_bits) - 1) as u32;
        (nanos(rate.period()) == self.period).then_some(Self { count, ..self })
    }

    /// Units times nanoseconds.
    fn load(&self, counts: Counts, now: u64) -> u128 {
        let elapsed = now.saturating_sub(self.start(counts.index)).min(self.period);
        u128::from(counts.before) * u128::from(self.period - elapsed)
            + u128::from(counts.running) * u128::from(self.period)
    }

    /// When enough of the window before, or else of the running one when it is the one before, has gone by.
    fn wait(&self, counts: Counts, now: u64, cost: u64) -> u64 {
        let count = u64::from(self.count);
        let next = self.rolled(counts, counts.index + 1);
        let rooms = [(counts, count.checked_sub(counts.running + cost)), (next, Some(count - cost))];
        let at = rooms.into_iter().find_map(|(counts, room)| {
            let (room, before) = (room?, counts.before);
            let uncovered = match before > room {
                true => {
                    self.period - (u128::from(room) * u128::from(self.period) / u128::from(before)) as u64
                }
                false => 0,
            };
            // At its end a window becomes the one before, and may weigh more than it did: counts are rounded up then.
            (uncovered < self.period).then(|| self.start(counts.index) + uncovered)
        });
        at.unwrap_or_else(|| self.start(next.index + 1)).saturating_sub(now)
    }

    fn start(&self, index: u64) -> u64 {
        index.saturating_mul(self.period)
    }

    /// The counts as of now. Who reads the clock before another may come after it: the window does not go back.
    fn counts(&self, state: u64, now: u64) -> Counts {
        let low = |word: u64, bits: u32| word & ((1 << bits) - 1);
        let counts = Counts {
            index: state >> (self.running_bits + self.before_bits),
            running: low(state >> self.before_bits, self.running_bits),
            before: low(state, self.before_bits) << self.coarse,
        };
        self.rolled(counts, now / self.period)
    }

    fn rolled(&self, counts: Counts, index: u64) -> Counts {
        let before = match index.checked_sub(counts.index) {
            None | Some(0) => return counts,
            Some(1) => counts.running.div_ceil(1 << self.coarse) << self.coarse,
            Some(_) => 0,
        };
        Counts { index, running: 0, before }
    }

    /// Zero if it owes nothing.
    fn state(&self, counts: Counts) -> u64 {
        let Counts { index, running, before } = counts;
        if running == 0 && before == 0 {
            return 0;
        }
        (index << self.running_bits | running) << self.before_bits | before >> self.coarse
    }
}
