use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{gate::Pass, outcome::Completion};

pin_project! {
    /// The body of a response that passed through a layer, or that the layer gave itself.
    ///
    /// While it lives it keeps the layer's [`Pass`], and tells it how the body ended.
    pub struct ResponseBody<B, P: Pass = ()> {
        #[pin]
        kind: Kind<B>,
        completion: Completion<P>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Full { bytes: Option<Bytes> },
    }
}

impl<B, P: Pass> ResponseBody<B, P> {
    /// A body to be watched.
    #[must_use]
    pub fn watched(body: B, completion: Completion<P>) -> Self {
        Self { kind: Kind::Inner { body }, completion }
    }

    /// A body that passes through unwatched.
    #[must_use]
    pub fn inner(body: B) -> Self {
        Self::watched(body, Completion::spent())
    }

    /// These bytes.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self::full_watched(bytes, Completion::spent())
    }

    /// These bytes, to be watched.
    #[must_use]
    pub fn full_watched(bytes: Bytes, completion: Completion<P>) -> Self {
        Self { kind: Kind::Full { bytes: (!bytes.is_empty()).then_some(bytes) }, completion }
    }
}

impl<B: Default, P: Pass> Default for ResponseBody<B, P> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B, P> HttpBody for ResponseBody<B, P>
where
    B: HttpBody<Data = Bytes>,
    B::Error: 'static,
    P: Pass,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let (frame, ended) = match this.kind.project() {
            // Nobody watches: the frame is where it belongs.
            KindProjection::Inner { body } if !this.completion.is_open() => return body.poll_frame(cx),
            KindProjection::Inner { mut body } => {
                let frame = ready!(this.completion.in_scope(|| body.as_mut().poll_frame(cx)));
                (frame, body.is_end_stream())
            }
            KindProjection::Full { bytes } => (bytes.take().map(|bytes| Ok(Frame::data(bytes))), true),
        };
        observe(this.completion, frame.as_ref(), ended);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Full { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Full { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
        }
    }
}

fn observe<P: Pass, E: 'static>(
    completion: &mut Completion<P>,
    frame: Option<&Result<Frame<Bytes>, E>>,
    ended: bool,
) {
    if !completion.is_open() {
        return;
    }
    match frame {
        None => completion.complete(),
        Some(Err(error)) => completion.fail(error),
        Some(Ok(frame)) => {
            if let Some(data) = frame.data_ref() {
                completion.data(data.len());
            }
            if let Some(trailers) = frame.trailers_ref() {
                completion.trailers(trailers);
            } else if ended {
                completion.complete();
            }
        }
    }
}

impl<B, P: Pass> fmt::Debug for ResponseBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Full { .. } => "full",
        };
        f.debug_struct("ResponseBody").field("kind", &kind).field("completion", &self.completion).finish()
    }
}
