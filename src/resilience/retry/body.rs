use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::call::Recovery;
use crate::{body::ResponseBody, outcome::Completion, resilience::looked::Looked};

pin_project! {
    /// The body of a response that came through a [`Retry`](super::Retry).
    pub struct RetryBody<B: HttpBody> {
        #[pin]
        body: ResponseBody<Looked<B>, Recovery>,
    }
}

impl<B: HttpBody> RetryBody<B> {
    pub(super) fn unwatched(body: B) -> Self {
        Self { body: ResponseBody::inner(Looked::Whole { body }) }
    }

    pub(super) fn watched(body: Looked<B>, mut watch: Completion<Recovery>) -> Self
    where
        B: HttpBody<Data = Bytes>,
    {
        if watch.is_open() && body.is_end_stream() {
            watch.complete();
        }
        Self { body: ResponseBody::watched(body, watch) }
    }
}

impl<B: HttpBody + Default> Default for RetryBody<B> {
    fn default() -> Self {
        Self::unwatched(B::default())
    }
}

impl<B> HttpBody for RetryBody<B>
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
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: HttpBody> fmt::Debug for RetryBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBody").finish_non_exhaustive()
    }
}
