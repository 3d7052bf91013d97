use std::fmt;
use std::time::Duration;

/// The most digits of one number (GEP-2257).
const DIGITS: usize = 5;

/// The most parts of one duration (GEP-2257).
const PARTS: usize = 4;

const UNITS: [(&str, Duration); 5] = [
    ("d", Duration::from_secs(86_400)),
    ("h", Duration::from_secs(3_600)),
    ("m", Duration::from_secs(60)),
    ("s", Duration::from_secs(1)),
    ("ms", Duration::from_millis(1)),
];

/// Reads a duration as the Gateway API writes it (GEP-2257): `5s`, `250ms`, `1h30m`.
///
/// It is one to four parts, each of one to five digits and a unit out of `h`, `m`, `s` and `ms`, in any order
/// and without signs, points and spaces; the parts are added. The longest is 399,996 hours.
///
/// # Errors
///
/// What is wrong, and at which byte of the text.
///
/// ```
/// use std::time::Duration;
/// use portcullis::time::parse_duration;
///
/// assert_eq!(parse_duration("1m500ms"), Ok(Duration::from_millis(60_500)));
/// let error = parse_duration("10sec").unwrap_err();
/// assert_eq!(error.to_string(), "at byte 2: no unit; the units are h, m, s and ms");
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    parse(text, &UNITS[1..])
}

/// Reads a duration as [`parse_duration`] does, with `d` for days of 24 hours besides: `90d`.
///
/// For what lives long: keys, certificates.
///
/// # Errors
///
/// What is wrong, and at which byte of the text.
pub fn parse_duration_or_days(text: &str) -> Result<Duration, InvalidDuration> {
    parse(text, &UNITS)
}

fn parse(text: &str, units: &[(&str, Duration)]) -> Result<Duration, InvalidDuration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    for _ in 0..PARTS {
        let at = |rest: &str| text.len() - rest.len();
        let fault =
            |rest, fault| Err(InvalidDuration { at: at(rest), days: units.len() == UNITS.len(), fault });

        let (number, after) = split(rest, |byte| byte.is_ascii_digit());
        let Ok(count) = number.parse::<u32>() else {
            return fault(
                rest,
                if number.is_empty() { DurationFault::NoNumber } else { DurationFault::TooLong },
            );
        };
        if number.len() > DIGITS {
            return fault(rest, DurationFault::TooLong);
        }
        let (unit, next) = split(after, |byte| byte.is_ascii_alphabetic());
        let Some((_, unit)) = units.iter().find(|(name, _)| *name == unit) else {
            return fault(after, DurationFault::NoUnit);
        };
        // At most four times 99,999 days: far from an overflow.
        total += *unit * count;
        rest = next;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    Err(InvalidDuration { at: text.len() - rest.len(), days: false, fault: DurationFault::TooManyParts })
}

/// The leading bytes of a kind, and what follows them.
fn split(text: &str, kind: fn(&u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().take_while(kind).count())
}

/// Why a text is no duration, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDuration {
    at: usize,
    days: bool,
    fault: DurationFault,
}

impl InvalidDuration {
    /// At which byte of the text, from 0.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> DurationFault {
        self.fault
    }
}

/// What is wrong with a text that should be a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DurationFault {
    /// A part does not begin with a digit.
    NoNumber,
    /// A number is not followed by a known unit.
    NoUnit,
    /// A number has more than five digits.
    TooLong,
    /// There are more than four parts.
    TooManyParts,
}

impl fmt::Display for InvalidDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.at)?;
        match self.fault {
            DurationFault::NoNumber => {
                f.write_str("no number; a duration is written `5s`, `250ms` or `1h30m`")
            }
            DurationFault::NoUnit if self.days => f.write_str("no unit; the units are d, h, m, s and ms"),
            DurationFault::NoUnit => f.write_str("no unit; the units are h, m, s and ms"),
            DurationFault::TooLong => write!(f, "a number of more than {DIGITS} digits"),
            DurationFault::TooManyParts => write!(f, "more than {PARTS} parts"),
        }
    }
}

impl std::error::Error for InvalidDuration {}

/// Writes a duration as the Gateway API does: the largest units first, `1h30m`, and `0s` for none.
///
/// What is less than a millisecond is left out. It is read back by [`parse_duration`] up to 99,999 hours,
/// which is eleven years.
///
/// ```
/// use std::time::Duration;
/// use portcullis::time::format_duration;
///
/// assert_eq!(format_duration(Duration::from_millis(5_400_250)).to_string(), "1h30m250ms");
/// ```
pub fn format_duration(duration: Duration) -> impl fmt::Display {
    Written(duration)
}

struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in &UNITS[1..] {
            let count = rest / unit.as_millis();
            rest %= unit.as_millis();
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(text: &str) -> Option<u128> {
        parse_duration(text).ok().map(|duration| duration.as_millis())
    }

    #[test]
    fn reads_the_examples_of_the_standard() {
        // GEP-2257, "Test Cases" and its list of valid and invalid forms.
        for (text, expected) in [
            ("0h", 0),
            ("0s", 0),
            ("0h0m0s", 0),
            ("1h", 3_600_000),
            ("30m", 1_800_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("2h30m", 9_000_000),
            ("150m", 9_000_000),
            ("7230s", 7_230_000),
            ("1h30m10s", 5_410_000),
            ("10s30m1h", 5_410_000),
            ("100ms200ms300ms", 600),
            ("10s1h10s", 3_620_000),
            ("99999h", 359_996_400_000),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
        for text in [
            "1",
            "1m1",
            "1h30m10s20ms50h",
            "999999h",
            "1.5h",
            "-15m",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1us",
            "1H",
        ] {
            assert_eq!(millis(text), None, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        use DurationFault::{NoNumber, NoUnit, TooLong, TooManyParts};
        for (text, at, fault) in [
            ("", 0, NoNumber),
            ("s", 0, NoNumber),
            ("-1s", 0, NoNumber),
            ("1s ", 2, NoNumber),
            ("1h x", 2, NoNumber),
            ("5", 1, NoUnit),
            ("5x", 1, NoUnit),
            ("1.5h", 1, NoUnit),
            ("1h90d", 4, NoUnit),
            ("1h5µs", 3, NoUnit),
            ("100000s", 0, TooLong),
            ("1h00000000000000000000001s", 2, TooLong),
            ("1h1h1h1h1h", 8, TooManyParts),
        ] {
            let error = parse_duration(text).unwrap_err();
            assert_eq!((error.at(), error.fault()), (at, fault), "{text}");
        }
        let error = parse_duration_or_days("90days").unwrap_err();
        assert_eq!(error.to_string(), "at byte 2: no unit; the units are d, h, m, s and ms");
    }

    #[test]
    fn days_are_24_hours_where_they_are_allowed() {
        assert_eq!(parse_duration_or_days("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(parse_duration_or_days("1d12h"), parse_duration("36h"));
        assert_eq!(
            parse_duration_or_days("99999d99999d99999d99999d").unwrap().as_secs(),
            4 * 99_999 * 86_400
        );
        assert!(parse_duration("90d").is_err());
    }

    #[test]
    fn writes_the_largest_units_first() {
        let shown = |duration: Duration| format_duration(duration).to_string();
        assert_eq!(shown(Duration::ZERO), "0s");
        assert_eq!(shown(Duration::from_nanos(1_999_999)), "1ms");
        assert_eq!(shown(Duration::from_secs(90 * 60)), "1h30m");
        assert_eq!(shown(Duration::from_secs(90 * 86_400)), "2160h");
    }

    proptest! {
        #[test]
        fn written_and_read_it_is_the_same(millis in 0..=359_999_999_999u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration).to_string()), Ok(duration));
        }

        #[test]
        fn follows_the_standards_pattern(text in "([0-9]{0,6}(h|m|s|ms|x)?){0,5}") {
            let parts = |text: &str| {
                let mut rest = text;
                let mut count = 0;
                while !rest.is_empty() {
                    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                    let unit = ["ms", "h", "m", "s"].into_iter().find(|unit| rest[digits..].starts_with(unit))?;
                    if !(1..=5).contains(&digits) {
                        return None;
                    }
                    count += 1;
                    rest = &rest[digits + unit.len()..];
                }
                (1..=4).contains(&count).then_some(())
            };
            prop_assert_eq!(parse_duration(&text).is_ok(), parts(&text).is_some());
        }

        #[test]
        fn no_text_panics(text in "[0-9a-z.µ -]{0,20}") {
            let _ = (parse_duration(&text), parse_duration_or_days(&text));
        }
    }
}
