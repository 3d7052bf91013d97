//! The two bodies of an exchange, on their way through.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

use super::{
    error,
    expect::{Held, Hold},
    hop::clean_trailers,
    lease::Connection,
    load::Load,
};
use crate::{
    body::BoxError,
    identity::AssertedHeaders,
    reject::{Reason, Rejection},
};

/// Why a request's body broke off, told to whoever waits for the response: with HTTP/2 the upstream's connection does
/// not say it.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<OnceLock<Rejection>>);

impl Fault {
    pub(super) fn get(&self) -> Option<Rejection> {
        self.0.get().cloned()
    }

    fn set(&self, error: &BoxError) {
        let _ = self.0.set(error::of_client(&**error));
    }
}

pin_project! {
    /// A request's body on its way to the upstream.
    pub(super) struct Uplink<B> {
        #[pin]
        body: B,
        fault: Fault,
        held: Option<Held>,
        asserted: Arc<AssertedHeaders>,
    }
}

impl<B> Uplink<B> {
    pub(super) fn new(body: B, fault: Fault, hold: Option<Hold>, asserted: Arc<AssertedHeaders>) -> Self {
        Self { body, fault, held: hold.map(Held::new), asserted }
    }
}

impl<B> HttpBody for Uplink<B>
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
        let this = self.project();
        if let Some(held) = this.held {
            if !ready!(held.poll_open(cx)) {
                return Poll::Ready(Some(Err(Box::new(Unwanted))));
            }
            *this.held = None;
        }
        let frame = match ready!(this.body.poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                    this.asserted.strip(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let error = error.into();
                this.fault.set(&error);
                Some(Err(error))
            }
            None => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body was never sent: the upstream has answered without it.
#[derive(Debug, thiserror::Error)]
#[error("the upstream has answered without the body")]
struct Unwanted;

/// What is held until a response's body has ended.
pub(super) struct Ticket {
    pub(super) connection: Connection,
    pub(super) load: Load,
    /// How long the connection may wait for its next request; `None`: it is not used again.
    pub(super) keep: Option<Duration>,
    pub(super) hold: Option<Hold>,
}

impl Ticket {
    /// The exchange has ended well.
    fn finish(mut self) {
        self.load.complete();
        let sent = self.hold.is_none_or(|hold| hold.ended());
        if let (Connection::Http1(connection), Some(keep), true) = (self.connection, self.keep, sent) {
            self.load.member().park(connection, keep);
        }
    }

    /// The exchange has ended badly: the connection closes.
    fn abort(self) {
        if let Some(hold) = self.hold {
            hold.ended();
        }
    }
}

/// A response's body on its way to the client.
pub(super) struct Downlink {
    body: Incoming,
    ticket: Option<Ticket>,
}

impl Downlink {
    pub(super) fn new(body: Incoming, ticket: Ticket) -> Self {
        let mut downlink = Self { body, ticket: Some(ticket) };
        if downlink.body.is_end_stream() {
            downlink.finish();
        }
        downlink
    }

    fn tell(&mut self, what: impl FnOnce(&mut Load)) {
        if let Some(ticket) = &mut self.ticket {
            what(&mut ticket.load);
        }
    }

    /// Whether it was reset before its end. `NO_ERROR` says that the rest of the request is not wanted, after a whole response (RFC
    /// 9113 section 8.1); hyper takes it for the end of any.
    fn was_reset(&self) -> bool {
        let is_http2 = |ticket: &Ticket| matches!(ticket.connection, Connection::Http2(_));
        self.ticket.as_ref().is_some_and(is_http2) && !self.body.is_end_stream()
    }

    fn finish(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish();
        }
    }

    fn abort(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.abort();
        }
    }

    fn broken(&mut self, why: Rejection) -> BoxError {
        self.tell(|load| load.fail(&why));
        self.abort();
        Box::new(why)
    }
}

impl HttpBody for Downlink {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                    self.tell(|load| load.trailers(trailers));
                    self.finish();
                } else {
                    self.tell(|load| load.data(frame.data_ref().map_or(0, Bytes::len)));
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(self.broken(error::of_upstream(error)))),
            None if self.was_reset() => {
                let why =
                    Rejection::new(Reason::UpstreamReset).detail("the stream was reset without an error");
                Some(Err(self.broken(why)))
            }
            None => {
                self.finish();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Downlink {
    fn drop(&mut self) {
        self.abort();
    }
}
