use std::fmt;

use http::HeaderValue;

/// A request's id: 1 to 128 bytes of visible ASCII that cannot break a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The longest id, in bytes.
    pub const MAX: usize = 128;

    /// An id of these bytes, unless they are empty, too long, or could break a log: visible ASCII without `"`, `'`,
    /// `\`, `,`, `;`, `<`, `>`, `{` and `}`.
    #[must_use]
    pub fn new(value: HeaderValue) -> Option<Self> {
        can_be(&value).then_some(Self(value))
    }

    /// As [`new`](Self::new), of a value that is not given away.
    #[cfg(feature = "telemetry")]
    pub(crate) fn read(value: &HeaderValue) -> Option<Self> {
        can_be(value).then(|| Self(value.clone()))
    }

    /// An id that we made ourselves.
    #[cfg(feature = "telemetry")]
    pub(crate) fn made(value: HeaderValue) -> Self {
        debug_assert!(value.as_bytes().iter().copied().all(is_safe));
        Self(value)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header value.
    #[must_use]
    pub const fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

fn can_be(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= RequestId::MAX;
    // Without an early end: so it is done many bytes at a time.
    fits && bytes.iter().fold(true, |safe, byte| safe & is_safe(*byte))
}

const fn is_safe(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b',' | b';' | b'<' | b'>' | b'{' | b'}')
}

impl From<RequestId> for HeaderValue {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestId").field(&self.as_str()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_break_a_log_are_none() {
        let id = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok().and_then(RequestId::new);
        assert!(id(b"0198c5d2-7b7e-7000-8000-c0ffee").is_some());
        assert!(id(&[b'a'; 128]).is_some());
        for bad in [&b""[..], &[b'a'; 129], b"a b", b"a\tb", b"a\"b", b"a,b", b"a{b", b"\xff", b"a\\b"] {
            assert!(id(bad).is_none(), "{bad:?}");
        }
    }
}
