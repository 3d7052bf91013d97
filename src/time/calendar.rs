use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::date::{Civil, DAY, days_of, from_seconds, seconds};

/// The zone by whose midnight days begin: UTC, or a fixed offset from it.
///
/// An offset does not follow summer time, and that is its point: a bill's day has 24 hours.
///
/// ```
/// use portcullis::time::{Calendar, Period, format_utc, parse_utc};
///
/// let berlin: Calendar = "+01:00".parse().unwrap();
/// let month = berlin.span(Period::Month, parse_utc("2027-02-28T23:30:00Z").unwrap());
/// assert_eq!(format_utc(month.start()), "2027-02-28T23:00:00Z");
/// assert_eq!(format_utc(month.end()), "2027-03-31T23:00:00Z");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Calendar {
    /// How many minutes local clocks are ahead of UTC.
    offset: i16,
}

/// A kind of stretch into which a calendar cuts time, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Period {
    /// A second of the clock.
    Second,
    /// A minute of the clock.
    Minute,
    /// An hour of the clock.
    Hour,
    /// A day, from midnight.
    Day,
    /// A week, from Monday (ISO 8601).
    Week,
    /// A month, from its first day.
    Month,
    /// A year, from the first of January.
    Year,
    /// A month from the day on which a bill is made; where a month is too short for it, from that month's last day.
    Billing(BillingDay),
}

/// The day of the month on which a billing period begins, from 1 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillingDay(u8);

impl BillingDay {
    /// This day; `None` unless it is from 1 to 31.
    #[must_use]
    pub const fn new(day: u8) -> Option<Self> {
        if day >= 1 && day <= 31 { Some(Self(day)) } else { None }
    }

    /// The day, from 1 to 31.
    #[must_use]
    pub const fn day(self) -> u8 {
        self.0
    }

    /// The day on which the period of this month begins.
    fn of(self, year: i64, month: i64) -> i64 {
        i64::from(self.0).min(days_of(year, month))
    }
}

/// A stretch of time: from its start, which is in it, to its end, which is in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    start: i64,
    end: i64,
}

impl Calendar {
    /// Days begin at midnight UTC.
    pub const UTC: Self = Self { offset: 0 };

    /// Days begin at the midnight of clocks that are so many minutes ahead of UTC (negative: behind it); `None` for a
    /// day or more.
    #[must_use]
    pub const fn ahead_of_utc(minutes: i16) -> Option<Self> {
        if minutes > -1440 && minutes < 1440 { Some(Self { offset: minutes }) } else { None }
    }

    /// How many minutes its clocks are ahead of UTC.
    #[must_use]
    pub const fn minutes_ahead_of_utc(self) -> i16 {
        self.offset
    }

    /// The stretch of this kind in which a moment lies.
    ///
    /// It depends on nothing else: a clock that is set back is in an earlier stretch again, and in the same as before
    /// once it comes back. Times before 1970 and after 9999 count as the first and last of these.
    #[must_use]
    pub fn span(self, period: Period, at: SystemTime) -> Span {
        self.span_at(period, seconds(at))
    }

    /// As [`span`](Self::span), of a moment in whole seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn span_at(self, period: Period, unix_seconds: u64) -> Span {
        let offset = i64::from(self.offset) * 60;
        let local = seconds(from_seconds(unix_seconds)).cast_signed() + offset;
        let day = local.div_euclid(DAY);
        let (start, end) = match period {
            Period::Second => (local, local + 1),
            Period::Minute => grid(local, 60),
            Period::Hour => grid(local, 3600),
            Period::Day => grid(local, DAY),
            // The first day of 1970 was a Thursday.
            Period::Week => days(day - (day + 3).rem_euclid(7), day - (day + 3).rem_euclid(7) + 7),
            Period::Month => monthly(day, BillingDay(1)),
            Period::Year => yearly(day),
            Period::Billing(from) => monthly(day, from),
        };
        Span { start: start - offset, end: end - offset }
    }
}

/// The stretch of `length` seconds around a moment.
fn grid(at: i64, length: i64) -> (i64, i64) {
    let start = at.div_euclid(length) * length;
    (start, start + length)
}

fn days(from: i64, to: i64) -> (i64, i64) {
    (from * DAY, to * DAY)
}

/// The year in which a day lies.
fn yearly(day: i64) -> (i64, i64) {
    let first = |year: i64| Civil { year, month: 1, day: 1 }.days();
    let year = Civil::of_days(day).year;
    days(first(year), first(year + 1))
}

/// The billing period in which a day lies.
fn monthly(day: i64, from: BillingDay) -> (i64, i64) {
    let Civil { year, month, day: of_month } = Civil::of_days(day);
    // Months are counted from the year 0, so that the next and the last are one more and one less.
    let this = year * 12 + month - 1;
    let first = if of_month >= from.of(year, month) { this } else { this - 1 };
    let begins = |months: i64| {
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) + 1);
        Civil { year, month, day: from.of(year, month) }.days()
    };
    days(begins(first), begins(first + 1))
}

impl Span {
    /// When it begins; 1970 if that is earlier.
    #[must_use]
    pub fn start(self) -> SystemTime {
        moment(self.start)
    }

    /// When it has ended.
    #[must_use]
    pub fn end(self) -> SystemTime {
        moment(self.end)
    }

    /// When it begins, in seconds since 1970-01-01 UTC. The first of a calendar can begin before that.
    #[must_use]
    pub fn start_seconds(self) -> i64 {
        self.start
    }

    /// When it has ended, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn end_seconds(self) -> i64 {
        self.end
    }

    /// Its length. No two months need have the same.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_secs(self.end.abs_diff(self.start))
    }

    /// Whether a moment lies in it.
    #[must_use]
    pub fn contains(self, at: SystemTime) -> bool {
        (self.start..self.end).contains(&seconds(at).cast_signed())
    }

    /// How long it lasts from a moment on; nothing, once it has ended.
    #[must_use]
    pub fn remaining(self, at: SystemTime) -> Duration {
        self.end().duration_since(at).unwrap_or_default()
    }
}

fn moment(seconds: i64) -> SystemTime {
    u64::try_from(seconds).map_or(SystemTime::UNIX_EPOCH, |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s))
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
            Self::Billing(day) => return write!(f, "month from day {}", day.day()),
        })
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, minutes) = (if self.offset < 0 { '-' } else { '+' }, self.offset.unsigned_abs());
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// Reads an offset of RFC 3339: `Z`, `+01:00`, `-09:30`.
impl FromStr for Calendar {
    type Err = InvalidOffset;

    fn from_str(text: &str) -> Result<Self, InvalidOffset> {
        let (sign, digits) = match text.as_bytes() {
            b"Z" => return Ok(Self::UTC),
            [b'+', digits @ ..] => (1, digits),
            [b'-', digits @ ..] => (-1, digits),
            _ => return Err(InvalidOffset(())),
        };
        let &[a, b, b':', c, d] = digits else { return Err(InvalidOffset(())) };
        let number = |tens: u8, ones: u8| {
            let both = tens.is_ascii_digit() && ones.is_ascii_digit();
            both.then(|| i16::from(tens - b'0') * 10 + i16::from(ones - b'0'))
        };
        match (number(a, b), number(c, d)) {
            (Some(hours @ ..24), Some(minutes @ ..60)) => Ok(Self { offset: sign * (hours * 60 + minutes) }),
            _ => Err(InvalidOffset(())),
        }
    }
}

/// A text is no offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOffset(());

impl fmt::Display for InvalidOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no offset from UTC; one is written `Z`, `+01:00` or `-09:30`")
    }
}

impl std::error::Error for InvalidOffset {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::{format_utc, parse_utc};

    const LAST: u64 = 253_402_300_799;

    fn billing(day: u8) -> Period {
        Period::Billing(BillingDay::new(day).unwrap())
    }

    fn bounds(calendar: Calendar, period: Period, at: &str) -> (String, String) {
        let span = calendar.span(period, parse_utc(at).unwrap());
        (format_utc(span.start()), format_utc(span.end()))
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        for (period, at, start, end) in [
            (Period::Second, "2026-11-21T09:40:07Z", "2026-11-21T09:40:07Z", "2026-11-21T09:40:08Z"),
            (Period::Minute, "2026-11-21T09:40:07Z", "2026-11-21T09:40:00Z", "2026-11-21T09:41:00Z"),
            (Period::Hour, "2026-11-21T23:59:59Z", "2026-11-21T23:00:00Z", "2026-11-22T00:00:00Z"),
            (Period::Day, "2028-02-28T12:00:00Z", "2028-02-28T00:00:00Z", "2028-02-29T00:00:00Z"),
            (Period::Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
            (Period::Week, "2026-11-23", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Period::Month, "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "2100-02-28", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z"),
            (Period::Month, "2026-12-31", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Year, "2028-12-31T23:59:59Z", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"),
            (billing(15), "2026-11-14T23:59:59Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z"),
            (billing(15), "2026-11-15", "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z"),
            (billing(31), "2027-02-27", "2027-01-31T00:00:00Z", "2027-02-28T00:00:00Z"),
            (billing(31), "2027-02-28", "2027-02-28T00:00:00Z", "2027-03-31T00:00:00Z"),
            (billing(31), "2028-02-28", "2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z"),
            (billing(29), "2028-02-29", "2028-02-29T00:00:00Z", "2028-03-29T00:00:00Z"),
            (billing(31), "2027-01-01", "2026-12-31T00:00:00Z", "2027-01-31T00:00:00Z"),
        ] {
            assert_eq!(bounds(Calendar::UTC, period, at), (start.into(), end.into()), "{period} of {at}");
        }
    }

    #[test]
    fn days_begin_at_local_midnight() {
        let (east, west) = ("+05:30".parse().unwrap(), "-08:00".parse().unwrap());
        let day = |calendar| bounds(calendar, Period::Day, "2027-03-01T20:00:00Z");
        assert_eq!(day(east), ("2027-03-01T18:30:00Z".into(), "2027-03-02T18:30:00Z".into()));
        assert_eq!(day(west), ("2027-03-01T08:00:00Z".into(), "2027-03-02T08:00:00Z".into()));
        let hour = bounds(east, Period::Hour, "2027-03-01T20:00:00Z");
        assert_eq!(hour, ("2027-03-01T19:30:00Z".into(), "2027-03-01T20:30:00Z".into()));
    }

    #[test]
    fn the_ends_of_time_are_in_a_period_too() {
        let west = Calendar::ahead_of_utc(-1439).unwrap();
        let first = west.span(billing(31), SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        assert!(first.start_seconds() < 0 && first.end_seconds() > 0, "{first:?}");
        assert_eq!(first.start(), SystemTime::UNIX_EPOCH);
        let last = Calendar::UTC.span_at(Period::Month, u64::MAX);
        assert_eq!(last.end_seconds(), LAST.cast_signed() + 1);
        assert_eq!(last.length(), Duration::from_secs(31 * 86_400));
    }

    #[test]
    fn offsets_are_those_of_rfc_3339() {
        for (text, minutes) in [("Z", 0), ("+00:00", 0), ("+01:00", 60), ("-09:30", -570), ("+23:59", 1439)] {
            assert_eq!(text.parse(), Ok(Calendar { offset: minutes }), "{text}");
        }
        for text in ["", "z", "+1:00", "01:00", "+24:00", "+01:60", "+0100", "+01:00:00", "+०1:00", "+-1:00"]
        {
            assert_eq!(text.parse::<Calendar>(), Err(InvalidOffset(())), "{text}");
        }
        assert_eq!("-09:30".parse::<Calendar>().unwrap().to_string(), "-09:30");
        assert_eq!(Calendar::ahead_of_utc(1440), None);
        assert_eq!((BillingDay::new(0), BillingDay::new(32)), (None, None));
    }

    /// The slow model: the days are counted off one by one from the first of 1970, a Thursday.
    struct Almanac(Vec<[i64; 3]>);

    impl Almanac {
        fn new() -> Self {
            let mut days = Vec::new();
            for year in 1970..2110 {
                let leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
                let lengths = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
                for (month, length) in (1..).zip(lengths) {
                    days.extend((1..=length).map(|day| [year, month, day]));
                }
            }
            Self(days)
        }

        /// Whether a period begins with this day.
        fn begins(&self, period: Period, day: usize) -> bool {
            let [year, month, of_month] = self.0[day];
            match period {
                Period::Week => day % 7 == 4,
                Period::Month => of_month == 1,
                Period::Year => [month, of_month] == [1, 1],
                Period::Billing(from) => {
                    let is_last = self.0.get(day + 1).is_none_or(|next| next[..2] != [year, month]);
                    of_month == i64::from(from.day()) || (is_last && of_month < i64::from(from.day()))
                }
                _ => true,
            }
        }

        fn span(&self, period: Period, day: usize) -> (usize, usize) {
            let start = (0..=day).rev().find(|day| self.begins(period, *day)).unwrap();
            let end = (day + 1..).find(|day| self.begins(period, *day)).unwrap();
            (start, end)
        }
    }

    fn any_period() -> impl Strategy<Value = Period> {
        prop_oneof![
            Just(Period::Second),
            Just(Period::Minute),
            Just(Period::Hour),
            Just(Period::Day),
            Just(Period::Week),
            Just(Period::Month),
            Just(Period::Year),
            (1..=31_u8).prop_map(billing),
        ]
    }

    proptest! {
        #[test]
        fn periods_of_days_are_as_counted_off(
            period in prop_oneof![Just(Period::Day), Just(Period::Week), Just(Period::Month), Just(Period::Year), (1..=31_u8).prop_map(billing)],
            day in 40..50_000_usize,
            second in 0..86_400_u64,
            offset in -1439..1440_i16,
        ) {
            let day = day as u64;
            let (start, end) = Almanac::new().span(period, usize::try_from(day).unwrap());
            let ahead = i64::from(offset) * 60;
            let utc = (day * 86_400 + second).checked_add_signed(-ahead).unwrap();
            let span = Calendar::ahead_of_utc(offset).unwrap().span_at(period, utc);
            let expected = [start, end].map(|day| i64::try_from(day).unwrap() * 86_400 - ahead);
            prop_assert_eq!([span.start_seconds(), span.end_seconds()], expected);
        }

        /// Whatever a clock does, it is in one period at a time, and comes back to that in which it was.
        #[test]
        fn periods_have_no_gaps_and_do_not_overlap(
            period in any_period(),
            offset in -1439..1440_i16,
            at in 0..LAST,
            step in -40_000_000..40_000_000_i64,
        ) {
            let calendar = Calendar::ahead_of_utc(offset).unwrap();
            let span = calendar.span_at(period, at);
            prop_assert!(span.start_seconds() <= at.cast_signed() && at.cast_signed() < span.end_seconds());
            if let (Ok(end), false) = (u64::try_from(span.end_seconds()), at + 40_000_000 > LAST) {
                prop_assert_eq!(calendar.span_at(period, end).start_seconds(), span.end_seconds());
            }
            let stepped = at.saturating_add_signed(step).min(LAST);
            let other = calendar.span_at(period, stepped);
            prop_assert!(other == span || other.end_seconds() <= span.start_seconds() || span.end_seconds() <= other.start_seconds());
            prop_assert_eq!(calendar.span_at(period, at), span);
        }
    }
}
