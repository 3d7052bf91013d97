//! A share of something, exact: of the traffic, of the requests, of the keys.
//!
//! A [`Ratio`] is a fraction between 0 and 1 in lowest terms. It is no float, so that 10% is 10%, the same
//! configuration makes the same decisions on every machine, and 0 and 1 mean never and always.
//!
//! # Example
//!
//! ```
//! use portcullis::ratio::Ratio;
//!
//! const CANARY: Ratio = Ratio::percent(2);
//! assert_eq!(CANARY, "2%".parse()?);
//! assert_eq!(CANARY, "0.02".parse()?);
//! assert_eq!(CANARY.to_string(), "2%");
//!
//! // A number drawn evenly from all of `u64` is admitted in exactly this share of the cases.
//! assert!(CANARY.admits(0));
//! assert!(!CANARY.admits(u64::MAX));
//! # Ok::<(), portcullis::ratio::InvalidRatio>(())
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Digits after the point that a decimal may have: 10^9 is the largest power of ten in a `u32`.
const DIGITS: u32 = 9;

/// A fraction from 0 to 1, exact and in lowest terms, so that equal shares are equal values.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ratio {
    numerator: u32,
    denominator: u32,
}

impl Ratio {
    /// All of it: admits every number.
    pub const ALWAYS: Self = Self { numerator: 1, denominator: 1 };

    /// Nothing: admits no number.
    pub const NEVER: Self = Self { numerator: 0, denominator: 1 };

    /// `numerator / denominator`; `None` if that is no fraction from 0 to 1, which includes a denominator
    /// of zero.
    ///
    /// ```
    /// use portcullis::ratio::Ratio;
    ///
    /// const THIRD: Ratio = Ratio::new(1, 3).unwrap();
    /// assert_eq!(Some(THIRD), Ratio::new(2, 6));
    /// assert_eq!(Ratio::new(3, 2), None);
    /// ```
    #[must_use]
    pub const fn new(numerator: u32, denominator: u32) -> Option<Self> {
        if denominator == 0 || numerator > denominator {
            return None;
        }
        Some(Self::reduced(numerator, denominator))
    }

    /// So many of a hundred. Above 100 it is [`Ratio::ALWAYS`].
    #[must_use]
    pub const fn percent(percent: u8) -> Self {
        if percent >= 100 { Self::ALWAYS } else { Self::reduced(percent as u32, 100) }
    }

    const fn reduced(numerator: u32, denominator: u32) -> Self {
        let (mut a, mut b) = (denominator, numerator);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self { numerator: numerator / a, denominator: denominator / a }
    }

    /// The numerator in lowest terms.
    #[must_use]
    pub const fn numerator(self) -> u32 {
        self.numerator
    }

    /// The denominator in lowest terms, at least 1.
    #[must_use]
    pub const fn denominator(self) -> u32 {
        self.denominator
    }

    /// Whether `random` falls into this share of all `u64`.
    ///
    /// Of the 2^64 numbers, those below `ratio * 2^64` are admitted: none for [`Ratio::NEVER`], all for
    /// [`Ratio::ALWAYS`], and what a smaller ratio admits a larger one admits too. Fed with a hash of a key,
    /// a share that grows therefore keeps the keys that it has.
    #[must_use]
    #[inline]
    pub const fn admits(self, random: u64) -> bool {
        (random as u128) * (self.denominator as u128) < (self.numerator as u128) << 64
    }

    /// As a float between 0.0 and 1.0, for metrics and arithmetic that need not be exact.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u64::from(self.numerator) * u64::from(other.denominator);
        let right = u64::from(other.numerator) * u64::from(self.denominator);
        left.cmp(&right)
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As a percentage if that is short (`2.5%`), else as a fraction (`1/3`). What is printed parses to the same
/// ratio.
impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = 10u32.pow(DIGITS);
        if !scale.is_multiple_of(self.denominator) {
            return write!(f, "{}/{}", self.numerator, self.denominator);
        }
        let parts = u64::from(self.numerator) * u64::from(scale / self.denominator) * 100;
        let (whole, rest) = (parts / u64::from(scale), parts % u64::from(scale));
        if rest == 0 {
            return write!(f, "{whole}%");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
    }
}

impl fmt::Debug for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ratio({self})")
    }
}

/// Why a text is no [`Ratio`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRatio {
    /// It is neither `2.5%` nor `0.025` nor `1/40`.
    #[error("a ratio is written `2.5%`, `0.025` or `1/40`")]
    Malformed,
    /// It is more than the whole.
    #[error("a ratio is at most 100%, which is 1")]
    MoreThanAll,
    /// It has more digits after the point than are kept exactly: nine, and seven of a percentage.
    #[error("a ratio has at most 9 digits after the point, and at most 7 if it is a percentage")]
    TooPrecise,
}

/// Reads `2.5%`, `0.025` or `1/40`: digits and one point or slash, no sign, no exponent, no spaces.
impl FromStr for Ratio {
    type Err = InvalidRatio;

    fn from_str(text: &str) -> Result<Self, InvalidRatio> {
        if let Some((numerator, denominator)) = text.split_once('/') {
            return fraction(numerator, denominator);
        }
        match text.strip_suffix('%') {
            Some(percent) => decimal(percent, 2),
            None => decimal(text, 0),
        }
    }
}

fn fraction(numerator: &str, denominator: &str) -> Result<Ratio, InvalidRatio> {
    let (numerator, denominator) = (digits(numerator)?, digits(denominator)?);
    match Ratio::new(numerator, denominator) {
        Some(ratio) => Ok(ratio),
        None if denominator == 0 => Err(InvalidRatio::Malformed),
        None => Err(InvalidRatio::MoreThanAll),
    }
}

/// Reads `whole.rest` over `10^shift`.
fn decimal(text: &str, shift: u32) -> Result<Ratio, InvalidRatio> {
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (digits(whole)?, rest),
        None => (digits(text)?, "0"),
    };
    digits(rest.get(..1).ok_or(InvalidRatio::Malformed)?)?;
    let places = u32::try_from(rest.len()).map_err(|_| InvalidRatio::TooPrecise)?;
    if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidRatio::Malformed);
    }
    if places + shift > DIGITS {
        return Err(InvalidRatio::TooPrecise);
    }
    let numerator = u64::from(whole) * 10u64.pow(places) + u64::from(digits(rest)?);
    let denominator = 10u32.pow(places + shift);
    u32::try_from(numerator)
        .ok()
        .and_then(|numerator| Ratio::new(numerator, denominator))
        .ok_or(InvalidRatio::MoreThanAll)
}

/// A number of digits only: `u32::from_str` alone would take a sign.
fn digits(text: &str) -> Result<u32, InvalidRatio> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidRatio::Malformed);
    }
    text.parse().map_err(|_| InvalidRatio::MoreThanAll)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_percentages_decimals_and_fractions() {
        let fortieth = Ratio::new(1, 40).unwrap();
        for text in ["2.5%", "0.025", "1/40", "25/1000", "2.50%", "0.025000000"] {
            assert_eq!(text.parse(), Ok(fortieth), "{text}");
        }
        for text in ["100%", "1", "1.0", "100.0000000%", "7/7"] {
            assert_eq!(text.parse(), Ok(Ratio::ALWAYS), "{text}");
        }
        for text in ["0", "0%", "0.0", "0/9"] {
            assert_eq!(text.parse(), Ok(Ratio::NEVER), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        use InvalidRatio::{Malformed, MoreThanAll, TooPrecise};
        for text in
            ["", "%", ".", ".5", "1.", "1.%", "-1", "+1", "1e-2", " 1", "1 %", "1/", "/1", "0/0", "é", "0.é"]
        {
            assert_eq!(text.parse::<Ratio>(), Err(Malformed), "{text}");
        }
        for text in ["101%", "1.1", "2", "3/2", "100.0000001%", "99999999999", "4294967296%"] {
            assert_eq!(text.parse::<Ratio>(), Err(MoreThanAll), "{text}");
        }
        for text in ["0.0000000001", "0.00000001%"] {
            assert_eq!(text.parse::<Ratio>(), Err(TooPrecise), "{text}");
        }
    }

    #[test]
    fn prints_short() {
        let shown = |n, d| Ratio::new(n, d).unwrap().to_string();
        assert_eq!(shown(1, 8), "12.5%");
        assert_eq!(shown(1, 3), "1/3");
        assert_eq!(shown(0, 3), "0%");
        assert_eq!(shown(1, 1_000_000_000), "0.0000001%");
        assert_eq!(shown(5, 5), "100%");
    }

    #[test]
    fn the_edges_are_never_and_always() {
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(Ratio::ALWAYS.admits(random));
            assert!(!Ratio::NEVER.admits(random));
        }
        assert!(Ratio::percent(50).admits((1 << 63) - 1));
        assert!(!Ratio::percent(50).admits(1 << 63));
        assert_eq!(Ratio::percent(200), Ratio::ALWAYS);
    }

    fn any_ratio() -> impl Strategy<Value = Ratio> {
        (1..=u32::MAX).prop_flat_map(|d| (0..=d, Just(d))).prop_map(|(n, d)| Ratio::new(n, d).unwrap())
    }

    proptest! {
        #[test]
        fn the_share_is_exact(ratio in any_ratio()) {
            // The admitted numbers are those below n * 2^64 / d, rounded up.
            let (n, d) = (u128::from(ratio.numerator()), u128::from(ratio.denominator()));
            let bound = (n << 64).div_ceil(d);
            if let Ok(first_out) = u64::try_from(bound) {
                prop_assert!(!ratio.admits(first_out));
            }
            if let Some(last_in) = bound.checked_sub(1) {
                prop_assert!(ratio.admits(u64::try_from(last_in).unwrap()));
            }
        }

        #[test]
        fn a_larger_ratio_keeps_what_a_smaller_one_admits(a in any_ratio(), b in any_ratio(), random: u64) {
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(!small.admits(random) || large.admits(random));
        }

        #[test]
        fn printed_and_read_it_is_the_same(ratio in any_ratio()) {
            prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
        }

        #[test]
        fn a_short_percentage_prints_as_it_was_written(hundredths in 0u32..=10_000) {
            let ratio = Ratio::new(hundredths, 10_000).unwrap();
            let shown = ratio.to_string();
            prop_assert!(shown.ends_with('%'));
            let float: f64 = shown.trim_end_matches('%').parse().unwrap();
            prop_assert!((float - f64::from(hundredths) / 100.0).abs() < 1e-9);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Ratio>();
        }
    }
}
