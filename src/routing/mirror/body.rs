use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{compare::Look, shadow::observe};
use crate::outcome::Completion;

pin_project! {
    /// The body of a response that came through a [`Mirror`](super::Mirror): as it was, and looked at where it is compared.
    pub struct MirrorBody<B> {
        #[pin]
        body: B,
        looks: Vec<Completion<Look>>,
    }
}

impl<B> MirrorBody<B> {
    pub(super) const fn new(body: B, looks: Vec<Completion<Look>>) -> Self {
        Self { body, looks }
    }
}

impl<B: Default> Default for MirrorBody<B> {
    fn default() -> Self {
        Self::new(B::default(), Vec::new())
    }
}

impl<B> HttpBody for MirrorBody<B>
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
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if !this.looks.is_empty() {
            let ended = frame.is_none() || this.body.is_end_stream();
            this.looks.iter_mut().for_each(|look| observe(look, frame.as_ref(), ended));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for MirrorBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorBody").finish_non_exhaustive()
    }
}
