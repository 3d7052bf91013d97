use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    alarm::Alarm,
    policy::{BodyLimits, Bound},
};
use crate::body::BoxError;

pin_project! {
    /// A response body that must end in time.
    ///
    /// When its time has passed, the inner body is dropped. In gRPC the call then ends with trailers that say
    /// `DEADLINE_EXCEEDED`; otherwise the body ends with an error that is a
    /// [`Rejection`](crate::reject::Rejection), and the server aborts the response.
    pub struct TimedBody<B> {
        #[pin]
        body: Option<B>,
        // In a box of its own, made when it is first waited for: most bodies never wait, and all are moved.
        alarm: Option<Pin<Box<Alarm>>>,
        limits: Option<BodyLimits>,
        silent_since: Option<Instant>,
    }
}

impl<B> TimedBody<B> {
    pub(super) fn new(body: B, limits: Option<BodyLimits>) -> Self {
        Self { body: Some(body), alarm: None, limits, silent_since: None }
    }
}

impl<B: Default> Default for TimedBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None)
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let bound = match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => {
                *this.silent_since = None;
                let unfinished = matches!(frame, Some(Ok(_))) && !body.is_end_stream();
                // Whoever always has more is never waited for.
                match this.limits.as_ref().filter(|limits| unfinished && limits.until.at < Instant::now()) {
                    Some(limits) => limits.until,
                    None => return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
                }
            }
            Poll::Pending => {
                let Some(limits) = this.limits else { return Poll::Pending };
                let bound = limits.bound(|| *this.silent_since.get_or_insert_with(Instant::now));
                ready!(this.alarm.get_or_insert_default().as_mut().poll_at(bound.at, cx));
                bound
            }
        };
        this.body.set(None);
        let is_grpc = this.limits.as_ref().is_some_and(|limits| limits.is_grpc);
        Poll::Ready(Some(cut(bound, is_grpc)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

/// What stands in the place of the rest. The head has been sent: a gRPC status can only stand in the trailers.
fn cut(bound: Bound, is_grpc: bool) -> Result<Frame<Bytes>, BoxError> {
    if !is_grpc {
        return Err(bound.rejection("the response did not end in time").into());
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", u16::from(bound.reason.grpc().number()).into());
    Ok(Frame::trailers(trailers))
}

impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody").field("limits", &self.limits).finish_non_exhaustive()
    }
}
