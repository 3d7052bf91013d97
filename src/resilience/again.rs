//! What is kept of a request so that it can be sent again, and whether it may be. Retries and hedges share it.

use http::{Extensions, HeaderMap, HeaderName, Method, Request, Uri, Version, header, request};

use crate::{
    body::{Body, Replay},
    reject::{Reason, Rejection},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether a request may be done twice: its method is idempotent (RFC 9110 section 9.2.2), or it brings a key by which the
/// server knows it again.
pub(super) fn is_repeatable<B>(request: &Request<B>) -> bool {
    request.method().is_idempotent()
        || request.headers().get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty())
}

/// Whether it is a request that can have a second attempt at all.
pub(super) fn has_attempts<B>(request: &Request<B>) -> bool {
    request.method() != Method::CONNECT && !request.headers().contains_key(header::UPGRADE)
}

/// Whether one of our own layers has refused it: it was not sent, and would be refused again. Where there is no room, and
/// that is said to be unsent, one endpoint has none, and another may have some; limits in front of all of them do not say so.
pub(super) fn is_refusal(rejection: &Rejection) -> bool {
    match rejection.reason() {
        Reason::BadRequest
        | Reason::CallerDeadline
        | Reason::ConnectFailed
        | Reason::DeadlineExceeded
        | Reason::RequestTimeout
        | Reason::UpstreamProtocol
        | Reason::UpstreamReset
        | Reason::UpstreamTimeout => false,
        Reason::Overloaded => !rejection.is_unsent(),
        _ => true,
    }
}

/// A request's head, to be sent again.
pub(super) struct Head {
    pub(super) method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    pub(super) extensions: Extensions,
}

impl Head {
    fn of(parts: &request::Parts) -> Self {
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            extensions: parts.extensions.clone(),
        }
    }

    /// The request with this head.
    pub(super) fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

/// Keeps what is needed to send `request` again, and gives it back for the first attempt. There is no [`Replay`] if the body
/// says that it is longer than `most_body` bytes.
pub(super) fn keep(request: Request<Body>, most_body: usize) -> (Head, Option<Replay>, Request<Body>) {
    let (parts, body) = request.into_parts();
    let replayed = Replay::new(body, most_body)
        .and_then(|replay| replay.body().map(|first| (Some(replay), first)).ok_or_else(Body::empty));
    let (replay, first) = replayed.unwrap_or_else(|body| (None, body));
    (Head::of(&parts), replay, Request::from_parts(parts, first))
}
