//! A rejection as bytes, in each protocol.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Answer, Disclose, Protocol, Rejection, rejection::Inner};
use crate::head::Head;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_RETRY_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What `grpc-message` must encode: everything but visible ASCII and space, and `%` itself.
const GRPC_MESSAGE_ENCODED: &AsciiSet = &CONTROLS.add(b'%').add(0x7f);

/// How an answer to one request is to be rendered; taken from the request before it is given away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    protocol: Protocol,
    disclose: bool,
}

impl Style {
    pub(crate) fn of(head: &Head<'_>) -> Self {
        Self { protocol: head.protocol(), disclose: head.extensions().get::<Disclose>().is_some() }
    }

    pub(crate) fn protocol(self) -> Protocol {
        self.protocol
    }

    pub(crate) fn render(self, answer: Answer) -> Response<Bytes> {
        match answer {
            Answer::Respond(response) => *response,
            Answer::Refuse(rejection) => rejection.render(self),
        }
    }
}

impl Rejection {
    /// The answer in `protocol`, its details hidden. The rejection itself rides in the response's extensions.
    #[must_use]
    pub fn into_response(self, protocol: Protocol) -> Response<Bytes> {
        self.render(Style { protocol, disclose: false })
    }

    /// The answer in `protocol`, with the details. For callers that may know them.
    #[must_use]
    pub fn into_disclosed_response(self, protocol: Protocol) -> Response<Bytes> {
        self.render(Style { protocol, disclose: true })
    }

    pub(crate) fn render(self, style: Style) -> Response<Bytes> {
        let inner = self.parts();
        let detail = if style.disclose { inner.detail.as_deref() } else { None };
        let mut response = match style.protocol {
            Protocol::Http => problem(inner, detail),
            Protocol::Grpc | Protocol::GrpcWeb => trailers_only(inner, detail),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, style.protocol.content_type());
        headers.extend(inner.headers.clone());
        if let Some(after) = inner.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// RFC 9457. The `reason` member is ours: the metric label, for programs that must tell two 503 apart.
fn problem(inner: &Inner, detail: Option<&str>) -> Response<Bytes> {
    let status = inner.shown.map_or(inner.reason.status(), |(status, _)| status);
    let mut json = String::with_capacity(128);
    let _ = write!(
        json,
        r#"{{"type":"about:blank","title":"{}","status":{},"reason":"{}""#,
        status.canonical_reason().unwrap_or(inner.reason.title()),
        status.as_u16(),
        inner.reason.label()
    );
    if let Some(detail) = detail {
        json.push_str(r#","detail":""#);
        escape_json(detail, &mut json);
        json.push('"');
    }
    json.push('}');
    let mut response = Response::new(Bytes::from(json));
    *response.status_mut() = status;
    response
}

/// A response whose status stands in its head, as gRPC and gRPC-Web clients read it.
fn trailers_only(inner: &Inner, detail: Option<&str>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    let code = inner.shown.map_or(inner.reason.grpc(), |(_, code)| code);
    headers.insert(GRPC_STATUS, u16::from(code.number()).into());
    let message = detail.unwrap_or(inner.reason.label());
    let encoded = utf8_percent_encode(message, GRPC_MESSAGE_ENCODED).to_string();
    if let Ok(value) = HeaderValue::try_from(encoded) {
        headers.insert(GRPC_MESSAGE, value);
    }
    if let Some(after) = inner.retry_after {
        let millis = u64::try_from(after.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        headers.insert(GRPC_RETRY_PUSHBACK, millis.into());
    }
    response
}

/// Whole seconds, rounded up, and never zero: zero invites an immediate retry.
fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

/// Writes a text as it stands between the quotes of a JSON string.
pub(crate) fn escape_json(text: &str, json: &mut String) {
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reason;

    #[test]
    fn every_reason_renders_in_every_protocol() {
        for &reason in Reason::ALL {
            let rejection = Rejection::new(reason).detail("why \"so\"\n").retry_after(Duration::from_secs(2));
            let http = rejection.clone().into_response(Protocol::Http);
            assert_eq!(http.status(), reason.status());
            let json: serde_json::Value = serde_json::from_slice(http.body()).unwrap();
            assert_eq!(json["status"], reason.status().as_u16());
            assert_eq!(json["reason"], reason.label());
            assert!(json.get("detail").is_none());
            assert!(http.extensions().get::<Rejection>().is_some());

            let told = rejection.clone().into_disclosed_response(Protocol::Http);
            let json: serde_json::Value = serde_json::from_slice(told.body()).unwrap();
            assert_eq!(json["detail"], "why \"so\"\n");

            for (protocol, content_type) in
                [(Protocol::Grpc, "application/grpc"), (Protocol::GrpcWeb, "application/grpc-web")]
            {
                let grpc = rejection.clone().into_response(protocol);
                assert_eq!(grpc.status(), 200);
                assert_eq!(grpc.headers()["content-type"], content_type);
                assert_eq!(grpc.headers()["grpc-status"], reason.grpc().number().to_string().as_str());
                assert_eq!(grpc.headers()["grpc-message"], reason.label());
                assert_eq!(grpc.headers()["grpc-retry-pushback-ms"], "2000");
                assert!(grpc.body().is_empty());
            }
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let response =
            Rejection::new(Reason::Internal).detail("50% über\r\nx").into_disclosed_response(Protocol::Grpc);
        assert_eq!(response.headers()["grpc-message"], "50%25 %C3%BCber%0D%0Ax");
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (after, seconds) in
            [(Duration::ZERO, 1), (Duration::from_nanos(1), 1), (Duration::from_millis(1001), 2)]
        {
            assert_eq!(whole_seconds(after), seconds);
        }
    }
}
