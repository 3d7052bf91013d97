//! A connection, lent to one request.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::client::conn::TrySendError;
use pin_project_lite::pin_project;

use super::{
    believed::Believed,
    store::{Http1, Stream, Waiting},
};
use crate::body::Body;

/// A connection, or a part of one, for one request.
pub(super) struct Lease {
    pub(super) connection: Connection,
    /// How long it took to connect; `None`: it was there already.
    pub(super) connect: Option<Duration>,
}

pub(super) enum Connection {
    Http1(Http1),
    Http2(Stream),
}

impl Connection {
    /// Sends, at once; a request that was not sent comes back in the error. If it is given up after `patience` on a
    /// connection on which nothing was heard, no other request is sent on that.
    pub(super) fn send(
        &mut self,
        request: http::Request<Body>,
        patience: Duration,
    ) -> impl Future<Output = Sent> + Send + use<> {
        match self {
            Self::Http1(connection) => {
                connection.before = connection.heard.so_far();
                connection.heard.await_head();
                Sending::Http1 { answer: connection.sender.try_send_request(request) }
            }
            Self::Http2(stream) => {
                let waiting = stream.watch(patience);
                Sending::Http2 { answer: stream.sender().try_send_request(request), _waiting: waiting }
            }
        }
    }

    /// The head of the answer has come.
    pub(super) fn has_head(&self) {
        if let Self::Http1(connection) = self {
            connection.heard.has_head();
        }
    }

    /// Whether its server is believed for as long as it lasts, once it is no longer of HTTP.
    pub(super) fn believed(&self) -> Believed {
        match self {
            Self::Http1(connection) => connection.believed.clone(),
            Self::Http2(_) => Believed::default(),
        }
    }

    /// It has said goodbye, or is gone: nobody else is to use it.
    pub(super) fn retire(&self) {
        if let Self::Http2(stream) = self {
            stream.retire();
        }
    }
}

pub(super) type Sent = Result<http::Response<hyper::body::Incoming>, TrySendError<http::Request<Body>>>;

pin_project! {
    #[project = SendingProjection]
    enum Sending<A, B> {
        Http1 { #[pin] answer: A },
        Http2 { #[pin] answer: B, _waiting: Waiting },
    }
}

impl<A: Future<Output = Sent>, B: Future<Output = Sent>> Future for Sending<A, B> {
    type Output = Sent;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        match self.project() {
            SendingProjection::Http1 { answer } => answer.poll(cx),
            SendingProjection::Http2 { answer, .. } => answer.poll(cx),
        }
    }
}
