use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use thiserror::Error;
use tower_layer::Layer;
use tower_service::Service;

use super::{Body, BoxError, ahead::Ahead};

/// Lets policies inside look at the beginning of a request's body, which is handed on whole all the same.
///
/// It puts a [`Tap`] into the extensions of each request that has a body, and marks the others. Nothing is
/// read before somebody asks, and no more than was asked for; a request whose body nobody looks at costs one allocation.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use portcullis::body::{Body, Tap, TapLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio_test::block_on(async {
/// let service = TapLayer::new().layer(service_fn(|request: Request<Body>| async move {
///     let tap = request.extensions().get::<Tap>().cloned().expect("it has a body");
///     let seen = tap.peek(4).await.expect("it can be read");
///     assert_eq!((seen.bytes(), seen.is_whole()), (&Bytes::from("hell"), false));
///     let whole = request.into_body().collect().await.unwrap().to_bytes();
///     Ok::<_, std::convert::Infallible>(Response::new(Body::from(whole)))
/// }));
/// let response = service.oneshot(Request::new(Body::from("hello"))).await.unwrap();
/// assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
/// # });
/// ```
///
/// # Answers
///
/// None: it never refuses. A body that breaks off is [`Unreadable`] to whoever looks, and breaks off for its reader too.
///
/// # Position
///
/// Outside of whatever looks at bodies, and inside of what bounds their size and their time: those who look wait for the
/// caller. `TapLayer::disabled` takes its place where nobody looks.
///
/// # Shared state
///
/// None: each request has a tap of its own.
///
/// # Compared with tower
///
/// tower has no counterpart; who collects a body and builds it anew makes a stream wait for its end.
///
/// # Metrics
///
/// None.
#[derive(Clone, Copy, Debug)]
pub struct TapLayer {
    enabled: bool,
}

impl TapLayer {
    /// A layer that puts taps into requests.
    #[must_use]
    pub const fn new() -> Self {
        Self { enabled: true }
    }

    /// A layer of the same type that does nothing.
    #[must_use]
    pub const fn disabled() -> Self {
        Self { enabled: false }
    }
}

impl Default for TapLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for TapLayer {
    type Service = Tapped<S>;

    fn layer(&self, inner: S) -> Tapped<S> {
        Tapped { inner, enabled: self.enabled }
    }
}

/// The service of a [`TapLayer`].
#[derive(Clone, Debug)]
pub struct Tapped<S> {
    inner: S,
    enabled: bool,
}

impl<S, B, R> Service<Request<B>> for Tapped<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let (mut parts, body) = request.into_parts();
        let mut body = Body::new(body);
        if self.enabled && body.is_end_stream() {
            parts.extensions.insert(Bodiless);
        } else if self.enabled {
            let vessel = Arc::new(Mutex::new(Vessel::new(body)));
            parts.extensions.insert(Tap(Arc::downgrade(&vessel)));
            body = Body::new(TapBody(vessel));
        }
        self.inner.call(Request::from_parts(parts, body))
    }
}

/// Where the beginning of a request's body can be looked at: a request extension. It holds nothing: once the body is
/// dropped there is nothing to see.
#[derive(Clone)]
pub struct Tap(Weak<Mutex<Vessel>>);

/// A request extension: a tap has seen that there is no body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bodiless;

/// The beginning of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    bytes: Bytes,
    is_whole: bool,
}

impl Peeked {
    /// What a request without a body has.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { bytes: Bytes::new(), is_whole: true }
    }

    /// The bytes, no more than were asked for.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there are no others.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.is_whole
    }
}

/// The body broke off, or is gone. Who reads it further inside learns why.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the body cannot be read")]
pub struct Unreadable;

impl Tap {
    /// Waits for the first `most` bytes, or for the end of the body. What was read is kept for whoever reads the body,
    /// also if this future is dropped.
    ///
    /// It ends when the peer sends: give it a time limit.
    ///
    /// # Errors
    ///
    /// The body failed before.
    pub async fn peek(&self, most: usize) -> Result<Peeked, Unreadable> {
        poll_fn(|cx| {
            let vessel = self.0.upgrade().ok_or(Unreadable)?;
            let mut vessel = lock(&vessel);
            ready!(vessel.poll_fill(cx, most));
            Poll::Ready(vessel.look(most))
        })
        .await
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap(..)")
    }
}

/// A body, and what was read of it ahead of its reader.
struct Vessel {
    body: Body,
    ahead: Ahead,
    bytes: usize,
    ended: Option<Result<(), BoxError>>,
}

impl Vessel {
    fn new(body: Body) -> Self {
        Self { body, ahead: Ahead::default(), bytes: 0, ended: None }
    }

    /// Reads until there are more than `most` bytes, or no more.
    fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<()> {
        while self.ended.is_none() && self.bytes <= most && !(self.bytes == most && self.body.is_end_stream())
        {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.ahead.push(frame);
                }
                Some(Err(error)) => self.ended = Some(Err(error)),
                None => self.ended = Some(Ok(())),
            }
        }
        Poll::Ready(())
    }

    fn look(&mut self, most: usize) -> Result<Peeked, Unreadable> {
        if matches!(self.ended, Some(Err(_))) {
            return Err(Unreadable);
        }
        Ok(Peeked { bytes: self.ahead.first(most), is_whole: self.bytes <= most })
    }
}

fn lock(vessel: &Mutex<Vessel>) -> MutexGuard<'_, Vessel> {
    vessel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the reader of the body gets: first what was read ahead.
struct TapBody(Arc<Mutex<Vessel>>);

impl HttpBody for TapBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut vessel = lock(&self.0);
        if let Some(frame) = vessel.ahead.pop() {
            vessel.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        match vessel.ended.take() {
            None => Pin::new(&mut vessel.body).poll_frame(cx),
            Some(ended) => {
                vessel.ended = Some(Ok(()));
                Poll::Ready(ended.err().map(Err))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let vessel = lock(&self.0);
        vessel.ahead.is_empty()
            && match &vessel.ended {
                Some(ended) => ended.is_ok(),
                None => vessel.body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let vessel = lock(&self.0);
        let (ahead, rest) = (vessel.bytes as u64, vessel.body.size_hint());
        let mut hint = SizeHint::new();
        // The upper bound first: it may not be below the other.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(rest.lower() + ahead);
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::body::script::{Script, Step};

    const AB: Step = Step::Data("ab");

    /// What each look shows, and what the reader gets in the end.
    async fn looked(
        steps: &'static [Step],
        looks: &'static [usize],
    ) -> (Vec<Option<(Bytes, bool)>>, Option<(Bytes, bool)>) {
        let service = TapLayer::new().layer(service_fn(|request: Request<Body>| async move {
            let mut seen = Vec::new();
            for most in looks {
                let peeked = request.extensions().get::<Tap>().unwrap().peek(*most).await;
                seen.push(peeked.ok().map(|peeked| (peeked.bytes, peeked.is_whole)));
            }
            let read = request.into_body().collect().await.ok();
            let read = read.map(|whole| (whole.trailers().is_some(), whole.to_bytes()));
            Ok::<_, Infallible>(Response::new((seen, read.map(|(trailers, bytes)| (bytes, trailers)))))
        }));
        service.oneshot(Request::new(Script::new(steps.iter().cloned()))).await.unwrap().into_body()
    }

    fn text(bytes: &'static str, whole: bool) -> Option<(Bytes, bool)> {
        Some((Bytes::from(bytes), whole))
    }

    #[tokio::test]
    async fn the_reader_gets_what_was_looked_at_and_the_rest() {
        for (steps, looks, seen, read) in [
            (&[AB, AB, Step::End][..], &[3][..], vec![text("aba", false)], text("abab", false)),
            (
                &[AB, AB, Step::End],
                &[4, 1, 9],
                vec![text("abab", true), text("a", false), text("abab", true)],
                text("abab", false),
            ),
            (&[AB, AB, Step::End], &[0], vec![text("", false)], text("abab", false)),
            (&[AB, Step::Trailers("0")], &[2], vec![text("ab", true)], text("ab", true)),
            (&[AB, Step::End], &[], vec![], text("ab", false)),
            (&[AB, Step::Fail], &[1, 9, 9], vec![text("a", false), None, None], None),
        ] {
            assert_eq!(looked(steps, looks).await, (seen, read), "{looks:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_gone_shows_nothing_and_is_held_by_nobody() {
        let tap = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&tap);
        let service = TapLayer::new().layer(service_fn(move |request: Request<Body>| {
            *kept.lock().unwrap() = request.extensions().get::<Tap>().cloned();
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        }));
        service.clone().oneshot(Request::new(Body::from("x"))).await.unwrap();
        let tap = tap.lock().unwrap().take().unwrap();
        assert_eq!(tap.peek(1).await, Err(Unreadable));
        // Without a body there is nothing to tap.
        let none = TapLayer::new().layer(service_fn(|request: Request<Body>| async move {
            assert!(request.extensions().get::<Tap>().is_none());
            assert!(request.extensions().get::<Bodiless>().is_some());
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        none.oneshot(Request::new(Body::empty())).await.unwrap();
        drop(service);
    }

    #[tokio::test]
    async fn the_size_and_the_end_are_those_of_the_whole() {
        let service = TapLayer::new().layer(service_fn(|request: Request<Body>| async move {
            let tap = request.extensions().get::<Tap>().cloned().unwrap();
            let mut body = request.into_body();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
            tap.peek(9).await.unwrap();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(4), false));
            body.frame().await.unwrap().unwrap();
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        service.oneshot(Request::new(Body::from("abcd"))).await.unwrap();
    }

    #[tokio::test]
    async fn a_look_that_is_given_up_loses_nothing() {
        let service = TapLayer::new().layer(service_fn(|request: Request<Body>| async move {
            let tap = request.extensions().get::<Tap>().cloned().unwrap();
            let mut look = tokio_test::task::spawn(tap.peek(9));
            assert!(look.poll().is_pending());
            drop(look);
            let read = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(read))
        }));
        let body = Script::new([AB, Step::Pending, AB, Step::End]);
        let read = service.oneshot(Request::new(body)).await.unwrap();
        assert_eq!(read.into_body(), "abab");
    }
}
