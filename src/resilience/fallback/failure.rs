use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Response, header};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::body::Body;

/// The longest body of a failure that is kept, and how long it may take.
const MOST: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(1);

/// What is said of a body that is not there.
const OF_BODY: [HeaderName; 6] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ETAG,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// What stands if another server has no answer. Its body is taken in while that is asked, as long as it is short and comes soon:
/// what was held for it, a connection and places in limits, is free then, and who judges it knows how it has ended.
pub(super) struct Failure<B, E> {
    ended: Result<Response<BytesMut>, E>,
    rest: Option<Pin<Box<Rest<B>>>>,
}

pin_project! {
    struct Rest<B> {
        #[pin]
        body: B,
        #[pin]
        late: Sleep,
    }
}

impl<B, E> Failure<B, E>
where
    B: HttpBody<Data = Bytes>,
{
    pub(super) fn new(ended: Result<Response<B>, E>) -> Self {
        let mut rest = None;
        let ended = ended.map(|response| {
            let (head, body) = response.into_parts();
            if !body.is_end_stream() {
                rest = Some(Box::pin(Rest { body, late: sleep(PATIENCE) }));
            }
            Response::from_parts(head, BytesMut::new())
        });
        Self { ended, rest }
    }

    /// Whether it is read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Ok(response), Some(rest)) = (&mut self.ended, &mut self.rest) else { return Poll::Ready(()) };
        let whole = ready!(rest.as_mut().poll_into(response.body_mut(), cx));
        self.rest = None;
        if !whole {
            response.body_mut().clear();
            for name in OF_BODY {
                response.headers_mut().remove(name);
            }
        }
        Poll::Ready(())
    }

    pub(super) fn given(self) -> Result<Response<Body>, E> {
        self.ended.map(|response| response.map(|body| body.freeze().into()))
    }
}

impl<B: HttpBody<Data = Bytes>> Rest<B> {
    /// Whether it was read to its end.
    fn poll_into(self: Pin<&mut Self>, read: &mut BytesMut, cx: &mut Context<'_>) -> Poll<bool> {
        let mut this = self.project();
        loop {
            let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else {
                return this.late.poll(cx).map(|()| false);
            };
            let data = match frame.transpose() {
                Err(_) => return Poll::Ready(false),
                Ok(frame) => frame.and_then(|frame| frame.into_data().ok()),
            };
            let Some(data) = data else { return Poll::Ready(true) }; // trailers are the end, too
            if read.len() + data.len() > MOST {
                return Poll::Ready(false);
            }
            read.extend_from_slice(&data);
            if this.body.is_end_stream() {
                return Poll::Ready(true);
            }
        }
    }
}
