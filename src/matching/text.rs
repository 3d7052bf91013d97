//! How a text is compared: as a whole, or with a regular expression of linear time.

use std::fmt;

#[cfg(feature = "routing")]
use regex::bytes::{Regex, RegexBuilder};

#[cfg(feature = "routing")]
use super::InvalidMatch;

/// What a path, header or query value is compared with. Always the whole value, and with regard to case.
#[derive(Clone)]
pub struct Text(Kind);

#[derive(Clone)]
enum Kind {
    Exact(Box<str>),
    #[cfg(feature = "routing")]
    Regex(Regex),
}

impl Text {
    /// The longest regular expression that is taken, in bytes.
    pub const MAX_PATTERN: usize = 4096;

    /// Is equal to `value`.
    #[must_use]
    pub fn exact(value: impl Into<Box<str>>) -> Self {
        Self(Kind::Exact(value.into()))
    }

    /// Matches `pattern`, in the syntax of the `regex` crate, from the first to the last byte.
    ///
    /// Matching takes time linear in the value, and a compiled pattern at most 1 MiB, so that neither a
    /// request nor a file can cost without bound.
    ///
    /// # Errors
    ///
    /// If `pattern` is malformed, or too large.
    #[cfg(feature = "routing")]
    pub fn regex(pattern: &str) -> Result<Self, InvalidMatch> {
        const COMPILED: usize = 1 << 20;
        if pattern.len() > Self::MAX_PATTERN {
            return Err(InvalidMatch::PatternTooLong);
        }
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(COMPILED)
                .dfa_size_limit(COMPILED)
                .build()
                .map_err(|error| InvalidMatch::Pattern(error.to_string().into()))
        };
        // Alone first: `a)|(b` is no pattern, though it would be one between the parentheses.
        compile(pattern)?;
        compile(&format!(r"\A(?:{pattern})\z")).map(|regex| Self(Kind::Regex(regex)))
    }

    pub(super) fn matches(&self, value: &[u8]) -> bool {
        match &self.0 {
            Kind::Exact(text) => text.as_bytes() == value,
            #[cfg(feature = "routing")]
            Kind::Regex(regex) => regex.is_match(value),
        }
    }

    /// The text, if all that is compared is equality.
    pub(super) fn as_exact(&self) -> Option<&str> {
        match &self.0 {
            Kind::Exact(text) => Some(text),
            #[cfg(feature = "routing")]
            Kind::Regex(_) => None,
        }
    }

    fn source(&self) -> &str {
        match &self.0 {
            Kind::Exact(text) => text,
            #[cfg(feature = "routing")]
            Kind::Regex(regex) => regex.as_str(),
        }
    }
}

/// Equal texts match the same; of two patterns only their spelling is compared.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_exact().is_some() == other.as_exact().is_some() && self.source() == other.source()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.as_exact().is_some() { "Exact" } else { "Regex" };
        f.debug_tuple(kind).field(&self.source()).finish()
    }
}

#[cfg(all(test, feature = "routing"))]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_about_the_whole_value() {
        let text = Text::regex("a|ab").unwrap();
        assert!(text.matches(b"a") && text.matches(b"ab"));
        assert!(!text.matches(b"abc") && !text.matches(b"xa") && !text.matches(b"ab\n"));
        assert!(!Text::regex("(?m)^a$").unwrap().matches(b"a\nb"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["(", "a)|(b", "[", "(?x)a # b", r"(a)\1", "(?=a)"] {
            assert!(matches!(Text::regex(pattern), Err(InvalidMatch::Pattern(_))), "{pattern}");
        }
        assert!(matches!(Text::regex(r"(\w{100}){100}"), Err(InvalidMatch::Pattern(_))));
        assert_eq!(Text::regex(&"a".repeat(5000)), Err(InvalidMatch::PatternTooLong));
    }

    #[test]
    fn equality_is_of_kind_and_spelling() {
        assert_eq!(Text::regex("a").unwrap(), Text::regex("a").unwrap());
        assert_ne!(Text::regex("a").unwrap(), Text::exact("a"));
        assert_ne!(Text::exact("a"), Text::exact("b"));
    }
}
