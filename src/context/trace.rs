use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::hex;

/// Where a request stands in a trace, as `traceparent` tells it
/// ([W3C Trace Context](https://www.w3.org/TR/trace-context/) level 1).
///
/// ```
/// use portcullis::context::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace = TraceContext::parse(text.as_bytes()).unwrap();
/// assert!(trace.is_sampled());
/// assert_eq!(trace.to_string(), text);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl TraceContext {
    /// A place in a trace; `None` if an id is zero, which the standard forbids.
    #[must_use]
    pub const fn new(trace_id: u128, parent_id: u64, flags: u8) -> Option<Self> {
        if trace_id == 0 || parent_id == 0 {
            return None;
        }
        Some(Self { trace_id, parent_id, flags })
    }

    /// What a `traceparent` field tells; `None` if it is malformed or stands there twice.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes())
    }

    /// Parses the value of a `traceparent` field. A version above 00 is read as far as 00 is defined.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_at_checked(55)?;
        let version = number(&fields[..2])?;
        let dashes = fields[2] == b'-' && fields[35] == b'-' && fields[52] == b'-';
        let ends = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest[0] == b'-' };
        if version == 0xff || !dashes || !ends {
            return None;
        }
        let parent_id = u64::try_from(number(&fields[36..52])?).ok()?;
        let flags = u8::try_from(number(&fields[53..55])?).ok()?;
        Self::new(number(&fields[3..35])?, parent_id, flags)
    }

    /// The id of the whole trace.
    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The id of the caller's span.
    #[must_use]
    pub const fn parent_id(self) -> u64 {
        self.parent_id
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The value of a `traceparent` field.
    #[must_use]
    pub fn to_header(self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

/// Lower case only, as the standard asks.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = hex::digit(*digit).filter(|_| !digit.is_ascii_uppercase())?;
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_standard_forbids_is_none() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
        let newer = b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x";
        assert!(TraceContext::parse(newer).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }

        #[test]
        fn there_and_back(trace in 1_u128.., parent in 1_u64.., flags: u8) {
            let context = TraceContext::new(trace, parent, flags).unwrap();
            prop_assert_eq!(TraceContext::parse(context.to_header().unwrap().as_bytes()), Some(context));
        }
    }
}
