use std::fmt;

use http::{HeaderMap, HeaderName};

/// A gRPC status code, as the [specification](https://grpc.github.io/grpc/core/md_doc_statuscodes.html) numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrpcCode(u8);

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        impl GrpcCode {
            $(#[doc = concat!("`", stringify!($name), "` (", $code, ").")]
            pub const $name: Self = Self($code);)*

            /// The name the specification gives the code.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

codes! {
    OK = 0,
    CANCELLED = 1,
    UNKNOWN = 2,
    INVALID_ARGUMENT = 3,
    DEADLINE_EXCEEDED = 4,
    NOT_FOUND = 5,
    ALREADY_EXISTS = 6,
    PERMISSION_DENIED = 7,
    RESOURCE_EXHAUSTED = 8,
    FAILED_PRECONDITION = 9,
    ABORTED = 10,
    OUT_OF_RANGE = 11,
    UNIMPLEMENTED = 12,
    INTERNAL = 13,
    UNAVAILABLE = 14,
    DATA_LOSS = 15,
    UNAUTHENTICATED = 16,
}

impl GrpcCode {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The code of this number, if there is one.
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        if number <= 16 { Some(Self(number)) } else { None }
    }

    /// The code in `grpc-status` of a head or of trailers. A value that is no code is `UNKNOWN`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
        headers.get(GRPC_STATUS).map(|value| Self::of_text(value.as_bytes()))
    }

    /// That of this `grpc-status`.
    pub(crate) fn of_text(text: &[u8]) -> Self {
        match text {
            [d @ b'0'..=b'9'] => Self(d - b'0'),
            [b'1', d @ b'0'..=b'6'] => Self(10 + d - b'0'),
            _ => Self::UNKNOWN,
        }
    }

    /// Whether the code says that the server failed, and not that the caller erred. These are the codes that
    /// OpenTelemetry's semantic conventions count as errors of a server.
    #[must_use]
    pub const fn is_server_fault(self) -> bool {
        matches!(
            self,
            Self::UNKNOWN
                | Self::DEADLINE_EXCEEDED
                | Self::UNIMPLEMENTED
                | Self::INTERNAL
                | Self::UNAVAILABLE
                | Self::DATA_LOSS
        )
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_status_is_read_strictly() {
        for (value, code) in [
            ("0", GrpcCode::OK),
            ("4", GrpcCode::DEADLINE_EXCEEDED),
            ("16", GrpcCode::UNAUTHENTICATED),
            ("17", GrpcCode::UNKNOWN),
            ("00", GrpcCode::UNKNOWN),
            ("-1", GrpcCode::UNKNOWN),
            ("", GrpcCode::UNKNOWN),
            ("ok", GrpcCode::UNKNOWN),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", HeaderValue::from_static(value));
            assert_eq!(GrpcCode::of(&headers), Some(code), "{value:?}");
        }
        assert_eq!(GrpcCode::of(&HeaderMap::new()), None);
    }
}
