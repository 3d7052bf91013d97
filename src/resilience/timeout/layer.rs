use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{ResponseFuture, TimedBody, policy::Policy};
use crate::{
    body::{BoxError, ResponseBody},
    reject::Reason,
};

/// Bounds how long requests take. See the [module docs](super).
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct TimeoutLayer {
    policy: Option<Policy>,
}

impl TimeoutLayer {
    /// A response must have come, to its last byte, within `total`.
    pub const fn new(total: Duration) -> Self {
        Self { policy: Some(Policy::new(total)) }
    }

    /// It has no time of its own, and keeps those that others set: the deadline of a caller, and what is told it below.
    pub const fn unlimited() -> Self {
        Self { policy: Some(Policy::unlimited()) }
    }

    /// A layer of the same type that bounds nothing.
    pub const fn disabled() -> Self {
        Self { policy: None }
    }

    /// It bounds one attempt, inside of a retry: what does not come in time is [`Reason::UpstreamTimeout`], the
    /// upstream's fault, and not [`Reason::DeadlineExceeded`]. One that is as long as the whole request's leaves no time for
    /// another attempt; a longer one never comes, and a gateway refuses it.
    pub fn per_attempt(self) -> Self {
        self.with(|policy| policy.reason = Reason::UpstreamTimeout)
    }

    /// How long the body of an ordinary response may keep silent. It has the total only unless told; a shorter time ends
    /// what has died in its middle sooner, and costs an allocation a response.
    pub fn body_idle(self, idle: Duration) -> Self {
        self.with(|policy| policy.body_idle = Some(idle))
    }

    /// How long a stream or a tunnel may keep silent; 5 minutes unless told.
    pub fn stream_idle(self, idle: Duration) -> Self {
        self.with(|policy| policy.stream_idle = idle)
    }

    /// How long a stream or a tunnel may last; 2 hours unless told.
    pub fn stream_max_age(self, age: Duration) -> Self {
        self.with(|policy| policy.stream_max_age = age)
    }

    /// Whether gRPC calls are streams: from the response's head on they are bounded by idleness and age, and not by the
    /// total. A call's head does not tell whether it streams, so that is for whoever knows the methods. `false` unless
    /// told.
    pub fn grpc_streams(self, streams: bool) -> Self {
        self.with(|policy| policy.grpc_streams = streams)
    }

    /// Whether a request that has no [`Deadline`](crate::context::Deadline) is given one, for the layers inside to read.
    /// One that it has is narrowed in any case. What may last is given none, and [retries](crate::resilience::retry) know the
    /// time of its head. `false` unless told: it costs an allocation a request.
    pub fn tell_deadline(self, tell: bool) -> Self {
        self.with(|policy| policy.tell_deadline = tell)
    }

    /// How long a request may take. `None`: without end.
    #[must_use]
    pub fn total(&self) -> Option<Duration> {
        self.policy.map(|policy| policy.total).filter(|total| *total < Duration::MAX)
    }

    /// Whether it does anything.
    #[cfg(feature = "stack")]
    pub(crate) const fn is_enabled(&self) -> bool {
        self.policy.is_some()
    }

    fn with(mut self, set: impl FnOnce(&mut Policy)) -> Self {
        if let Some(policy) = &mut self.policy {
            set(policy);
        }
        self
    }
}

impl Default for TimeoutLayer {
    /// 15 seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(15))
    }
}

impl From<Duration> for TimeoutLayer {
    /// As [`new`](Self::new).
    fn from(total: Duration) -> Self {
        Self::new(total)
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout { inner, policy: self.policy }
    }
}

/// The service of a [`TimeoutLayer`].
#[derive(Debug, Clone)]
pub struct Timeout<S> {
    inner: S,
    policy: Option<Policy>,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Timeout<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<TimedBody<ResB>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let policy = self.policy.filter(|policy| policy.bounds(&request));
        match policy.map(|policy| policy.watch(&mut request)) {
            Some(watch) if watch.is_over() => ResponseFuture::over(watch),
            watch => {
                let upload = watch.and_then(|_| request.extensions().get().cloned());
                ResponseFuture::call(self.inner.call(request), watch, upload)
            }
        }
    }
}
