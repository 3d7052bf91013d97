//! Cookies of a request, read in place (RFC 6265 section 4.2).
use http::{HeaderMap, header::COOKIE};

/// Names and values of all `Cookie` fields, as they stand there; HTTP/2 may send many (RFC 9113 section 8.2.3).
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';').map(pair))
}

/// One name and its value, without blanks around them.
pub(crate) fn pair(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()),
        None => (pair.trim_ascii(), &[]),
    }
}

/// Makes one field of many: in HTTP/1 there is but one.
#[cfg(any(feature = "upstream", feature = "admission"))]
pub(crate) fn join(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) {
        let mut joined = first.as_bytes().to_vec();
        for crumb in std::iter::once(second).chain(crumbs) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(crumb.as_bytes());
        }
        if let Ok(cookie) = http::HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
            headers.insert(COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_lines_are_read() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; b = 2 ", "c;d=\"x=y\"", ""] {
            headers.append(COOKIE, line.parse().unwrap());
        }
        let read: Vec<_> = cookies(&headers)
            .map(|(name, value)| [name, value].map(|of| of.escape_ascii().to_string()))
            .collect();
        assert_eq!(read, [["a", "1"], ["b", "2"], ["c", ""], ["d", r#"\"x=y\""#], ["", ""]]);
    }

    #[cfg(any(feature = "upstream", feature = "admission"))]
    #[test]
    fn many_lines_become_one() {
        let mut headers = HeaderMap::new();
        join(&mut headers);
        assert!(headers.is_empty());
        for line in ["a=1", "b=2; c=3", "d=4"] {
            headers.append(COOKIE, line.parse().unwrap());
        }
        join(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; d=4"]);
    }
}
