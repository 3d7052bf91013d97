//! The one host that a request is for, and the patterns that hosts are matched with.

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::{HeaderMap, HeaderValue, Uri, header::HOST};

/// Why a request has no single valid host. To a client each is a 400 (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHost {
    /// `Host` says another host than the request target or `:authority` (RFC 9113, 8.3.1).
    #[error("the request names two hosts")]
    Conflicting,
    /// Not a host name or address of RFC 1123 and RFC 3986, or its port is none.
    #[error("the host is malformed")]
    Malformed,
    /// There is neither a `Host` header nor an authority in the request target, or it is empty.
    #[error("the request names no host")]
    Missing,
    /// There is more than one `Host` header line, even if they say the same.
    #[error("the request has several Host headers")]
    Repeated,
}

/// The host that a request is for: lower-cased, without a trailing dot, its port apart.
///
/// ```
/// use portcullis::matching::Host;
///
/// let host = Host::parse("Shop.Example.:8443")?;
/// assert_eq!((host.name(), host.port()), ("shop.example", Some(8443)));
/// assert_eq!(Host::parse("[::1]:80")?.name(), "[::1]");
/// # Ok::<(), portcullis::matching::BadHost>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host<'a> {
    name: Cow<'a, str>,
    port: Option<u16>,
}

impl<'a> Host<'a> {
    /// The longest host name that is taken, in bytes, without a trailing dot (RFC 1035, 2.3.4).
    pub const MAX_LENGTH: usize = 253;

    /// The host of a request with this target and these headers, whatever its version: the `Host` header of
    /// HTTP/1, the authority of an absolute or authority form, the `:authority` of HTTP/2.
    ///
    /// Allocates only if the name has upper-case letters.
    ///
    /// # Errors
    ///
    /// If there is none, more than one, or a malformed one.
    pub fn of(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Self, BadHost> {
        let mut lines = headers.get_all(HOST).iter();
        let line = lines.next();
        if lines.next().is_some() {
            return Err(BadHost::Repeated);
        }
        let header = match line {
            Some(line) => Some(Self::parse(line.to_str().map_err(|_| BadHost::Malformed)?)?),
            None => None,
        };
        let target = match uri.authority() {
            Some(authority) => Some(Self::parse(authority.as_str())?),
            None => None,
        };
        match (target, header) {
            (None, None) => Err(BadHost::Missing),
            (Some(host), None) | (None, Some(host)) => Ok(host),
            (Some(target), Some(header)) if target.is_same(&header, uri.scheme_str()) => Ok(target),
            (Some(_), Some(_)) => Err(BadHost::Conflicting),
        }
    }

    /// Reads `name`, `name:port`, `[v6]` or `[v6]:port`. User information is refused.
    ///
    /// # Errors
    ///
    /// [`BadHost::Missing`] if there is no name, [`BadHost::Malformed`] if it is not valid.
    pub fn parse(text: &'a str) -> Result<Self, BadHost> {
        if text.starts_with('[') {
            let (address, port) = text.split_at(text.find(']').ok_or(BadHost::Malformed)? + 1);
            return Ok(Self { port: parse_port(port)?, name: parse_address(address)? });
        }
        let name = Name::read(text);
        let port = parse_port(&text[name.end..])?;
        match name.end {
            0 => Err(BadHost::Missing),
            _ if !name.is_valid => Err(BadHost::Malformed),
            _ => Ok(Self { name: name.normal(text), port }),
        }
    }

    /// The name or address. An IPv6 address is in brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[cfg(feature = "admission")]
    pub(crate) fn into_name(self) -> Cow<'a, str> {
        self.name
    }

    /// The port, if one was given.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    fn is_same(&self, other: &Self, scheme: Option<&str>) -> bool {
        let default = match scheme {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        };
        self.name == other.name && self.port.or(default) == other.port.or(default)
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The host as the caller sent it: a request extension, left by whoever has put another in its place. It is
/// what `X-Forwarded-Host` tells the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedHost(pub HeaderValue);

/// What follows the name: nothing, or a colon and a port, which may be empty (RFC 3986, 3.2.3).
fn parse_port(rest: &str) -> Result<Option<u16>, BadHost> {
    if matches!(rest, "" | ":") {
        return Ok(None);
    }
    let digits = rest.strip_prefix(':').ok_or(BadHost::Malformed)?;
    let add = |port: u32, digit: u8| digit.is_ascii_digit().then(|| port * 10 + u32::from(digit - b'0'));
    let port = if digits.len() > 5 { None } else { digits.bytes().try_fold(0, add) };
    port.and_then(|port| port.try_into().ok()).map(Some).ok_or(BadHost::Malformed)
}

/// An IPv6 address in brackets.
fn parse_address(name: &str) -> Result<Cow<'_, str>, BadHost> {
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(BadHost::Malformed)?;
    let address: Ipv6Addr = address.parse().map_err(|_| BadHost::Malformed)?;
    let normal = format!("[{address}]");
    Ok(if normal == name { Cow::Borrowed(name) } else { Cow::Owned(normal) })
}

/// The name that a text begins with, as found in one pass: each request is read so more than once.
struct Name {
    /// The first byte that is in no name.
    end: usize,
    /// Of labels of letters, digits, `-`, and `_`, which is no part of RFC 1123 but is in use; a dot may end it.
    is_valid: bool,
    ends_with_dot: bool,
    has_upper: bool,
}

const MAX_LABEL: usize = 63;

impl Name {
    fn read(text: &str) -> Self {
        let mut name = Self { end: text.len(), is_valid: true, ends_with_dot: false, has_upper: false };
        let mut dot = 0; // one past the last
        for (at, byte) in text.bytes().enumerate() {
            match CLASSES[usize::from(byte)] {
                Class::Plain => {}
                Class::Upper => name.has_upper = true,
                Class::Dot => {
                    name.is_valid &= at > dot && at - dot <= MAX_LABEL;
                    dot = at + 1;
                }
                Class::Foreign => {
                    name.end = at;
                    break;
                }
            }
        }
        name.ends_with_dot = dot > 0 && dot == name.end;
        let length = name.end - usize::from(name.ends_with_dot);
        name.is_valid &= length > 0 && name.end - dot <= MAX_LABEL && length <= Host::MAX_LENGTH;
        name
    }

    /// In lower case, without the dot.
    fn normal<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let name = &text[..self.end - usize::from(self.ends_with_dot)];
        if self.has_upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
    }
}

fn is_name(text: &str) -> bool {
    let name = Name::read(text);
    name.end == text.len() && name.is_valid && !name.ends_with_dot
}

#[derive(Clone, Copy)]
enum Class {
    Plain,
    Upper,
    Dot,
    Foreign,
}

/// The bytes of names.
static CLASSES: [Class; 256] = {
    let mut table = [Class::Foreign; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' => Class::Plain,
            b'A'..=b'Z' => Class::Upper,
            b'.' => Class::Dot,
            _ => Class::Foreign,
        };
        byte += 1;
    }
    table
};

/// Which hosts a rule is for, as in an `HTTPRoute`'s `hostnames`.
///
/// Of several that match, the more specific goes first: an exact name, then the wildcard with the most
/// characters, then [`Any`](Self::Any).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostPattern {
    /// Every host: a rule without host names.
    #[default]
    Any,
    /// This host, as [`Host::name`] gives it.
    Exact(Box<str>),
    /// Hosts that end with this suffix, which begins with a dot: `*.shop.example` is for `a.shop.example` and
    /// `b.a.shop.example`, and not for `shop.example`.
    Suffix(Box<str>),
}

/// A text is no host pattern: it is no host name of RFC 1123, an address, or has `*` elsewhere than as its
/// first label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name, which may begin with \"*.\"")]
pub struct InvalidHost(String);

impl InvalidHost {
    #[cfg(feature = "routing")]
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl HostPattern {
    /// Reads `shop.example`, and no wildcard: a `PreciseHostname` of the Gateway API.
    #[cfg(feature = "routing")]
    pub(crate) fn precise(text: &str) -> Result<Box<str>, InvalidHost> {
        match Self::parse(text)? {
            Self::Exact(name) => Ok(name),
            _ => Err(InvalidHost::new(text)),
        }
    }

    /// Reads `shop.example` or `*.shop.example`. Case and a trailing dot do not matter.
    ///
    /// # Errors
    ///
    /// If `text` is not such a name. Addresses and a lone `*` are none in the Gateway API.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        let (is_wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_name(&name) || name.parse::<Ipv4Addr>().is_ok() {
            return Err(invalid());
        }
        Ok(if is_wildcard { Self::Suffix(format!(".{name}").into()) } else { Self::Exact(name.into()) })
    }

    /// Whether this pattern is for `host`, which is in the form of [`Host::name`].
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (HOST, HeaderValue::from_static(line))).collect()
    }

    fn host(uri: &'static str, lines: &[&'static str]) -> Result<String, BadHost> {
        let headers = headers(lines);
        Host::of(&Uri::from_static(uri), &headers).map(|host| host.to_string())
    }

    #[test]
    fn each_form_of_a_request_has_one_host() {
        assert_eq!(host("/x", &["a.example"]).unwrap(), "a.example");
        assert_eq!(host("/x", &["A.Example.:8080"]).unwrap(), "a.example:8080");
        assert_eq!(host("http://a.example/x", &[]).unwrap(), "a.example");
        assert_eq!(host("a.example:443", &["a.example:443"]).unwrap(), "a.example:443");
        assert_eq!(host("*", &["a.example"]).unwrap(), "a.example");
        assert_eq!(host("http://a.example:80/x", &["A.example"]).unwrap(), "a.example:80");
    }

    #[test]
    fn a_missing_repeated_or_conflicting_host_is_refused() {
        assert_eq!(host("/x", &[]), Err(BadHost::Missing));
        assert_eq!(host("/x", &[""]), Err(BadHost::Missing));
        assert_eq!(host("/x", &[":80"]), Err(BadHost::Missing));
        assert_eq!(host("/x", &["a.example", "a.example"]), Err(BadHost::Repeated));
        assert_eq!(host("http://a.example/x", &["b.example"]), Err(BadHost::Conflicting));
        assert_eq!(host("http://a.example/x", &["a.example:81"]), Err(BadHost::Conflicting));
        assert_eq!(host("https://a.example/x", &["a.example:80"]), Err(BadHost::Conflicting));
        assert_eq!(host("http://a.example/x", &[""]), Err(BadHost::Missing));
    }

    #[test]
    fn malformed_hosts_are_refused() {
        let long_label = "a".repeat(64);
        let long_name = ["a"; 128].join(".");
        for text in [
            "a b",
            "a..b",
            ".a",
            ".",
            "a/b",
            "a@b",
            "u:p@a",
            "a%2e",
            "a,b",
            "a:b",
            "a:65536",
            "a:+80",
            "a:080000",
            "::1",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[1.2.3.4]",
            "[v1.x]",
            "[]",
            "\u{e9}.example",
            "*.example",
            &long_label,
            &long_name,
        ] {
            assert_eq!(Host::parse(text), Err(BadHost::Malformed), "{text}");
        }
        let mut bytes = HeaderMap::new();
        bytes.insert(HOST, HeaderValue::from_bytes(b"a\xff").unwrap());
        assert_eq!(Host::of(&Uri::from_static("/"), &bytes), Err(BadHost::Malformed));
    }

    #[test]
    fn unusual_hosts_have_one_spelling() {
        assert_eq!(Host::parse("a:").unwrap().port(), None);
        assert_eq!(Host::parse("127.0.0.1:0").unwrap().to_string(), "127.0.0.1:0");
        assert_eq!(Host::parse("[0:0::1]:7").unwrap().to_string(), "[::1]:7");
        assert_eq!(Host::parse("[2001:DB8::1]").unwrap().name(), "[2001:db8::1]");
        assert_eq!(Host::parse("my_app-1").unwrap().name(), "my_app-1");
        assert!(matches!(Host::parse("a.example").unwrap().name, Cow::Borrowed(_)));
    }

    #[test]
    fn patterns_match_whole_labels() {
        let wildcard = HostPattern::parse("*.Shop.Example").unwrap();
        assert_eq!(wildcard.to_string(), "*.shop.example");
        assert!(wildcard.matches("a.shop.example") && wildcard.matches("b.a.shop.example"));
        assert!(!wildcard.matches("shop.example") && !wildcard.matches("workshop.example"));
        assert!(!wildcard.matches(".shop.example"));
        assert!(HostPattern::parse("shop.example.").unwrap().matches("shop.example"));
        assert!(HostPattern::Any.matches("") && HostPattern::Any.matches("[::1]"));
        for text in ["*", "*.", "", "a.*.b", "*a.b", "10.0.0.1", "[::1]", "a:80", "a b", "*.*.a"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_a_panic(text in any::<String>()) {
            if let Ok(host) = Host::parse(&text) {
                let again = host.to_string();
                prop_assert_eq!(Host::parse(&again).unwrap(), host.clone());
                prop_assert!(!host.name().bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }

        #[test]
        fn host_like_text_is_stable(text in "[a-cA-C.:\\[\\]0-9_-]{0,20}") {
            if let Ok(host) = Host::parse(&text) {
                let again = host.to_string();
                prop_assert_eq!(Host::parse(&again).unwrap(), host.clone());
            }
        }
    }
}
