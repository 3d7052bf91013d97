use std::{
    any::Any,
    convert::Infallible,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Answer, Protocol, Reason, Rejection, Style};
use crate::{body::BoxError, head::Head, outcome::Failure};

/// Turns errors into answers, at a server's edge: `Error = Infallible`.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use portcullis::reject::RescueLayer;
/// use tower::{Layer, Service, ServiceExt};
///
/// # tokio_test::block_on(async {
/// let broken = tower::service_fn(|_: Request<String>| async {
///     Err::<Response<String>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
/// });
/// let response = RescueLayer::new().layer(broken).oneshot(Request::new(String::new())).await.unwrap();
/// assert_eq!(response.status(), 502);
/// # });
/// ```
///
/// # Answers
///
/// | what came | answer |
/// |---|---|
/// | an error that is a [`Rejection`], or has one among its sources | that rejection |
/// | any other error | the reason of its [`Failure`]: [`Reason::ConnectFailed`], [`Reason::UpstreamReset`], ..., [`Reason::Internal`] |
/// | an error of `poll_ready` | the same, for this call and every later one of this instance, as tower asks |
/// | a panic in `call` or in the future | [`Reason::Internal`] |
/// | an error in the middle of a gRPC body | trailers with the gRPC code; for HTTP the body stays an error, and the server aborts |
///
/// # Position
///
/// Outermost, so that whatever stands inside may fail.
///
/// # Shared state
///
/// None.
///
/// # Compared with tower
///
/// tower_http's `CatchPanic` answers panics only, and with HTTP only; axum's `HandleErrorLayer` asks for a function from
/// each error type.
///
/// # Metrics
///
/// None of its own: what it answers is counted by reason. A panic is logged at `error`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RescueLayer(());

impl RescueLayer {
    /// A layer that rescues.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for RescueLayer {
    type Service = Rescue<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Rescue { inner, failed: None }
    }
}

/// The service of a [`RescueLayer`].
#[derive(Debug)]
pub struct Rescue<S> {
    inner: S,
    failed: Option<Rejection>,
}

impl<S: Clone> Clone for Rescue<S> {
    /// A clone has not failed yet.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), failed: None }
    }
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for Rescue<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Response = Response<RescueBody<ResB>>;
    type Error = Infallible;
    type Future = RescueFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.failed.is_none()
            && let Err(error) = ready!(self.inner.poll_ready(cx))
        {
            self.failed = Some(rejection_of(error.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqB>) -> Self::Future {
        let style = Style::of(&Head::of(&mut request));
        let state = match &self.failed {
            Some(rejection) => State::Failed { rejection: Some(rejection.clone()) },
            None => match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
                Ok(future) => State::Call { future },
                Err(panic) => State::Failed { rejection: Some(panicked(&*panic)) },
            },
        };
        RescueFuture { state, style }
    }
}

pin_project! {
    /// The future of a [`Rescue`].
    pub struct RescueFuture<F> {
        #[pin]
        state: State<F>,
        style: Style,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Call { #[pin] future: F },
        Failed { rejection: Option<Rejection> },
    }
}

impl<F, ResB, E> Future for RescueFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RescueBody<ResB>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let is_grpc = this.style.protocol() == Protocol::Grpc;
        let rejection = match this.state.project() {
            StateProjection::Call { future } => match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(response))) => {
                    let wrap = |body| RescueBody { kind: Kind::Inner { body, is_grpc } };
                    return Poll::Ready(Ok(response.map(wrap)));
                }
                Ok(Poll::Ready(Err(error))) => rejection_of(error.into()),
                Err(panic) => panicked(&*panic),
            },
            StateProjection::Failed { rejection } =>
            {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                rejection.take().expect("polled after completion")
            }
        };
        let response = this.style.render(Answer::Refuse(rejection));
        Poll::Ready(Ok(response.map(|bytes| RescueBody { kind: Kind::Full { bytes: Some(bytes) } })))
    }
}

impl<F> fmt::Debug for RescueFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RescueFuture").field("style", &self.style).finish_non_exhaustive()
    }
}

fn rejection_of(error: BoxError) -> Rejection {
    if let Some(rejection) = Rejection::find(&*error) {
        return rejection.clone();
    }
    Rejection::new(Failure::of_chain(&*error).reason()).source(error)
}

fn panicked(panic: &(dyn Any + Send)) -> Rejection {
    let message = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    tracing::error!(panic = %message, "a service panicked");
    Rejection::new(Reason::Internal).detail("a service panicked")
}

pin_project! {
    /// The body of a response from a [`Rescue`].
    pub struct RescueBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Inner { #[pin] body: B, is_grpc: bool },
        Full { bytes: Option<Bytes> },
        Ended,
    }
}

impl<B> HttpBody for RescueBody<B>
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
        let mut kind = self.project().kind;
        match kind.as_mut().project() {
            KindProjection::Inner { body, is_grpc } => match ready!(body.poll_frame(cx)) {
                Some(Err(error)) if *is_grpc => {
                    kind.set(Kind::Ended);
                    Poll::Ready(Some(Ok(Frame::trailers(trailers_of(&error)))))
                }
                frame => Poll::Ready(frame),
            },
            KindProjection::Full { bytes } => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            KindProjection::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body, .. } => body.is_end_stream(),
            Kind::Full { bytes } => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body, .. } => body.size_hint(),
            Kind::Full { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Ended => SizeHint::with_exact(0),
        }
    }
}

/// The head has been sent with HTTP 200: the failure can only stand in the trailers.
fn trailers_of<E: 'static>(error: &E) -> HeaderMap {
    let rejection = crate::outcome::rejection_in(error);
    let reason = rejection.map_or_else(|| Failure::of(error).reason(), Rejection::reason);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", u16::from(reason.grpc().number()).into());
    trailers
}

impl<B> fmt::Debug for RescueBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RescueBody").finish_non_exhaustive()
    }
}
