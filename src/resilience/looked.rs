//! What an answer has come to by now: its body is looked at once, and waited for by nobody. Retries and hedges share it.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::reject::{GrpcCode, Protocol};

/// Whether a gRPC status is still to come.
pub(super) fn is_undecided(head: &response::Parts) -> bool {
    Protocol::of(&head.headers) == Protocol::Grpc && GrpcCode::of(&head.headers).is_none()
}

pin_project! {
    /// A body that was looked at, or not.
    #[project = LookedProjection]
    pub(super) enum Looked<B: HttpBody> {
        Whole { #[pin] body: B },
        Peeked { peeked: Peeked<B> },
    }
}

/// A body, and what it gave when it was polled once.
pub(super) struct Peeked<B: HttpBody> {
    body: Pin<Box<B>>,
    first: First<B>,
}

enum First<B: HttpBody> {
    /// There was nothing yet, or it was given.
    Nothing,
    End,
    Frame(Result<Frame<Bytes>, B::Error>),
}

impl<B: HttpBody<Data = Bytes>> Peeked<B> {
    /// Polls `body`, once.
    pub(super) fn new(body: B, cx: &mut Context<'_>) -> Self {
        let mut body = Box::pin(body);
        let first = match body.as_mut().poll_frame(cx) {
            Poll::Pending => First::Nothing,
            Poll::Ready(None) => First::End,
            Poll::Ready(Some(frame)) => First::Frame(frame),
        };
        Self { body, first }
    }

    /// The trailers, if there was nothing before them.
    pub(super) fn trailers(&self) -> Option<&HeaderMap> {
        match &self.first {
            First::Frame(Ok(frame)) => frame.trailers_ref(),
            _ => None,
        }
    }

    /// The error that came in place of anything else.
    pub(super) fn error(&self) -> Option<&B::Error> {
        match &self.first {
            First::Frame(Err(error)) => Some(error),
            _ => None,
        }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Looked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            LookedProjection::Whole { body } => body.poll_frame(cx),
            LookedProjection::Peeked { peeked } => match mem::replace(&mut peeked.first, First::Nothing) {
                First::Nothing => peeked.body.as_mut().poll_frame(cx),
                First::End => {
                    peeked.first = First::End;
                    Poll::Ready(None)
                }
                First::Frame(frame) => Poll::Ready(Some(frame)),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole { body } => body.is_end_stream(),
            Self::Peeked { peeked } => match peeked.first {
                First::Nothing => peeked.body.is_end_stream(),
                First::End => true,
                First::Frame(_) => false,
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { body } => body.size_hint(),
            Self::Peeked { peeked } => {
                let held = match &peeked.first {
                    First::Frame(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                    _ => 0,
                };
                let rest = peeked.body.size_hint();
                let mut hint = SizeHint::new();
                // The upper bound first: it may not be below the other.
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint.set_lower(rest.lower().saturating_add(held));
                hint
            }
        }
    }
}
