use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::resilience::looked::Looked;

pin_project! {
    /// The body of a response that came through a [`Hedge`](super::Hedge).
    pub struct HedgeBody<B: HttpBody> {
        #[pin]
        body: Looked<B>,
    }
}

impl<B: HttpBody> HedgeBody<B> {
    pub(super) fn new(body: Looked<B>) -> Self {
        Self { body }
    }
}

impl<B: HttpBody + Default> Default for HedgeBody<B> {
    fn default() -> Self {
        Self::new(Looked::Whole { body: B::default() })
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for HedgeBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: HttpBody> fmt::Debug for HedgeBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeBody").finish_non_exhaustive()
    }
}
