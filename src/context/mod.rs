//! What travels with a request to the calls that are made while it is handled.
//!
//! A [`Context`] holds the request id, the trace, the deadline and the principal. [`ContextLayer`], innermost on
//! the server side, collects them from the request's extensions and opens a scope around the handler: around the
//! polls of its future *and* of its response's body, so that a handler which streams still knows them.
//! Client-side layers read [`Context::current`].
//!
//! # Example
//!
//! ```
//! use http::{HeaderValue, Request, Response};
//! use portcullis::body::Body;
//! use portcullis::context::{Context, ContextLayer, RequestId};
//! use tower::{Layer, Service, ServiceExt};
//!
//! # tokio_test::block_on(async {
//! let handler = tower::service_fn(|_: Request<()>| async {
//!     let id = Context::current().and_then(|c| c.request_id().cloned());
//!     assert_eq!(id.unwrap().as_str(), "r-1");
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! });
//! let mut request = Request::new(());
//! request.extensions_mut().insert(RequestId::new(HeaderValue::from_static("r-1")).unwrap());
//! ContextLayer::new().layer(handler).oneshot(request).await.unwrap();
//! # });
//! ```
//!
//! A task that is spawned is outside the scope; give it one with [`Context::scope`].
//!
//! # Position
//!
//! Inside everything that tells something about the request: request id, trace, authentication, deadline.

mod layer;
mod trace;

pub use layer::{ContextBody, ContextFuture, ContextLayer, Contextual};
pub use trace::TraceContext;

use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, HeaderValue};
use tokio::time::Instant;

use crate::identity::Principal;

tokio::task_local! {
    static CURRENT: Context;
}

/// What travels with a request. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Context(Arc<Inner>);

#[derive(Debug, Clone, Default)]
struct Inner {
    request_id: Option<RequestId>,
    trace: Option<TraceContext>,
    deadline: Option<Deadline>,
    principal: Option<Principal>,
}

impl Context {
    /// What a request's extensions tell.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        Self(Arc::new(Inner {
            request_id: extensions.get().cloned(),
            trace: extensions.get().copied(),
            deadline: extensions.get().copied(),
            principal: extensions.get().cloned(),
        }))
    }

    /// The context of the request that is being handled here, if one is.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Runs `future` in this context; for tasks that are spawned.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Runs `f` in this context.
    pub(crate) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), f)
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.0.request_id.as_ref()
    }

    /// The trace that the request belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<TraceContext> {
        self.0.trace
    }

    /// When the caller stops waiting.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.0.deadline
    }

    /// Who is calling.
    #[must_use]
    pub fn principal(&self) -> Option<&Principal> {
        self.0.principal.as_ref()
    }
}

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
        let bytes = value.as_bytes();
        let fits = !bytes.is_empty() && bytes.len() <= Self::MAX;
        (fits && bytes.iter().copied().all(is_safe)).then_some(Self(value))
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

const fn is_safe(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b',' | b';' | b'<' | b'>' | b'{' | b'}')
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

/// When a request's caller stops waiting.
///
/// The caller set it, or a timeout of this gateway [imposed](Self::imposed) it. Only the first is the caller's own
/// fault when it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline {
    at: Instant,
    imposed: bool,
}

impl Deadline {
    /// At this time.
    #[must_use]
    pub const fn at(instant: Instant) -> Self {
        Self { at: instant, imposed: false }
    }

    /// So long after `now`. A time too far to be told is as good as a century.
    #[must_use]
    pub fn after(now: Instant, time: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        Self::at(now + time.min(CENTURY))
    }

    /// The same time, set by this gateway and not by the caller.
    #[must_use]
    pub const fn imposed(self) -> Self {
        Self { imposed: true, ..self }
    }

    /// Whether this gateway set it, and not the caller.
    #[must_use]
    pub const fn is_imposed(self) -> bool {
        self.imposed
    }

    /// This deadline or, if that is sooner, one imposed at `instant`.
    #[must_use]
    pub fn or_sooner(self, instant: Instant) -> Self {
        if instant < self.at { Self::at(instant).imposed() } else { self }
    }

    /// The time.
    #[must_use]
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// What is left of it; zero when it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }
}

#[cfg(feature = "axum")]
mod extract {
    use std::convert::Infallible;

    use axum::extract::{FromRequestParts, OptionalFromRequestParts};
    use http::request::Parts;

    use super::{Context, Deadline, RequestId};
    use crate::reject::{Reason, Rejection};

    macro_rules! extract {
        ($($type:ty: $layer:literal,)*) => {$(
            /// Fails with 500 if the layer that tells it does not stand outside; `Option` asks without failing.
            #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
            impl<S: Send + Sync> FromRequestParts<S> for $type {
                type Rejection = Rejection;

                async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
                    parts.extensions.get::<Self>().cloned().ok_or_else(|| {
                        Rejection::new(Reason::Internal).detail(concat!("no ", $layer, " stands outside this handler"))
                    })
                }
            }

            #[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
            impl<S: Send + Sync> OptionalFromRequestParts<S> for $type {
                type Rejection = Infallible;

                async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
                    Ok(parts.extensions.get::<Self>().cloned())
                }
            }
        )*};
    }

    extract! {
        Context: "ContextLayer",
        Deadline: "timeout layer",
        RequestId: "request id layer",
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

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_the_far_future_does_not_overflow() {
        let now = Instant::now();
        assert!(Deadline::after(now, Duration::MAX).left(now) > Duration::from_secs(1 << 30));
        assert_eq!(Deadline::after(now, Duration::ZERO).left(now), Duration::ZERO);
    }
}
