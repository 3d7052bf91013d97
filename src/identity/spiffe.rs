use std::{fmt, str::FromStr};

use thiserror::Error;

/// The most bytes of a SPIFFE ID, and of its trust domain (SPIFFE-ID section 2.3).
const LONGEST: usize = 2048;
const LONGEST_DOMAIN: usize = 255;

/// The name of a workload, as the [SPIFFE-ID](https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/) standard writes it:
/// `spiffe://` and a [trust domain](TrustDomain), and a path that says which workload of it.
///
/// ```
/// use portcullis::identity::SpiffeId;
///
/// let id: SpiffeId = "spiffe://shop.example/ns/shop/sa/orders".parse()?;
/// assert_eq!((id.trust_domain(), id.path()), ("shop.example", "/ns/shop/sa/orders"));
/// assert!("spiffe://shop.example/ns/../sa".parse::<SpiffeId>().is_err());
/// # Ok::<(), portcullis::identity::InvalidSpiffeId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    text: Box<str>,
    /// Where its path begins.
    path: usize,
}

/// Whose workloads share roots: the first part of a [`SpiffeId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Box<str>);

/// Why a text is no SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSpiffeId {
    /// It does not begin with `spiffe://`.
    #[error("a SPIFFE ID begins with `spiffe://`")]
    Scheme,
    /// Its trust domain is empty, too long, or has other characters than it may.
    #[error("a trust domain is 1 to 255 lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain,
    /// Its path has an empty segment, `.` or `..`, or other characters than it may.
    #[error(
        "a path is segments of letters, digits, dots, dashes and underscores, none of them empty, `.` or `..`"
    )]
    Path,
    /// It is longer than 2048 bytes.
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
}

const SCHEME: &str = "spiffe://";

impl SpiffeId {
    /// The name of its trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.text[SCHEME.len()..self.path]
    }

    /// What follows the trust domain, from its slash on; empty where the ID is of the trust domain itself.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The ID among the URIs of a certificate, which is the only one there
    /// ([X.509-SVID](https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md) section 2); `None` if no URI would be
    /// one.
    #[cfg(feature = "tls")]
    pub(crate) fn among(uris: &[impl AsRef<str>]) -> Result<Option<Self>, &'static str> {
        let is_spiffe = |uri: &str| uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"));
        let Some(uri) = uris.iter().map(AsRef::as_ref).find(|uri| is_spiffe(uri)) else { return Ok(None) };
        if uris.len() != 1 {
            return Err("a workload's certificate has one URI");
        }
        uri.parse().map(Some).map_err(|_| "its SPIFFE ID is malformed")
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > LONGEST {
            return Err(InvalidSpiffeId::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidSpiffeId::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !is_trust_domain(domain) {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        if !path.is_empty() && !path[1..].split('/').all(is_segment) {
            return Err(InvalidSpiffeId::Path);
        }
        Ok(Self { text: text.into(), path: SCHEME.len() + domain.len() })
    }
}

fn is_trust_domain(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=LONGEST_DOMAIN).contains(&text.len()) && text.bytes().all(fits)
}

fn is_segment(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !["", ".", ".."].contains(&text) && text.bytes().all(fits)
}

impl TrustDomain {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidSpiffeId;

    /// Reads `shop.example`, or the ID of the domain, `spiffe://shop.example`.
    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        is_trust_domain(name).then(|| Self(name.into())).ok_or(InvalidSpiffeId::TrustDomain)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_the_standard_says() {
        let long = |of: usize| format!("spiffe://d/{}", "a".repeat(of - "spiffe://d/".len()));
        let domain = |of: usize| format!("spiffe://{}", "a".repeat(of));
        for (text, expected) in [
            ("spiffe://a", Ok(("a", ""))),
            ("spiffe://shop.example/ns/shop/sa/orders", Ok(("shop.example", "/ns/shop/sa/orders"))),
            ("spiffe://a-b_c.1/A-Z_0.9/...", Ok(("a-b_c.1", "/A-Z_0.9/..."))),
            ("", Err(InvalidSpiffeId::Scheme)),
            ("https://a/b", Err(InvalidSpiffeId::Scheme)),
            ("SPIFFE://a/b", Err(InvalidSpiffeId::Scheme)),
            ("spiffe:/a", Err(InvalidSpiffeId::Scheme)),
            ("spiffe://", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe:///b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://A/b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://a:80/b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://me@a/b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://[::1]/b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://a?b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://ä/b", Err(InvalidSpiffeId::TrustDomain)),
            ("spiffe://a/", Err(InvalidSpiffeId::Path)),
            ("spiffe://a//b", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/b/", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/./b", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/b/..", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/b?c", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/b#c", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/%62", Err(InvalidSpiffeId::Path)),
            ("spiffe://a/b\0", Err(InvalidSpiffeId::Path)),
        ] {
            let read = text.parse::<SpiffeId>();
            assert_eq!(
                read.as_ref().map(|id| (id.trust_domain(), id.path())),
                expected.as_ref().copied(),
                "{text}"
            );
        }
        assert!(long(2048).parse::<SpiffeId>().is_ok());
        assert_eq!(long(2049).parse::<SpiffeId>(), Err(InvalidSpiffeId::TooLong));
        assert!(domain(255).parse::<SpiffeId>().is_ok());
        assert_eq!(domain(256).parse::<SpiffeId>(), Err(InvalidSpiffeId::TrustDomain));
    }

    #[test]
    fn a_trust_domain_is_a_name_or_an_id_without_a_path() {
        for text in ["shop.example", "spiffe://shop.example"] {
            assert_eq!(text.parse::<TrustDomain>().unwrap().as_str(), "shop.example");
        }
        for text in ["", "spiffe://", "Shop.example", "shop.example/a", "https://shop.example"] {
            assert_eq!(text.parse::<TrustDomain>(), Err(InvalidSpiffeId::TrustDomain), "{text}");
        }
    }
}
