//! What is kept of a request so that it can be sent again, and whether it may be. Retries and hedges share it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderName, Method, Request, header};

use crate::reject::{Reason, Rejection};

/// An attempt is not begun with less than this left, unless told.
pub(super) const LEAST_LEFT: Duration = Duration::from_millis(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// In which header a server is told which attempt at a call it has, and how many there were. It goes with the call, so that
/// each attempt has a number of its own, a hedge's too.
#[derive(Debug, Clone)]
pub(super) struct Numbering(Arc<(HeaderName, AtomicU32)>);

impl Numbering {
    pub(super) fn new(name: HeaderName) -> Self {
        Self(Arc::new((name, AtomicU32::new(0))))
    }

    /// Makes it the next attempt, if it is to be told.
    pub(super) fn number<B>(request: &mut Request<B>) {
        if let Some(Self(numbering)) = request.extensions().get::<Self>().cloned() {
            let (name, made) = &*numbering;
            let number = made.fetch_add(1, Relaxed).saturating_add(1);
            request.headers_mut().insert(name.clone(), number.into());
        }
    }
}

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
