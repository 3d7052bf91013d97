//! A body that does what a test tells it to.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Data(&'static str),
    /// Data after which the body says that it has ended.
    LastData(&'static str),
    /// Trailers with this `grpc-status`.
    Trailers(&'static str),
    /// Trailers of these fields.
    Fields(&'static [(&'static str, &'static str)]),
    Fail,
    Pending,
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    steps: VecDeque<Step>,
    untold: bool,
}

impl Script {
    pub(crate) fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), untold: false }
    }

    /// Does not tell how long it is.
    pub(crate) fn untold(self) -> Self {
        Self { untold: true, ..self }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data(text) | Step::LastData(text)) => {
                Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))
            }
            Some(Step::Trailers(status)) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static(status));
                Some(Ok(Frame::trailers(trailers)))
            }
            Some(Step::Fields(fields)) => {
                let field = |(name, value): &(&'static str, &'static str)| {
                    let value = http::HeaderValue::from_static(value);
                    (http::HeaderName::from_static(name), value)
                };
                Some(Ok(Frame::trailers(fields.iter().map(field).collect())))
            }
            Some(Step::Fail) => Some(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::End) | None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.untold {
            return SizeHint::default();
        }
        let bytes = self.steps.iter().map(|step| match step {
            Step::Data(text) | Step::LastData(text) => text.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(bytes.sum())
    }
}

/// A body of what is sent, as long as somebody can send.
pub(crate) struct Channel(pub(crate) tokio::sync::mpsc::UnboundedReceiver<&'static str>);

impl Body for Channel {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}
