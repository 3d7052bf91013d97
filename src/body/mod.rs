//! Response bodies as layers give them: one wrapper for all layers, and one boxed body for the seams.
//!
//! [`ResponseBody`] is what an answering layer returns: the inner body, watched to its end, or an answer of the
//! layer's own. It keeps data, trailers, `size_hint` and `is_end_stream`.
//!
//! [`Body`] is a body of one type, for the places where many kinds meet: a router over different services, a
//! client. It boxes, except where a body is empty or a single chunk of bytes.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{gate::Pass, outcome::Completion};

/// Any error that can cross threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

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
            KindProjection::Inner { mut body } => {
                let frame = ready!(body.as_mut().poll_frame(cx));
                (frame, this.completion.is_open() && body.is_end_stream())
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

/// A body of any kind, in one type.
///
/// ```
/// use http_body_util::BodyExt;
/// use portcullis::body::Body;
///
/// # tokio_test::block_on(async {
/// let body = Body::from("hello");
/// assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
/// # });
/// ```
pub struct Body(BodyKind);

enum BodyKind {
    Full(Option<Bytes>),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
}

impl Body {
    /// A body without bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(BodyKind::Full(None))
    }

    /// Boxes `body`, unless it is a `Body` already.
    #[must_use]
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = Some(body);
        if let Some(already) = (&mut body as &mut dyn std::any::Any).downcast_mut::<Option<Self>>() {
            return already.take().unwrap_or_default();
        }
        match body {
            Some(body) if body.is_end_stream() => Self::empty(),
            Some(body) => Self(BodyKind::Boxed(Box::pin(Boxable { body }))),
            None => Self::empty(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            BodyKind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            BodyKind::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            BodyKind::Full(bytes) => bytes.is_none(),
            BodyKind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            BodyKind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            BodyKind::Boxed(body) => body.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(BodyKind::Full((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl From<Body> for axum::body::Body {
    fn from(body: Body) -> Self {
        Self::new(body)
    }
}

#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
impl From<Body> for tonic::body::Body {
    fn from(body: Body) -> Self {
        Self::new(body)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish()
    }
}

pin_project! {
    /// A body whose errors are boxed.
    struct Boxable<B> { #[pin] body: B }
}

impl<B> HttpBody for Boxable<B>
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
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
