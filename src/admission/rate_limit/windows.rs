//! How the calendar is cut into the windows of a rate.

use super::rate;
use crate::time::{Calendar, date::Civil};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = rate::DAY * SECOND;
const DAY_SECONDS: i64 = rate::DAY.cast_signed();
const WEEK: u64 = 7 * DAY;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY: u64 = 4 * DAY;

/// Windows without gaps, each with a number that is one more than the last. Times are nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// Of so many nanoseconds, the first of them beginning so many after 1970.
    Every { period: u64, from: u64 },
    /// Of so many months, by clocks that are so many seconds ahead of UTC.
    Months { months: i64, ahead: i64 },
}

impl Windows {
    /// A rate's month and year are the calendar's. `None` if a window is shorter than a second.
    pub(super) fn new(period: u64, zone: Calendar) -> Option<Self> {
        let ahead = i64::from(zone.minutes_ahead_of_utc()) * 60;
        Some(match period {
            0..SECOND => return None,
            MONTH => Self::Months { months: 1, ahead },
            YEAR => Self::Months { months: 12, ahead },
            _ => {
                let monday = if period.is_multiple_of(WEEK) { FIRST_MONDAY } else { 0 };
                let from = i128::from(monday) - i128::from(ahead) * i128::from(SECOND);
                Self::Every { period, from: from.rem_euclid(period.into()) as u64 }
            }
        })
    }

    /// As rates have it, where a month has 30 days.
    pub(super) fn period(self) -> u64 {
        match self {
            Self::Every { period, .. } => period,
            Self::Months { months: 1, .. } => MONTH,
            Self::Months { .. } => YEAR,
        }
    }

    /// The window in which a moment lies.
    pub(super) fn index(self, now: u64) -> u64 {
        match self {
            Self::Every { period, from } => (now + period - from) / period,
            Self::Months { months, ahead } => {
                let day = ((now / SECOND).cast_signed() + ahead).div_euclid(DAY_SECONDS);
                let Civil { year, month, .. } = Civil::of_days(day);
                ((year * 12 + month - 1) / months).cast_unsigned()
            }
        }
    }

    /// The largest index that there is: time ends in 2554.
    pub(super) fn last(self) -> u64 {
        match self {
            Self::Every { period, .. } => u64::MAX / period + 1,
            Self::Months { .. } => 2600 * 12,
        }
    }

    /// When a window begins.
    pub(super) fn start(self, index: u64) -> u64 {
        match self {
            Self::Every { period, from } => {
                index.saturating_mul(period).saturating_add(from).saturating_sub(period)
            }
            Self::Months { months, ahead } => {
                let month = index.cast_signed() * months;
                let first = Civil { year: month / 12, month: month % 12 + 1, day: 1 };
                u64::try_from(first.days() * DAY_SECONDS - ahead).unwrap_or_default().saturating_mul(SECOND)
            }
        }
    }
}
