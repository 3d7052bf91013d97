use std::sync::Arc;

use http::{Extensions, Request};

use super::{Deadline, RequestId, TraceContext};
use crate::identity::{CallerToken, Principal};

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
    caller_token: Option<CallerToken>,
}

impl Context {
    /// What a request's extensions tell.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        Self::in_trace(extensions, extensions.get().copied())
    }

    /// The same of a request, which may tell its trace in its head alone.
    pub(super) fn of_request<B>(request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let trace = extensions.get().copied().or_else(|| TraceContext::of(request.headers()));
        Self::in_trace(extensions, trace)
    }

    fn in_trace(extensions: &Extensions, trace: Option<TraceContext>) -> Self {
        Self(Arc::new(Inner {
            request_id: extensions.get().cloned(),
            trace,
            deadline: extensions.get().copied(),
            principal: extensions.get().cloned(),
            caller_token: extensions.get().cloned(),
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
    pub(super) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
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

    /// With which token, if it was kept for calls on the caller's behalf.
    #[must_use]
    pub fn caller_token(&self) -> Option<&CallerToken> {
        self.0.caller_token.as_ref()
    }
}
