use http::{HeaderMap, HeaderValue, header};

/// The protocol in which a caller must be answered.
///
/// ```
/// use http::HeaderMap;
/// use portcullis::reject::Protocol;
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(Protocol::of(&headers), Protocol::Http);
/// headers.insert("content-type", "application/grpc+proto".parse().unwrap());
/// assert_eq!(Protocol::of(&headers), Protocol::Grpc);
/// headers.insert("content-type", "application/grpc-web".parse().unwrap());
/// assert_eq!(Protocol::of(&headers), Protocol::GrpcWeb);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Protocol {
    /// Plain HTTP.
    #[default]
    Http,
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, binary or text.
    GrpcWeb,
}

const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";
const GRPC_WEB_TEXT: &[u8] = b"application/grpc-web-text";

impl Protocol {
    /// The protocol of a request or response with these header fields, by its `Content-Type`.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        headers.get(header::CONTENT_TYPE).map_or(Self::Http, |value| Self::of_type(value.as_bytes()))
    }

    /// That of this `Content-Type`.
    pub(crate) fn of_type(value: &[u8]) -> Self {
        if is_media_type(value, GRPC) {
            Self::Grpc
        } else if is_media_type(value, GRPC_WEB) || is_media_type(value, GRPC_WEB_TEXT) {
            Self::GrpcWeb
        } else {
            Self::Http
        }
    }

    /// Whether calls end with a gRPC status.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::GrpcWeb)
    }

    /// The content type of an answer in this protocol that has no message.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Http => "application/problem+json",
            Self::Grpc => "application/grpc",
            Self::GrpcWeb => "application/grpc-web",
        })
    }
}

/// Whether `value` is `media_type`, alone or with a `+suffix` or a `;parameter`. Media types have no case.
fn is_media_type(value: &[u8], media_type: &[u8]) -> bool {
    value.len() >= media_type.len()
        && value[..media_type.len()].eq_ignore_ascii_case(media_type)
        && matches!(value.get(media_type.len()), None | Some(b'+' | b';' | b' ' | b'\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_tell_the_protocol() {
        for (value, protocol) in [
            ("application/grpc", Protocol::Grpc),
            ("Application/GRPC; charset=utf-8", Protocol::Grpc),
            ("application/grpc+json", Protocol::Grpc),
            ("application/grpc-web+proto", Protocol::GrpcWeb),
            ("application/grpc-web-text", Protocol::GrpcWeb),
            ("application/grpcx", Protocol::Http),
            ("application/grpc-webx", Protocol::Http),
            ("application/grp", Protocol::Http),
            ("text/html", Protocol::Http),
            ("", Protocol::Http),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(Protocol::of(&headers), protocol, "{value}");
        }
    }
}
