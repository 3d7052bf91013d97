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

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = rate::DAY * SECOND;
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
    /// Into so many nanoseconds, one of them beginning so many after 1970.
    Every { period: u64, from: u64 },
    /// Into so many months of the calendar.
    Months(u64),
}

impl FixedWindow {
    /// For states that hold up to `most` units in a window. `None` if a window is shorter than a second.
    pub(super) fn new(count: u32, period: u64, most: u64) -> Option<Self> {
        let windows = match period {
            0..SECOND => return None,
            MONTH => Windows::Months(1),
            YEAR => Windows::Months(12),
            _ if period.is_multiple_of(WEEK) => Windows::Every { period, from: FIRST_MONDAY },
            _ => Windows::Every { period, from: 0 },
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
            Windows::Months(1) => MONTH,
            Windows::Months(_) => YEAR,
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
            Windows::Every { period, from } => (now + period - from % period) / period,
            Windows::Months(months) => month_of(now / DAY) / months,
        }
    }

    /// The time at which a window begins.
    fn start(&self, index: u64) -> u64 {
        match self.windows {
            Windows::Every { period, from } => {
                index.saturating_mul(period).saturating_add(from % period).saturating_sub(period)
            }
            Windows::Months(months) => days_before(index * months).saturating_mul(DAY),
        }
    }
}

/// The months from 1970 to the one of this day (days from 1970-01-01; the civil calendar, by way of years that begin in
/// March).
fn month_of(day: u64) -> u64 {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    (era * 400 + year) * 12 + (5 * day + 2) / 153 + 2 - 1970 * 12
}

/// The days from 1970 to the first of a month.
fn days_before(month: u64) -> u64 {
    let month = month + 1970 * 12 - 2;
    let (year, month) = (month / 12, month % 12);
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 - 719_468
}
