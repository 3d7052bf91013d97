//! Dates of RFC 3339 in UTC and whole seconds, from 1970 to 9999, by the civil calendar.

use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;
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
    let days = days_before(year, month) + day - 1;
    Some(from_seconds(days * DAY + hour * 3600 + minute * 60 + second))
}

/// Writes a moment as `2027-02-19T08:00:00Z`; what is before 1970 or after 9999 as the first or last of these.
#[must_use]
pub fn format_utc(at: SystemTime) -> String {
    let seconds = seconds(at);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    // The estimate is never more than a year too late.
    let mut year = 1970 + days / 365;
    while days_before(year, 1) > days {
        year -= 1;
    }
    let mut month = 12;
    while days_before(year, month) > days {
        month -= 1;
    }
    let day = days - days_before(year, month) + 1;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Three numbers of just so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(separator);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970 to the first of this month.
fn days_before(year: u64, month: u64) -> u64 {
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969);
    years + (1..month).map(|month| days_of(year, month)).sum::<u64>()
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
