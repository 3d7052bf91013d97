use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    FaultBody, FaultHandle, Policy, ResponseFuture,
    policy::{Abort, Plan, Then},
};
use crate::{
    body::BoxError,
    head::Head,
    reject::{Reason, Rejection, Style},
    trail::Trail,
};

/// Makes some requests fail on purpose. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct FaultLayer(Option<Arc<Policy>>);

impl FaultLayer {
    /// A layer that does as `policy` says.
    pub fn new(policy: Policy) -> Self {
        Self(Some(Arc::new(policy)))
    }

    /// A layer of the same type that does nothing.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// What it has done, and its switch. `None` if it is disabled.
    #[must_use]
    pub fn handle(&self) -> Option<FaultHandle> {
        self.0.as_deref().map(Policy::handle)
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = Fault<S>;

    fn layer(&self, inner: S) -> Fault<S> {
        Fault { inner, policy: self.0.clone() }
    }
}

/// The service of a [`FaultLayer`].
#[derive(Clone)]
pub struct Fault<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
}

impl<S, B, ResB> Service<Request<B>> for Fault<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<FaultBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let mut head = Head::of(&mut request);
        let plan = self.policy.as_ref().map_or_else(Plan::default, |policy| policy.plan(&mut head));
        let Some(fault) = plan.fault() else {
            return ResponseFuture::call(self.inner.call(request), None, None);
        };
        match head.extensions().get::<Trail>() {
            Some(trail) => trail.set_fault(fault),
            // Nobody outside writes it down.
            None => tracing::info!(target: "portcullis::fault", fault = fault.label(), "made to fail"),
        }
        let answer = match plan.then {
            Some(Then::Abort(abort)) => Some(aborted(abort, Style::of(&head))),
            Some(Then::Reset) => Some(reset(Style::of(&head))),
            Some(Then::Throttle(_)) | None => None,
        };
        if let Some(answer) = answer {
            return ResponseFuture::answer(plan.delay, answer, fault);
        }
        let rate = match plan.then {
            Some(Then::Throttle(rate)) => Some(rate),
            _ => None,
        };
        let Some(delay) = plan.delay else {
            return ResponseFuture::call(self.inner.call(request), rate, Some(fault));
        };
        // The instance that was made ready waits with the request; a fresh clone takes its place.
        let fresh = self.inner.clone();
        let ready = mem::replace(&mut self.inner, fresh);
        ResponseFuture::call_after(delay, ready, request, rate, fault)
    }
}

fn aborted(abort: Abort, style: Style) -> Response<Option<Bytes>> {
    let rejection = Rejection::new(Reason::FaultInjected).shown_as(abort.status, abort.code);
    rejection.render(style).map(Some)
}

/// A head, and a body that breaks off.
fn reset(style: Style) -> Response<Option<Bytes>> {
    let mut response = Response::new(None);
    if style.protocol().is_grpc() {
        response.headers_mut().insert(header::CONTENT_TYPE, style.protocol().content_type());
    }
    response
}

impl<S> fmt::Debug for Fault<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("policy", &self.policy).finish_non_exhaustive()
    }
}
