use std::fmt;

use crate::matching::InvalidTemplate;

/// How a text is compared in a [`Source`](super::Source) or an [`Operation`](super::Operation), as Istio does it: `abc`
/// as a whole, `abc*` as it begins, `*abc` as it ends, and `*` for any that is not empty.
///
/// ```
/// use portcullis::admission::authz::Pattern;
///
/// assert!(Pattern::parse("*.shop.example")?.matches(b"www.shop.example"));
/// assert!(Pattern::parse("team-*-eu").is_err()); // Istio would look for the asterisk itself
/// # Ok::<(), portcullis::admission::authz::InvalidValue>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Kind);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Any,
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
}

/// Why a value can stand in no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidValue {
    /// It is empty.
    #[error("an empty text matches nothing")]
    Empty,
    /// It has a `*` that stands neither alone nor at one end.
    #[error("a `*` stands alone, at the beginning or at the end")]
    Wildcard,
    /// It names no principal.
    #[error("a principal is a provider and a subject, as in `customers/alice`, or `*` for any")]
    Principal,
    /// It names no service account.
    #[error("a service account is a namespace and a name, as in `shop/orders`")]
    Account,
    /// It is no path.
    #[error("no path can match: {0}")]
    Path(#[from] InvalidTemplate),
}

impl Pattern {
    /// Reads a text in which `*` may stand at one end.
    ///
    /// # Errors
    ///
    /// If it is empty, or has another `*`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let (kind, rest): (fn(Box<str>) -> Kind, _) = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            _ if text.is_empty() => return Err(InvalidValue::Empty),
            _ if text == "*" => return Ok(Self(Kind::Any)),
            (Some(rest), _) => (Kind::Suffix, rest),
            (None, Some(rest)) => (Kind::Prefix, rest),
            (None, None) => (Kind::Exact, text),
        };
        if rest.contains('*') {
            return Err(InvalidValue::Wildcard);
        }
        Ok(Self(kind(rest.into())))
    }

    /// This text as it is, with its asterisks.
    pub fn exact(text: impl Into<Box<str>>) -> Self {
        Self(Kind::Exact(text.into()))
    }

    /// Whether these bytes are meant.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Kind::Any => !bytes.is_empty(),
            Kind::Exact(text) => text.as_bytes() == bytes,
            Kind::Prefix(text) => bytes.starts_with(text.as_bytes()),
            Kind::Suffix(text) => bytes.ends_with(text.as_bytes()),
        }
    }

    /// The same, in lower case.
    pub(super) fn lowercase(self) -> Self {
        let lower = |text: Box<str>| text.to_ascii_lowercase().into_boxed_str();
        Self(match self.0 {
            Kind::Any => Kind::Any,
            Kind::Exact(text) => Kind::Exact(lower(text)),
            Kind::Prefix(text) => Kind::Prefix(lower(text)),
            Kind::Suffix(text) => Kind::Suffix(lower(text)),
        })
    }

    /// Whether every text is meant.
    pub(super) fn is_any(&self) -> bool {
        matches!(self.0, Kind::Any)
    }

    pub(super) fn as_exact(&self) -> Option<&str> {
        match &self.0 {
            Kind::Exact(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_prefix(&self) -> Option<&str> {
        match &self.0 {
            Kind::Prefix(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_suffix(&self) -> Option<&str> {
        match &self.0 {
            Kind::Suffix(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Any => f.write_str("*"),
            Kind::Exact(text) => write!(f, "{text:?}"),
            Kind::Prefix(text) => write!(f, "{text:?}*"),
            Kind::Suffix(text) => write!(f, "*{text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_at_one_end() {
        for (pattern, fits, other) in [
            ("abc", &["abc"][..], &["", "ab", "abcd", "ABC"][..]),
            ("abc*", &["abc", "abcd"], &["ab", "xabc"]),
            ("*abc", &["abc", "xabc"], &["abcx", "bc"]),
            ("*", &["a", "*"], &[""]),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert!(fits.iter().all(|text| parsed.matches(text.as_bytes())), "{pattern}");
            assert!(!other.iter().any(|text| parsed.matches(text.as_bytes())), "{pattern}");
        }
        assert_eq!(Pattern::parse(""), Err(InvalidValue::Empty));
        for text in ["**", "a*b", "*a*", "a**"] {
            assert_eq!(Pattern::parse(text), Err(InvalidValue::Wildcard), "{text}");
        }
        assert!(Pattern::exact("a*").matches(b"a*"));
    }
}
