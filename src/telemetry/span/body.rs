use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tracing::Span;

pin_project! {
    /// A response body that is polled inside of the request's span.
    #[derive(Debug)]
    pub struct SpannedBody<B> {
        #[pin]
        body: B,
        span: Span,
    }
}

impl<B> SpannedBody<B> {
    pub(super) fn new(body: B, span: Span) -> Self {
        Self { body, span }
    }
}

impl<B: Default> Default for SpannedBody<B> {
    fn default() -> Self {
        Self::new(B::default(), Span::none())
    }
}

impl<B: Body> Body for SpannedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let _entered = this.span.enter();
        this.body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
