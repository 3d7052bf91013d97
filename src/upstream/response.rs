//! A response, made ready for the client.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE},
    response::Parts,
};
use hyper::upgrade::OnUpgrade;

use super::{hop, request::Upgrade};
use crate::reject::{Reason, Rejection};

/// The most fields of a head.
const MAX_FIELDS: usize = 100;
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// How much earlier than the upstream we close an idle connection, if it has said when it does.
const MARGIN: Duration = Duration::from_secs(1);

/// How long the connection of this response may wait for its next request, at most `idle`; `None`: not at all.
pub(super) fn keep(headers: &HeaderMap, idle: Duration) -> Option<Duration> {
    let said = hop::list(headers, &KEEP_ALIVE).find_map(|parameter| {
        let (name, value) = std::str::from_utf8(parameter).ok()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().parse().ok())?
    });
    let keep = said.map_or(idle, |seconds| Duration::from_secs(seconds).saturating_sub(MARGIN).min(idle));
    (!keep.is_zero()).then_some(keep)
}

/// Makes of a response's head the one that the client gets. Gives the upstream's side of an upgrade that was asked for.
pub(super) fn incoming(parts: &mut Parts, asked: Option<&Upgrade>) -> Result<Option<OnUpgrade>, Rejection> {
    check_framing(parts)?;
    // Of HTTP/1 hyper takes no more.
    if parts.headers.len() > MAX_FIELDS {
        return Err(protocol("too many fields"));
    }
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let chosen = if switches { parts.headers.get(UPGRADE).cloned() } else { None };
    let kept =
        hop::strip(&mut parts.headers).map_err(|error| protocol("malformed Connection").source(error))?;
    parts.version = Version::HTTP_11;
    let upstream = parts.extensions.remove::<OnUpgrade>();
    parts.extensions.clear();
    if !switches {
        // Which protocol it asks for (RFC 9110 section 15.5.22).
        if let (StatusCode::UPGRADE_REQUIRED, Some(upgrade)) = (parts.status, kept.upgrade) {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, upgrade);
        }
        return Ok(None);
    }
    let (Some(asked), Some(chosen), Some(upstream)) = (asked, chosen, upstream) else {
        return Err(protocol("it switched protocols, and nobody had asked it to"));
    };
    let is_asked = |protocol: &[u8]| {
        hop::elements(asked.protocols.as_bytes()).any(|asked| asked.eq_ignore_ascii_case(protocol))
    };
    if !hop::elements(chosen.as_bytes()).all(is_asked) {
        return Err(protocol("it switched to a protocol that nobody had asked for"));
    }
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, chosen);
    Ok(Some(upstream))
}

/// One length, or none: hyper reads a response by its transfer coding if it has one, and leaves the length that stands
/// beside it (RFC 9112 section 6.3).
fn check_framing(parts: &mut Parts) -> Result<(), Rejection> {
    let headers = &mut parts.headers;
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = hop::list(headers, &TRANSFER_ENCODING);
        let chunked = codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if !chunked || codings.next().is_some() {
            return Err(protocol("a transfer coding that was not asked for"));
        }
        drop(codings);
        headers.remove(CONTENT_LENGTH);
    }
    if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
        headers.remove(CONTENT_LENGTH);
    }
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(line) = lines.next() else { return Ok(()) };
    if lines.next().is_none() && !line.is_empty() && line.as_bytes().iter().all(u8::is_ascii_digit) {
        return Ok(());
    }
    // In several lines, or in one as a list.
    let mut lengths = hop::list(headers, &CONTENT_LENGTH);
    let first = lengths.next().filter(|first| first.iter().all(u8::is_ascii_digit));
    let Some(first) = first else { return Err(protocol("malformed Content-Length")) };
    if lengths.any(|other| other != first) {
        return Err(protocol("differing lengths"));
    }
    let length = HeaderValue::from_bytes(first);
    drop(lengths);
    let length = length.map_err(|error| protocol("malformed Content-Length").source(error))?;
    headers.insert(CONTENT_LENGTH, length);
    Ok(())
}

fn protocol(detail: &'static str) -> Rejection {
    Rejection::new(Reason::UpstreamProtocol).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_upstream_that_closes_sooner_is_believed() {
        let kept = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(KEEP_ALIVE, value.parse().unwrap());
            keep(&headers, Duration::from_secs(4)).map(|keep| keep.as_secs())
        };
        assert_eq!(kept("timeout=3, max=100"), Some(2));
        assert_eq!(kept("max=100, Timeout = 60"), Some(4));
        assert_eq!(kept("timeout=1"), None);
        assert_eq!(kept("timeout=soon"), Some(4));
    }

    #[test]
    fn a_response_has_one_length() {
        let mut both = head(200, &[("content-length", "5"), ("transfer-encoding", "chunked")]);
        incoming(&mut both, None).unwrap();
        assert!(both.headers.is_empty());
        let mut twice = head(200, &[("content-length", "5"), ("content-length", "5")]);
        incoming(&mut twice, None).unwrap();
        assert_eq!(twice.headers.get_all("content-length").iter().collect::<Vec<_>>(), ["5"]);
        let mut list = head(200, &[("content-length", "5, 5")]);
        incoming(&mut list, None).unwrap();
        assert_eq!(list.headers["content-length"], "5");
        for bad in [
            [("content-length", "5"), ("content-length", "6")],
            [("content-length", "5, 6"), ("x", "y")],
            [("content-length", ", +5"), ("x", "y")],
            [("content-length", ""), ("x", "y")],
            [("transfer-encoding", "gzip, chunked"), ("x", "y")],
            [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            let refused = incoming(&mut head(200, &bad), None).unwrap_err();
            assert_eq!(refused.reason(), Reason::UpstreamProtocol);
        }
    }

    #[test]
    fn nobody_switches_unasked() {
        let refused = incoming(&mut head(101, &[("upgrade", "websocket")]), None).unwrap_err();
        assert_eq!(refused.reason(), Reason::UpstreamProtocol);
    }
}
