//! The entries of the forwarding headers, read from the right.

use std::iter::Rev;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{ClientAddr, MAX_BYTES, MAX_HOPS};

pub(super) const FORWARDED: HeaderName = header::FORWARDED;
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What says how a request came. From strangers it is hearsay.
#[cfg(feature = "upstream")]
pub(crate) const HEARSAY: [HeaderName; 7] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-real-ip"),
];

/// What one proxy tells of the request that it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop<'a> {
    /// Whom it was sent by; `None` if the proxy does not know or does not say, or wrote junk.
    pub(super) client: Option<ClientAddr>,
    pub(super) scheme: Option<&'a str>,
    pub(super) host: Option<&'a str>,
}

/// The hops that `X-Forwarded-For` tells of, the nearest first.
pub(super) fn x_forwarded_hops(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    entries(headers, &X_FORWARDED_FOR, last_comma, MAX_BYTES)
        .map(|entry| Hop { client: str::from_utf8(entry).ok().and_then(node), ..Hop::default() })
        .take(MAX_HOPS)
}

/// The hops that `Forwarded` tells of, the nearest first.
pub(super) fn forwarded_hops(headers: &HeaderMap) -> impl Iterator<Item = Hop<'_>> {
    entries(headers, &FORWARDED, last_comma_unquoted, MAX_BYTES)
        .map(|entry| str::from_utf8(entry).ok().and_then(element).unwrap_or_default())
        .take(MAX_HOPS)
}

/// What the nearest proxy wrote into a header that is a list by custom only.
pub(super) fn last_entry<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    entries(headers, name, last_comma, MAX_BYTES).next().and_then(|entry| str::from_utf8(entry).ok())
}

/// The last entry of a header in which commas may be quoted; `None` if there is none that begins within so many bytes.
#[cfg(feature = "tls")]
pub(super) fn last_unquoted<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    budget: usize,
) -> Option<&'a [u8]> {
    entries(headers, name, last_comma_unquoted, budget).next()
}

/// The entries of all lines of a header, from the right, without surrounding blanks and without empty ones.
struct Entries<'a> {
    lines: Rev<header::ValueIter<'a, HeaderValue>>,
    line: Option<&'a [u8]>,
    divide: fn(&[u8]) -> Option<usize>,
    budget: usize,
}

fn entries<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    divide: fn(&[u8]) -> Option<usize>,
    budget: usize,
) -> Entries<'a> {
    Entries { lines: headers.get_all(name).iter().rev(), line: None, divide, budget }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let line = match self.line.take() {
                Some(line) => line,
                None => self.lines.next()?.as_bytes(),
            };
            // No more is looked at than may be; an entry that does not begin within that is not read.
            let start = line.len().saturating_sub(self.budget);
            let entry = match (self.divide)(&line[start..]) {
                Some(comma) => {
                    self.line = Some(&line[..start + comma]);
                    &line[start + comma + 1..]
                }
                None if start > 0 => {
                    self.budget = 0;
                    return None;
                }
                None => line,
            };
            self.budget = self.budget.checked_sub(entry.len() + 1)?;
            let entry = entry.trim_ascii();
            if !entry.is_empty() {
                return Some(entry);
            }
        }
    }
}

fn last_comma(line: &[u8]) -> Option<usize> {
    line.iter().rposition(|byte| *byte == b',')
}

/// The last comma outside of quotes.
///
/// It is looked for from the right, so that a quote which a stranger opened on the left, and never closed,
/// does not swallow what a proxy appended.
fn last_comma_unquoted(line: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut at = line.len();
    while let Some(before) = at.checked_sub(1) {
        at = before;
        match line[at] {
            b',' if !quoted => return Some(at),
            b'"' => {
                let slashes = line[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                if slashes % 2 == 0 {
                    quoted = !quoted;
                }
                at -= slashes;
            }
            _ => {}
        }
    }
    None
}

/// One element of `Forwarded` (RFC 7239, section 4); `None` if it is malformed or says something twice.
fn element(text: &str) -> Option<Hop<'_>> {
    let (mut node_text, mut scheme, mut host) = (None, None, None);
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            break;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        let slot = match name {
            _ if name.eq_ignore_ascii_case("for") => Some(&mut node_text),
            _ if name.eq_ignore_ascii_case("proto") => Some(&mut scheme),
            _ if name.eq_ignore_ascii_case("host") => Some(&mut host),
            _ => None,
        };
        if slot.is_some_and(|slot| slot.replace(value).is_some()) {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
    }
    Some(Hop { client: node_text.and_then(node), scheme, host })
}

/// A token or a quoted string, and what follows it. Escapes stay as they are: no address and no host has one.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return (!value.is_empty() && !value.contains('"')).then_some((value, after));
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((&quoted[..end], &quoted[end + 1..]))
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
///
/// RFC 7239's `unknown` and hidden names (`_gazonk`) are no addresses; a hidden port is no port.
fn node(text: &str) -> Option<ClientAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.into());
    }
    let (ip, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (ip, rest) = bracketed.split_once(']')?;
            (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), rest)
        }
        None => {
            let (ip, rest) = text.split_at(text.find(':')?);
            (IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?), rest)
        }
    };
    if rest.is_empty() {
        return Some(ip.into());
    }
    let port = rest.strip_prefix(':')?;
    if port.starts_with('_') {
        return Some(ip.into());
    }
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = if digits { port.parse().ok()? } else { return None };
    Some(ClientAddr::new(ip, Some(port)))
}
