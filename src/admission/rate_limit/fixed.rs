//! The fixed window of the calendar.
//!
//! ```text
//! spend   : spent in the running window + cost <= count
//! wait    : until the next window begins
//! ```
//!
//! The state is the index of the window and what was spent in it. What was spent above the count, as answers that are
//! charged for after they were given may, is carried into the next window as far as an account may be in debt: what was
//! spent under a larger plan is not.
//!
//! Wall clocks step. An account that is in a window which has not begun yet, by a clock that has gone back since, stays
//! there until the window is over: no window of the calendar has more than its count. But a clock that has gone back by
//! more than a whole window was wrong by so much that nobody can be held to it: the account begins anew.

use super::{
    Rate,
    judge::{Shift, Verdict},
    rate::nanos,
    windows::Windows,
};
use crate::time::Calendar;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedWindow {
    count: u32,
    /// What is carried at most.
    debt: u32,
    windows: Windows,
    /// The bits of what was spent. The rest have the index.
    pub(super) bits: u32,
}

impl FixedWindow {
    /// A count and what is carried at most, for states that hold up to `most` units in a window. `None` if a window is shorter
    /// than a second, or if there is no room for so much.
    pub(super) fn new((count, debt): (u32, u32), period: u64, zone: Calendar, most: u64) -> Option<Self> {
        let windows = Windows::new(period, zone)?;
        // What the last index leaves.
        let bits = windows.last().leading_zeros();
        (u64::BITS - most.leading_zeros() <= bits).then_some(Self { count, debt, windows, bits })
    }

    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        if cost > self.count {
            return Verdict::Never;
        }
        let (index, spent) = self.spent(state, now);
        let spent = spent + u64::from(cost);
        match spent.checked_sub(self.count()) {
            None | Some(0) => Verdict::Spend(self.state(index, spent)),
            Some(_) => {
                let late = (self.carried((index, spent - u64::from(cost)), index + 1) + u64::from(cost))
                    .saturating_sub(self.count());
                let windows = 1 + late.div_ceil(self.count());
                Verdict::Wait(self.windows.start(index + windows).saturating_sub(now))
            }
        }
    }

    /// What was spent of the running window.
    pub(super) fn owed(&self, state: u64, now: u64) -> u64 {
        self.spent(state, now).1
    }

    pub(super) fn remaining(&self, state: u64, now: u64) -> u64 {
        self.count().saturating_sub(self.owed(state, now))
    }

    pub(super) fn whole_in(&self, state: u64, now: u64) -> u64 {
        match self.spent(state, now) {
            (_, 0) => 0,
            (index, spent) => {
                let windows = 1 + self.carried((index, spent), index + 1).div_ceil(self.count());
                self.windows.start(index + windows).saturating_sub(now)
            }
        }
    }

    pub(super) fn shift(&self, state: u64, then: u64, now: u64, shift: Shift) -> u64 {
        let (index, spent) = self.spent(state, now);
        let size = u64::from(shift.size());
        let spent = match shift.units {
            units if units >= 0 => {
                let most = (self.count() + u64::from(shift.beyond.min(self.debt))).min((1 << self.bits) - 1);
                (spent + size).min(most).max(spent)
            }
            _ if self.windows.index(then) == index => spent.saturating_sub(size),
            _ => spent,
        };
        self.state(index, spent)
    }

    /// A state that owes at least what either does, from now on.
    pub(super) fn join(&self, one: u64, other: u64, now: u64) -> u64 {
        let (one, other) = (self.spent(one, now), self.spent(other, now));
        let index = one.0.max(other.0);
        self.state(index, self.carried(one, index).max(self.carried(other, index)))
    }

    /// The same windows with another count, which is cut to what states have room for. `None` if the rate's windows are
    /// others.
    pub(super) fn counting(self, rate: Rate) -> Option<Self> {
        let count = u64::from(rate.count().get()).min((1 << self.bits) - 1) as u32;
        (nanos(rate.period()) == self.windows.period()).then_some(Self { count, ..self })
    }

    /// Whether both read the same states.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        (self.windows, self.bits) == (other.windows, other.bits)
    }

    fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// The window, and what was spent in it.
    fn spent(&self, state: u64, now: u64) -> (u64, u64) {
        let here = self.windows.index(now);
        let held = (state >> self.bits, state & ((1 << self.bits) - 1));
        match held.0 {
            index if index == here || index == here + 1 => held,
            index if index > here => (here, 0),
            _ => (here, self.carried(held, here)),
        }
    }

    /// What is left of it in a later window.
    fn carried(&self, (index, spent): (u64, u64), later: u64) -> u64 {
        let Some(further) = (later - index).checked_sub(1) else { return spent };
        let debt = spent.saturating_sub(self.count()).min(self.debt.into());
        debt.saturating_sub(further.saturating_mul(self.count()))
    }

    /// Zero if it owes nothing.
    fn state(&self, index: u64, spent: u64) -> u64 {
        if spent == 0 { 0 } else { index << self.bits | spent }
    }
}
