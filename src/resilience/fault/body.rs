use std::{
    fmt,
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::{
    body::BoxError,
    reject::{Reason, Rejection},
};

/// How many pieces are given in a second.
const PIECES: u64 = 10;

pin_project! {
    /// The body of a response that came through a [`Fault`](super::Fault).
    pub struct FaultBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Slow { #[pin] body: B, pace: Pace },
        Full { bytes: Option<Bytes> },
        Broken { told: bool },
    }
}

/// How fast a body is given.
struct Pace {
    /// Bytes in a second.
    rate: NonZeroU64,
    /// What has come, and was not given yet.
    held: Bytes,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<B> FaultBody<B> {
    pub(super) fn inner(body: B) -> Self {
        Self { kind: Kind::Inner { body } }
    }

    /// So many bytes a second.
    pub(super) fn slow(body: B, rate: NonZeroU64) -> Self {
        Self { kind: Kind::Slow { body, pace: Pace { rate, held: Bytes::new(), wait: None } } }
    }

    pub(super) fn full(bytes: Bytes) -> Self {
        Self { kind: Kind::Full { bytes: (!bytes.is_empty()).then_some(bytes) } }
    }

    /// One that breaks off at once.
    pub(super) fn broken() -> Self {
        Self { kind: Kind::Broken { told: false } }
    }
}

impl<B: Default> Default for FaultBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl Pace {
    /// The next piece, when its time has come. `None`: nothing is held.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        if self.held.is_empty() {
            return Poll::Ready(None);
        }
        let most = usize::try_from((self.rate.get() / PIECES).max(1)).unwrap_or(usize::MAX);
        let piece = self.held.split_to(self.held.len().min(most));
        let time = Duration::from_secs_f64(piece.len() as f64 / self.rate.get() as f64);
        self.wait = Some(Box::pin(sleep(time)));
        Poll::Ready(Some(piece))
    }
}

impl<B> HttpBody for FaultBody<B>
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
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx).map_err(Into::into),
            KindProjection::Full { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            KindProjection::Broken { told: true } => Poll::Ready(None),
            KindProjection::Broken { told } => {
                *told = true;
                Poll::Ready(Some(Err(Rejection::new(Reason::FaultInjected).detail("a reset").into())))
            }
            KindProjection::Slow { mut body, pace } => loop {
                if let Some(piece) = ready!(pace.poll(cx)) {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                let frame =
                    ready!(body.as_mut().poll_frame(cx)).transpose().map_err(Into::<BoxError>::into)?;
                match frame.map(Frame::into_data) {
                    Some(Ok(data)) => pace.held = data,
                    Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                    None => return Poll::Ready(None),
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Slow { body, pace } => pace.held.is_empty() && body.is_end_stream(),
            Kind::Full { bytes } => bytes.is_none(),
            Kind::Broken { told } => *told,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Slow { body, pace } => {
                let (rest, held) = (body.size_hint(), pace.held.len() as u64);
                let mut hint = SizeHint::new();
                // The upper bound first: it may not be below the other.
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper.saturating_add(held));
                }
                hint.set_lower(rest.lower().saturating_add(held));
                hint
            }
            Kind::Full { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Broken { .. } => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for FaultBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Slow { .. } => "slow",
            Kind::Full { .. } => "full",
            Kind::Broken { .. } => "broken",
        };
        f.debug_struct("FaultBody").field("kind", &kind).finish_non_exhaustive()
    }
}
