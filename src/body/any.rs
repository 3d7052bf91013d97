use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Any error that can cross threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

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

impl Body {
    /// The same once more, if all its bytes are at hand and none was read.
    pub(crate) fn try_clone(&self) -> Option<Self> {
        match &self.0 {
            BodyKind::Full(bytes) => Some(Self(BodyKind::Full(bytes.clone()))),
            BodyKind::Boxed(_) => None,
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
mod tests {
    use super::*;
    use crate::body::script::{Script, Step};

    #[test]
    fn a_body_is_not_boxed_twice() {
        let body = Body::new(Body::from("text"));
        assert!(matches!(body.0, BodyKind::Full(Some(_))));
        let body = Body::new(Body::new(Script::new([Step::Data("a")])));
        let BodyKind::Boxed(_) = body.0 else { panic!("not boxed") };
        assert!(matches!(Body::new(Script::new([])).0, BodyKind::Full(None)));
    }
}
