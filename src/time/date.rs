//! Dates of RFC 3339 in UTC and whole seconds, from 1970 to 9999, by the civil calendar.

use std::time::{Duration, SystemTime};

pub(super) const DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z.
const LAST: u64 = 253_402_300_799;

/// The whole seconds from 1970 to this moment, from the first to the last that can be written.
pub(crate) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST)
}

/// The moment so many seconds after the beginning of 1970.
pub(crate) fn from_seconds(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}

/// So long after this moment; the last that can be written, if it is later.
#[cfg(feature = "authn")]
pub(crate) fn after(at: SystemTime, time: Duration) -> SystemTime {
    at.checked_add(time).map_or(from_seconds(LAST), |at| at.min(from_seconds(LAST)))
}

/// Reads a moment of RFC 3339 in UTC and whole seconds, `2027-02-19T08:00:00Z`, from 1970 to 9999; or `2027-02-19` for
/// the beginning of that day.
///
/// ```
/// use portcullis::time::{format_utc, parse_utc};
///
/// let at = parse_utc("2027-02-19").unwrap();
/// assert_eq!(format_utc(at), "2027-02-19T00:00:00Z");
/// assert_eq!(parse_utc("2027-02-30"), None);
/// ```
#[must_use]
pub fn parse_utc(text: &str) -> Option<SystemTime> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let in_range = year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let days = Civil { year, month, day }.days();
    u64::try_from(days * DAY + hour * 3600 + minute * 60 + second).ok().map(from_seconds)
}

/// Writes a moment as `2027-02-19T08:00:00Z`; what is before 1970 or after 9999 as the first or last of these.
#[must_use]
pub fn format_utc(at: SystemTime) -> String {
    let seconds = seconds(at).cast_signed();
    let (Civil { year, month, day }, rest) = (Civil::of_days(seconds / DAY), seconds % DAY);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Three numbers of just so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(separator);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// A day by the civil calendar, with months and days from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
}

/// The days of 400 years, after which the calendar repeats itself.
const ERA: i64 = 146_097;
/// The days from 0000-03-01, the day after the first leap day, to 1970-01-01.
const EPOCH: i64 = 719_468;

impl Civil {
    /// The day so many days after 1970-01-01. A year begins in March here, so that its leap day is its last.
    pub(crate) fn of_days(days: i64) -> Self {
        let (era, day) = ((days + EPOCH).div_euclid(ERA), (days + EPOCH).rem_euclid(ERA));
        let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let march = (5 * day + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Self { year: era * 400 + year + i64::from(month <= 2), month, day: day - (153 * march + 2) / 5 + 1 }
    }

    /// The days from 1970-01-01 to this one.
    pub(crate) fn days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
        let march = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        era * ERA + year * 365 + year / 4 - year / 100 + (153 * march + 2) / 5 + self.day - 1 - EPOCH
    }
}

pub(super) fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
            ("2027-02-19T08:00:00Z", 1_803_024_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_utc(text), Some(from_seconds(seconds)), "{text}");
            assert!(format_utc(from_seconds(seconds)).starts_with(text.trim_end_matches('Z')), "{text}");
        }
        for text in [
            "",
            "2027",
            "2027-2-19",
            "2027-02-30",
            "2100-02-29",
            "1969-12-31",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-02-19T24:00:00Z",
            "2027-02-19T08:60:00Z",
            "2027-02-19T08:00:60Z",
            "2027-02-19T08:00:00",
            "2027-02-19T08:00:00+01:00",
            "2027-02-19 08:00:00Z",
            "2027-02-19T08:00Z",
            "+027-02-19",
            "20270219",
            "２０２７-02-19",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn dates_go_both_ways(seconds in 0..253_402_300_800_u64) {
            prop_assert_eq!(parse_utc(&format_utc(from_seconds(seconds))), Some(from_seconds(seconds)));
        }
    }
}
