use std::{fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// How fast an account refills: a number of units in a period.
///
/// As text it is `10/s`, `100/min`, `1000/h`, `5/d`, `1/month`, or with a number of units of time, `100/15min`.
/// A month has 30 days and a year 365.
///
/// One unit refills in `period / count`, a whole number of nanoseconds, rounded up. So an account never has more than its
/// rate, and is below it by less than a nanosecond a unit: by less than one part in the number of nanoseconds, 1 in 10
/// million at 100 a second, 1 in 1000 at a million a second, 1 in 100 at the utmost. Rates whose units take whole
/// nanoseconds are what they say. At most 10 million a second are accepted, and at least one a year. Windows count units,
/// and so they round nothing.
///
/// ```
/// use portcullis::admission::rate_limit::Rate;
/// use std::time::Duration;
///
/// let rate: Rate = "100/min".parse()?;
/// assert_eq!(rate, Rate::new(100, Duration::from_secs(60))?);
/// assert_eq!(rate.interval(), Duration::from_millis(600));
/// assert_eq!(rate.to_string(), "100/min");
/// assert!("0/s".parse::<Rate>().is_err());
/// # Ok::<(), portcullis::admission::rate_limit::RateError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    period: Duration,
}

/// Why something is no [`Rate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// The text has not the form of a rate.
    #[error("a rate is a number, `/` and a unit of time (s, min, h, d, week, month, year), as in `100/min`")]
    Malformed,
    /// Less than one unit in a year.
    #[error("a rate must be at least one in a year")]
    TooSlow,
    /// More than 10 million units in a second.
    #[error("a rate must be at most 10 million in a second")]
    TooFast,
    /// No unit at all.
    #[error("a rate of zero admits nothing: refuse instead")]
    Zero,
}

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// The names of the units of time; the first that fits is how a rate is shown.
const UNITS: &[(&str, u64)] = &[
    ("year", YEAR),
    ("month", 30 * DAY),
    ("week", 7 * DAY),
    ("d", DAY),
    ("h", HOUR),
    ("min", MINUTE),
    ("s", SECOND),
    ("sec", SECOND),
    ("second", SECOND),
    ("m", MINUTE),
    ("minute", MINUTE),
    ("hour", HOUR),
    ("day", DAY),
    ("w", 7 * DAY),
    ("y", YEAR),
];

/// A duration in nanoseconds, as far as 64 bits have room.
pub(super) fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

const FASTEST: Duration = Duration::from_nanos(100);
const SLOWEST: Duration = Duration::from_secs(YEAR);

impl Rate {
    /// `count` units in each `period`.
    ///
    /// # Errors
    ///
    /// [`RateError::Zero`], [`RateError::TooFast`] and [`RateError::TooSlow`].
    pub fn new(count: u32, period: Duration) -> Result<Self, RateError> {
        let count = NonZeroU32::new(count).ok_or(RateError::Zero)?;
        match period / count.get() {
            interval if interval < FASTEST => Err(RateError::TooFast),
            interval if interval > SLOWEST => Err(RateError::TooSlow),
            _ => Ok(Self { count, period }),
        }
    }

    /// The units that refill in a period.
    #[must_use]
    pub const fn count(self) -> NonZeroU32 {
        self.count
    }

    /// The period.
    #[must_use]
    pub const fn period(self) -> Duration {
        self.period
    }

    /// So many times as slow, but no slower than one unit in a year.
    #[cfg(feature = "redis")]
    pub(super) fn slowed(self, times: u32) -> Self {
        let slowest = SLOWEST.saturating_mul(self.count.get());
        Self { period: self.period.saturating_mul(times.max(1)).min(slowest), ..self }
    }

    /// The part of its units that each of so many has in its period, one at least, however long the period is.
    #[cfg(feature = "redis")]
    pub(super) fn divided(self, parts: u32) -> Self {
        let part = self.count.get() / parts.max(1);
        Self { count: NonZeroU32::new(part).unwrap_or(NonZeroU32::MIN), ..self }
    }

    /// As clients are told, who know no fractions of a second: so many units in so many seconds.
    pub(super) fn told(self) -> (u64, u64) {
        const SECOND: u64 = 1_000_000_000;
        let period = nanos(self.period);
        let seconds = period.div_ceil(SECOND);
        match period.is_multiple_of(SECOND) {
            true => (self.count.get().into(), seconds),
            false => (seconds * SECOND / nanos(self.interval()), seconds),
        }
    }

    /// The time in which one unit refills, in whole nanoseconds, rounded up.
    #[must_use]
    pub fn interval(self) -> Duration {
        let floor = self.period / self.count.get();
        if floor * self.count.get() < self.period { floor + Duration::from_nanos(1) } else { floor }
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (count, period) = text.split_once('/').ok_or(RateError::Malformed)?;
        let count = digits(count.trim()).ok_or(RateError::Malformed)?;
        let period = period.trim();
        let split = period.find(|c: char| !c.is_ascii_digit()).ok_or(RateError::Malformed)?;
        let (times, unit) = period.split_at(split);
        let times = if times.is_empty() { 1 } else { digits(times).ok_or(RateError::Malformed)? };
        let unit = unit.trim_start();
        let &(_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(RateError::Malformed)?;
        Self::new(count, Duration::from_secs(u64::from(times) * seconds))
    }
}

/// A number as people write it: `u32::from_str` would take a sign too.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let whole =
            |&&(_, unit): &&(&str, u64)| self.period.subsec_nanos() == 0 && seconds.is_multiple_of(unit);
        match UNITS.iter().find(whole) {
            Some((name, unit)) if seconds == *unit => write!(f, "{}/{name}", self.count),
            Some((name, unit)) => write!(f, "{}/{}{name}", self.count, seconds / unit),
            None => write!(f, "{}/{:?}", self.count, self.period),
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read() {
        for (text, count, seconds) in [
            ("10/s", 10, 1),
            ("100/min", 100, 60),
            ("100/m", 100, 60),
            ("1000/h", 1000, 3600),
            ("5/d", 5, 86_400),
            ("1/week", 1, 604_800),
            ("1/month", 1, 2_592_000),
            ("1/year", 1, 31_536_000),
            (" 10 / 30 s ", 10, 30),
            ("100/15min", 100, 900),
            ("10000000/s", 10_000_000, 1),
        ] {
            assert_eq!(text.parse(), Rate::new(count, Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn junk_is_refused() {
        for text in [
            "",
            "/",
            "10",
            "10/",
            "/s",
            "ten/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "10/S",
            "10/fortnight",
            "10/s/s",
            "10/-1s",
            "99999999999/s",
            "10/99999999999s",
            "1 0/s",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(RateError::Malformed), "{text:?}");
        }
        assert_eq!("0/s".parse::<Rate>(), Err(RateError::Zero));
        assert_eq!("10/0s".parse::<Rate>(), Err(RateError::TooFast));
        assert_eq!("10000001/s".parse::<Rate>(), Err(RateError::TooFast));
        assert_eq!("1/2year".parse::<Rate>(), Err(RateError::TooSlow));
    }

    #[test]
    fn clients_are_told_whole_seconds() {
        assert_eq!("100/min".parse::<Rate>().unwrap().told(), (100, 60));
        assert_eq!(Rate::new(3, Duration::from_millis(1500)).unwrap().told(), (4, 2));
    }

    #[test]
    fn an_odd_period_is_shown() {
        let rate = Rate::new(3, Duration::from_millis(1500)).unwrap();
        assert_eq!(rate.to_string(), "3/1.5s");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(count in 1_u32..1_000_000, times in 1_u32..400, unit in 0..UNITS.len()) {
            let period = Duration::from_secs(u64::from(times) * UNITS[unit].1);
            if let Ok(rate) = Rate::new(count, period) {
                prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            }
        }

        #[test]
        fn an_interval_is_never_faster_than_the_rate(count: u32, nanos: u64) {
            if let Ok(rate) = Rate::new(count, Duration::from_nanos(nanos)) {
                prop_assert!(rate.interval() * count >= rate.period());
                prop_assert!((rate.interval() - Duration::from_nanos(1)) * count < rate.period());
            }
        }
    }
}
