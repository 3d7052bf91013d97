use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::vitals::InFlight;
use crate::{
    body::{Body, BoxError, ResponseBody},
    reject::{Reason, Rejection},
};

/// The body of a request, boxed only if there is one.
pub(super) fn incoming(body: Incoming, idle: Duration) -> Body {
    if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(RequestBody { body, idle, timer: None, moved: false })
    }
}

/// A request's body that fails when its peer sends nothing for too long.
struct RequestBody {
    body: Incoming,
    idle: Duration,
    /// Made when there is first something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Something came since the timer was set.
    moved: bool,
}

impl RequestBody {
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.idle)));
        if std::mem::take(&mut self.moved) {
            timer.as_mut().reset(Instant::now() + self.idle);
        }
        timer.as_mut().poll(cx)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.moved = true;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => self.poll_idle(cx).map(|()| {
                let late = Rejection::new(Reason::RequestTimeout).detail("the request's body stopped coming");
                Some(Err(late.into()))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// The body of a response on its way to the peer.
    pub struct ServedBody<B> {
        #[pin]
        body: ResponseBody<B>,
        waiting: Waiting,
    }
}

impl<B> ServedBody<B> {
    pub(super) const fn new(body: ResponseBody<B>, in_flight: InFlight) -> Self {
        Self { body, waiting: Waiting { in_flight, is: false } }
    }
}

/// In flight, and perhaps waiting for the peer to make room.
struct Waiting {
    in_flight: InFlight,
    is: bool,
}

impl Waiting {
    fn set(&mut self, is: bool) {
        match (self.is, is) {
            (false, true) => drop(self.in_flight.vitals().waiting.fetch_add(1, Relaxed)),
            (true, false) => drop(self.in_flight.vitals().waiting.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.is = is;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl<B> HttpBody for ServedBody<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.waiting.set(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for ServedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedBody").field("body", &self.body).finish_non_exhaustive()
    }
}
