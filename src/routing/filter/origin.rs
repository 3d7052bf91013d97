//! Origins, and the patterns that they are allowed by.

use std::borrow::Cow;

use http::HeaderValue;

use crate::matching::Host;

/// Which origins: `*` in front of a host name stands for any number of labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OriginPattern {
    scheme: Box<str>,
    host: HostKind,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostKind {
    Any,
    Exact(Box<str>),
    /// With the dot that it begins with.
    Suffix(Box<str>),
}

impl OriginPattern {
    /// Reads `scheme://host` or `scheme://host:port`. `None` if that is not what it is.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = split(text)?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = match rest.strip_prefix('*') {
            None => {
                let host = Host::parse(rest).ok()?;
                (HostKind::Exact(host.name().into()), host.port())
            }
            Some(rest) if rest.is_empty() || rest.starts_with(':') => (HostKind::Any, any_host_port(rest)?),
            Some(rest) => {
                // A dot, or `*shop.example` would let in `evilshop.example`.
                let host = Host::parse(rest.strip_prefix('.')?).ok()?;
                (HostKind::Suffix(format!(".{}", host.name()).into()), host.port())
            }
        };
        let port = port.or(default_port(&scheme));
        Some(Self { scheme: scheme.into(), host, port })
    }

    pub(super) fn matches(&self, origin: &Origin<'_>) -> bool {
        *self.scheme == *origin.scheme
            && self.port == origin.host.port().or(default_port(&origin.scheme))
            && match &self.host {
                HostKind::Any => true,
                HostKind::Exact(name) => **name == *origin.host.name(),
                HostKind::Suffix(suffix) => {
                    let name = origin.host.name();
                    name.len() > suffix.len() && name.ends_with(&**suffix)
                }
            }
    }
}

/// The value of an `Origin` header, unless it is `null` or malformed (RFC 6454, 7).
pub(super) struct Origin<'a> {
    scheme: Cow<'a, str>,
    host: Host<'a>,
}

impl<'a> Origin<'a> {
    pub(super) fn parse(value: &'a HeaderValue) -> Option<Self> {
        let (scheme, rest) = split(value.to_str().ok()?)?;
        let scheme = if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(scheme.to_ascii_lowercase())
        } else {
            Cow::Borrowed(scheme)
        };
        Some(Self { scheme, host: Host::parse(rest).ok()? })
    }
}

fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some((scheme, rest))
}

fn any_host_port(rest: &str) -> Option<Option<u16>> {
    match rest.strip_prefix(':') {
        None => Some(None),
        Some(port) => port.parse().ok().map(Some),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        let origin = HeaderValue::from_str(origin).unwrap();
        let pattern = OriginPattern::parse(pattern).unwrap();
        Origin::parse(&origin).is_some_and(|origin| pattern.matches(&origin))
    }

    #[test]
    fn origins_match_as_the_standard_says() {
        for (pattern, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://A.example", true),
            ("https://a.example", "https://a.example:443", true),
            ("https://a.example:443", "https://a.example", true),
            ("http://a.example:80", "http://a.example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:8443", false),
            ("https://a.example", "https://b.a.example", false),
            ("https://*.a.example", "https://b.a.example", true),
            ("https://*.a.example", "https://c.b.a.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://evila.example", false),
            ("https://*.a.example:8443", "https://b.a.example:8443", true),
            ("https://*.a.example:8443", "https://b.a.example", false),
            ("https://*", "https://anything.example", true),
            ("https://*", "https://anything.example:8443", false),
            ("https://*:8443", "https://anything.example:8443", true),
            ("https://*", "http://anything.example", false),
            ("capacitor://localhost", "capacitor://localhost", true),
        ] {
            assert_eq!(matches(pattern, origin), expected, "{pattern} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_matches_nothing() {
        for origin in
            ["null", "", "a.example", "https://", "https://a.example/x", "https://u@a.example", "://a"]
        {
            let value = HeaderValue::from_str(origin).unwrap();
            assert!(Origin::parse(&value).is_none(), "{origin}");
        }
        for pattern in
            ["*", "null", "a.example", "https://*a.example", "https://a.*.b", "https://a/x", "https://*:x"]
        {
            assert_eq!(OriginPattern::parse(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn any_origin_is_read_without_a_panic(text in "[ -~]{0,40}") {
            let _ = OriginPattern::parse(&text);
            let _ = Origin::parse(&HeaderValue::from_str(&text).unwrap()).is_some();
        }
    }
}
