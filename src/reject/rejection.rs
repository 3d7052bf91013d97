use std::{borrow::Cow, error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use super::{GrpcCode, Reason};
use crate::body::BoxError;

/// How a layer says no: a [`Reason`], and what the caller and the log should know.
///
/// One pointer, cheap to clone. It is an [`Error`] too, so a service that fails in our words can use it as its
/// error type.
#[derive(Clone)]
pub struct Rejection(Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) reason: Reason,
    pub(super) detail: Option<Cow<'static, str>>,
    pub(super) headers: HeaderMap,
    pub(super) retry_after: Option<Duration>,
    pub(super) shown: Option<(StatusCode, GrpcCode)>,
    unsent: bool,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// A gate's answer instead of letting pass. Not every early answer is a refusal: a CORS preflight, a redirect.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// A refusal, to be rendered in the caller's protocol.
    Refuse(Rejection),
    /// This response, as it stands.
    Respond(Box<Response<Bytes>>),
}

/// A request extension: the details of refusals may be told to this caller.
#[derive(Debug, Clone, Copy)]
pub struct Disclose;

impl Rejection {
    /// A refusal for this reason.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self(Arc::new(Inner {
            reason,
            detail: None,
            headers: HeaderMap::new(),
            retry_after: None,
            shown: None,
            unsent: false,
            source: None,
        }))
    }

    /// What happened, where, and what to do about it; for logs, and for callers only where they carry
    /// [`Disclose`]. It must hold no secret.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.inner().detail = Some(detail.into());
        self
    }

    /// Adds a header field to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner().headers.append(name, value);
        self
    }

    /// When a further try may succeed: `Retry-After` in whole seconds, rounded up (RFC 9110 section 10.2.3), and
    /// `grpc-retry-pushback-ms` for gRPC.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.inner().retry_after = Some(after);
        self
    }

    /// Adds a challenge: one `WWW-Authenticate` field (RFC 9110 section 11.6.1).
    #[must_use]
    pub fn challenge(self, challenge: HeaderValue) -> Self {
        self.header(header::WWW_AUTHENTICATE, challenge)
    }

    /// Nobody has looked at the request: it was not sent, or came back as it was. Whoever may try again, may do so
    /// whatever the request is (RFC 9110 section 9.2.2).
    #[must_use]
    pub fn unsent(mut self) -> Self {
        self.inner().unsent = true;
        self
    }

    /// It is rendered with this status, and this code in gRPC, in place of those of its reason.
    #[cfg(feature = "resilience")]
    #[must_use]
    pub(crate) fn shown_as(mut self, status: StatusCode, code: GrpcCode) -> Self {
        self.inner().shown = Some((status, code));
        self
    }

    /// What caused it; for logs only.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// The reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The detail, if one was given.
    #[must_use]
    pub fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The header fields that the answer will have beside those of its reason.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// When a further try may succeed, if that is known.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether nobody has looked at the request.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.0.unsent
    }

    /// The rejection in `error` or in its chain of sources.
    #[must_use]
    pub fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(rejection) = error.downcast_ref() {
                return Some(rejection);
            }
            next = error.source();
        }
        None
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    pub(super) fn parts(&self) -> &Inner {
        &self.0
    }
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl From<Rejection> for Answer {
    fn from(rejection: Rejection) -> Self {
        Self::Refuse(rejection)
    }
}

impl From<Reason> for Answer {
    fn from(reason: Reason) -> Self {
        Self::Refuse(reason.into())
    }
}

impl From<Response<Bytes>> for Answer {
    fn from(response: Response<Bytes>) -> Self {
        Self::Respond(Box::new(response))
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.detail {
            Some(detail) => write!(f, "{}: {detail}", self.0.reason),
            None => self.0.reason.fmt(f),
        }
    }
}

impl fmt::Debug for Rejection {
    /// Header fields may echo what a caller sent: their names are shown, their values are not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.0.reason)
            .field("detail", &self.0.detail)
            .field("headers", &self.0.headers.keys().collect::<Vec<_>>())
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.0.source)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_pointer() {
        assert_eq!(size_of::<Rejection>(), size_of::<usize>());
    }

    #[test]
    fn it_is_found_in_a_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Rejection);

        let outer = Outer(Rejection::new(Reason::NoEndpoint));
        assert_eq!(Rejection::find(&outer).map(Rejection::reason), Some(Reason::NoEndpoint));
        assert!(Rejection::find(&std::io::Error::other("no")).is_none());
    }

    #[test]
    fn a_clone_is_not_changed_by_the_builder() {
        let plain = Rejection::new(Reason::Overloaded);
        let told = plain.clone().detail("too much");
        assert_eq!(plain.detail_text(), None);
        assert_eq!(told.to_string(), "overloaded: too much");
    }
}
