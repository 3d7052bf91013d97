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
    policy::{BodyLimits, Bound, Idle},
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
        limits: Option<BodyLimits>,
        wait: Option<Pin<Box<Wait>>>,
    }
}

pin_project! {
    /// In a box of its own: most bodies are never waited for, and all are moved.
    #[derive(Default)]
    struct Wait {
        #[pin]
        alarm: Alarm,
        idle: Option<Idle>,
        silent_since: Option<Instant>,
    }
}

impl Wait {
    /// Ready with the bound that has passed. The body has just kept silent.
    fn poll(self: Pin<&mut Self>, until: Bound, cx: &mut Context<'_>) -> Poll<Bound> {
        let this = self.project();
        let silence = this.idle.map(|idle| idle.bound(*this.silent_since.get_or_insert_with(Instant::now)));
        let bound = until.or_sooner(silence);
        ready!(this.alarm.poll_at(bound.at, cx));
        Poll::Ready(bound)
    }
}

impl<B> TimedBody<B> {
    /// `idle`: how long it may keep silent.
    pub(super) fn new(body: B, limits: Option<BodyLimits>, idle: Option<Idle>) -> Self {
        let wait = idle.map(|idle| Box::pin(Wait { idle: Some(idle), ..Wait::default() }));
        Self { body: Some(body), limits, wait }
    }
}

impl<B: Default> Default for TimedBody<B> {
    fn default() -> Self {
        Self::new(B::default(), None, None)
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
        let frame = body.as_mut().poll_frame(cx);
        let Some(BodyLimits { until, is_grpc }) = *this.limits else {
            return frame.map_err(Into::into);
        };
        let bound = match frame {
            Poll::Ready(frame) => {
                if let Some(wait) = this.wait {
                    *wait.as_mut().project().silent_since = None;
                }
                let unfinished = matches!(frame, Some(Ok(_))) && !body.is_end_stream();
                // Whoever always has more is never waited for.
                if !unfinished || until.at >= Instant::now() {
                    return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
                }
                until
            }
            Poll::Pending => ready!(this.wait.get_or_insert_default().as_mut().poll(until, cx)),
        };
        this.body.set(None);
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
