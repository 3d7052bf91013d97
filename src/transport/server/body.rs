use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::{rate::MinimumRate, vitals::InFlight};
use crate::{
    body::{Body, BoxError, ResponseBody},
    reject::{Reason, Rejection},
    time::after,
    upload::Upload,
};

/// The body of a request, boxed only if there is one, and whether it is waited for.
pub(super) fn incoming(
    body: Incoming,
    idle: Duration,
    rate: Option<MinimumRate>,
    is_h2: bool,
) -> (Body, Option<Upload>) {
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let upload = Upload::new();
    let body = RequestBody { may_break_off: is_h2, ..RequestBody::new(body, idle, rate, upload.clone()) };
    (Body::new(body), Some(upload))
}

/// A request's body that fails when its peer sends nothing for too long, or too little.
struct RequestBody<B> {
    body: B,
    idle: Duration,
    rate: Option<MinimumRate>,
    /// Made when there is first something to wait for.
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when the peer is waited for.
    awaited: Option<Instant>,
    /// How long it was waited for before, and what has come.
    waited: Duration,
    came: u64,
    upload: Upload,
    /// Whether an end that is none is still to be told.
    may_break_off: bool,
}

impl<B> RequestBody<B> {
    const fn new(body: B, idle: Duration, rate: Option<MinimumRate>, upload: Upload) -> Self {
        let (timer, awaited, waited, came) = (None, None, Duration::ZERO, 0);
        Self { body, idle, rate, timer, awaited, waited, came, upload, may_break_off: false }
    }

    /// Something has come.
    fn came(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
        if let Some(since) = self.awaited.take() {
            self.waited += since.elapsed();
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let is_new = self.awaited.is_none();
        let since = *self.awaited.get_or_insert_with(Instant::now);
        let rest = self.rate.map(|rate| rate.time_for(self.came).saturating_sub(self.waited));
        let patience = rest.map_or(self.idle, |rest| rest.min(self.idle));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if is_new {
            timer.as_mut().reset(after(since, patience));
        }
        timer.as_mut().poll(cx).map(|()| match patience == self.idle {
            true => "the request's body stopped coming",
            false => "the request's body came too slowly",
        })
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.upload.set_awaited(polled.is_pending());
        match polled {
            // hyper takes a stream that was reset without an error for one that has ended.
            Poll::Ready(None) if self.may_break_off && !self.body.is_end_stream() => {
                self.may_break_off = false;
                Poll::Ready(Some(Err(Rejection::new(Reason::BadRequest)
                    .detail("the request's body broke off")
                    .into())))
            }
            Poll::Ready(frame) => {
                let data = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
                let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()).map_or(0, data);
                self.came(bytes as u64);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => self
                .poll_late(cx)
                .map(|detail| Some(Err(Rejection::new(Reason::RequestTimeout).detail(detail).into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// The body of a response on its way to the peer.
    pub struct ServedBody<B> {
        #[pin]
        body: ResponseBody<B>,
        waiting: Waiting,
    }
}

impl<B> ServedBody<B> {
    pub(super) fn new(body: ResponseBody<B>, in_flight: InFlight) -> Self
    where
        B: HttpBody<Data = Bytes, Error: 'static>,
    {
        let mut waiting = Waiting { in_flight, is: false };
        waiting.set(!body.is_end_stream());
        Self { body, waiting }
    }
}

/// In flight, and perhaps waiting for the peer to make room: the head or a frame was given, and nobody asked for
/// more. For HTTP/2 only, where each stream has a window; for HTTP/1 it shows at the socket.
struct Waiting {
    in_flight: InFlight,
    is: bool,
}

impl Waiting {
    fn set(&mut self, is: bool) {
        let is = is && self.in_flight.vitals().is_h2;
        match (self.is, is) {
            (false, true) => drop(self.in_flight.vitals().waiting.fetch_add(1, Relaxed)),
            (true, false) => drop(self.in_flight.vitals().waiting.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.is = is;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl<B> HttpBody for ServedBody<B>
where
    B: HttpBody<Data = Bytes, Error: 'static>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.waiting.set(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for ServedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedBody").field("body", &self.body).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::mpsc;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    struct Pieces(mpsc::Receiver<Bytes>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_silence_is_limited() {
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(async move {
            for wait in [0, 59, 59, 59] {
                sleep(Duration::from_secs(wait)).await;
                sender.send(Bytes::from("x")).await.unwrap();
            }
            sleep(Duration::from_secs(61)).await;
            drop(sender);
        });
        let mut body = RequestBody::new(Pieces(pieces), IDLE, None, Upload::new());
        for _ in 0..4 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        }
        let late = body.frame().await.unwrap().unwrap_err();
        assert_eq!(Rejection::find(&*late).unwrap().reason(), Reason::RequestTimeout);
    }

    /// Sends a piece of so many bytes each 1.1 seconds.
    async fn dripping(bytes: usize, pieces: usize) -> (usize, Option<Reason>) {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..pieces {
                sleep(Duration::from_millis(1_100)).await;
                if sender.send(Bytes::from(vec![0; bytes])).await.is_err() {
                    return;
                }
            }
        });
        let mut body = RequestBody::new(Pieces(receiver), IDLE, Some(MinimumRate::default()), Upload::new());
        let mut came = 0;
        loop {
            match body.frame().await {
                Some(Ok(_)) => came += 1,
                Some(Err(late)) => return (came, Rejection::find(&*late).map(Rejection::reason)),
                None => return (came, None),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_after_a_grace() {
        assert_eq!(dripping(340, 100).await, (100, None));
        assert_eq!(dripping(1, 100).await, (4, Some(Reason::RequestTimeout)));
        assert_eq!(dripping(120, 100).await, (4, Some(Reason::RequestTimeout)));
        assert_eq!(dripping(1, 4).await, (4, None), "one that is short may be slow");
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_fast_stays_to_its_credit() {
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(async move {
            sender.send(Bytes::from(vec![0; 240 * 20])).await.unwrap();
            sleep(Duration::from_secs(19)).await;
            sender.send(Bytes::from("x")).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        });
        let mut body = RequestBody::new(Pieces(pieces), IDLE, Some(MinimumRate::default()), Upload::new());
        body.frame().await.unwrap().unwrap();
        let began = Instant::now();
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap_err();
        assert_eq!(began.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_pauses_is_no_silence() {
        let (sender, pieces) = mpsc::channel(2);
        let upload = Upload::new();
        let mut body = RequestBody::new(Pieces(pieces), IDLE, Some(MinimumRate::default()), upload.clone());
        assert!(tokio_test::task::spawn(body.frame()).poll().is_pending() && upload.is_awaited());
        sender.send(Bytes::from("x")).await.unwrap();
        body.frame().await.unwrap().unwrap();
        assert!(!upload.is_awaited(), "nobody asks for more");
        sender.send(Bytes::from("y")).await.unwrap();
        sleep(IDLE * 10).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "y");
        drop(sender);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn an_end_that_is_none_is_told_once() {
        let (sender, pieces) = mpsc::channel(1);
        let body = RequestBody::new(Pieces(pieces), IDLE, None, Upload::new());
        let mut body = RequestBody { may_break_off: true, ..body };
        drop(sender);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(Rejection::find(&*error).unwrap().reason(), Reason::BadRequest);
        assert!(body.frame().await.is_none() && body.frame().await.is_none());
    }
}
