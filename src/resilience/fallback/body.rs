use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::stale::Recorder;
use crate::body::{Body, BoxError};

pin_project! {
    /// The body of a response that came through a [`Fallback`](super::Fallback).
    pub struct FallbackBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B, recorder: Option<Box<Recorder>> },
        Instead { #[pin] body: Body },
    }
}

impl<B> FallbackBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body, recorder: None } }
    }

    pub(super) fn recorded(body: B, recorder: Option<Box<Recorder>>) -> Self
    where
        B: HttpBody,
    {
        // One that has ended is not read.
        let ended = |recorder: Box<Recorder>| recorder.see::<B::Error>(None, true);
        let recorder = if body.is_end_stream() { recorder.and_then(ended) } else { recorder };
        Self { kind: Kind::Inner { body, recorder } }
    }

    pub(super) fn instead(body: Body) -> Self {
        Self { kind: Kind::Instead { body } }
    }
}

impl<B: Default> Default for FallbackBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> HttpBody for FallbackBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Inner { mut body, recorder } => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                if let Some(recording) = recorder.take() {
                    *recorder = recording.see(frame.as_ref(), body.is_end_stream());
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            KindProjection::Instead { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body, .. } => body.is_end_stream(),
            Kind::Instead { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body, .. } => body.size_hint(),
            Kind::Instead { body } => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for FallbackBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Instead { .. } => "instead",
        };
        f.debug_struct("FallbackBody").field("kind", &kind).finish()
    }
}
