//! The fixed window of the calendar.
//!
//! ```text
//! spend   : spent in the running window + cost <= count
//! wait    : until the next window begins
//! ```
//!
//! The state is the index of the window and what was spent in it. What was spent above the count, as answers that are
//! charged for after they were given may, is carried into the next window.
//!
//! Wall clocks step. An account that is in a window which has not begun yet, by a clock that has gone back since, stays
//! there until the window is over: no window of the calendar has more than its count. But a clock that has gone back by
//! more than a whole window was wrong by so much that nobody can be held to it: the account begins anew.

use super::{
    Rate,
    judge::{Shift, Verdict},
    rate,
    rate::nanos,
};
use crate::time::{Calendar, date::Civil};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = rate::DAY * SECOND;
const DAY_SECONDS: i64 = rate::DAY.cast_signed();
const WEEK: u64 = 7 * DAY;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY: u64 = 4 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FixedWindow {
    count: u32,
    windows: Windows,
    /// The bits of what was spent. The rest have the index.
    bits: u32,
}

/// How time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Windows {
    /// Into so many nanoseconds, the first of them beginning so many after 1970.
    Every { period: u64, from: u64 },
    /// Into so many months, by clocks that are so many seconds ahead of UTC.
    Months { months: i64, ahead: i64 },
}

impl FixedWindow {
    /// For states that hold up to `most` units in a window. `None` if a window is shorter than a second.
    pub(super) fn new(count: u32, period: u64, zone: Calendar, most: u64) -> Option<Self> {
        let ahead = i64::from(zone.minutes_ahead_of_utc()) * 60;
        let windows = match period {
            0..SECOND => return None,
            MONTH => Windows::Months { months: 1, ahead },
            YEAR => Windows::Months { months: 12, ahead },
            _ => {
                let monday = if period.is_multiple_of(WEEK) { FIRST_MONDAY } else { 0 };
                let from = i128::from(monday) - i128::from(ahead) * i128::from(SECOND);
                Windows::Every { period, from: from.rem_euclid(period.into()) as u64 }
            }
        };
        Some(Self { count, windows, bits: u64::BITS - most.leading_zeros() })
    }

    pub(super) fn judge(&self, state: u64, now: u64, cost: u32) -> Verdict {
        if cost > self.count {
            return Verdict::Never;
        }
        let (index, spent) = self.spent(state, now);
        let spent = spent + u64::from(cost);
        match spent.checked_sub(self.count()) {
            None | Some(0) => Verdict::Spend(self.state(index, spent)),
            Some(over) => Verdict::Wait(self.start(index + over.div_ceil(self.count())).saturating_sub(now)),
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
            (index, spent) => self.start(index + spent.div_ceil(self.count())).saturating_sub(now),
        }
    }

    pub(super) fn shift(&self, state: u64, then: u64, now: u64, shift: Shift) -> u64 {
        let (index, spent) = self.spent(state, now);
        let size = u64::from(shift.size());
        let spent = match shift.units {
            units if units >= 0 => {
                let most = (self.count() + u64::from(shift.beyond)).min((1 << self.bits) - 1);
                (spent + size).min(most).max(spent)
            }
            _ if self.index(then) == index => spent.saturating_sub(size),
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
        (nanos(rate.period()) == self.period()).then_some(Self { count, ..self })
    }

    /// As rates have it, where a month has 30 days.
    fn period(&self) -> u64 {
        match self.windows {
            Windows::Every { period, .. } => period,
            Windows::Months { months: 1, .. } => MONTH,
            Windows::Months { .. } => YEAR,
        }
    }

    fn count(&self) -> u64 {
        u64::from(self.count)
    }

    /// The window, and what was spent in it.
    fn spent(&self, state: u64, now: u64) -> (u64, u64) {
        let here = self.index(now);
        let held = (state >> self.bits, state & ((1 << self.bits) - 1));
        match held.0 {
            index if index == here || index == here + 1 => held,
            index if index > here => (here, 0),
            _ => (here, self.carried(held, here)),
        }
    }

    /// What is left of it in a later window.
    fn carried(&self, (index, spent): (u64, u64), later: u64) -> u64 {
        spent.saturating_sub((later - index).saturating_mul(self.count()))
    }

    /// Zero if it owes nothing.
    fn state(&self, index: u64, spent: u64) -> u64 {
        if spent == 0 { 0 } else { index << self.bits | spent }
    }

    fn index(&self, now: u64) -> u64 {
        match self.windows {
            Windows::Every { period, from } => (now + period - from) / period,
            Windows::Months { months, ahead } => {
                let day = ((now / SECOND).cast_signed() + ahead).div_euclid(DAY_SECONDS);
                let Civil { year, month, .. } = Civil::of_days(day);
                ((year * 12 + month - 1) / months).cast_unsigned()
            }
        }
    }

    /// The time at which a window begins.
    fn start(&self, index: u64) -> u64 {
        match self.windows {
            Windows::Every { period, from } => {
                index.saturating_mul(period).saturating_add(from).saturating_sub(period)
            }
            Windows::Months { months, ahead } => {
                let month = index.cast_signed() * months;
                let first = Civil { year: month / 12, month: month % 12 + 1, day: 1 };
                u64::try_from(first.days() * DAY_SECONDS - ahead).unwrap_or_default().saturating_mul(SECOND)
            }
        }
    }
}
