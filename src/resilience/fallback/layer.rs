use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    FallbackBody, FallbackHandle, Policy,
    policy::{Asked, Case, Instead},
};
use crate::{
    body::{Body, BoxError, Replay},
    head::Head,
    reject::{Protocol, Rejection},
    resilience::again::{has_attempts, is_repeatable, keep_body},
    trail::{Failed, FellBack, Given, Trail},
    upload::Upload,
};

/// Gives something else in the place of a failure. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct FallbackLayer(Option<Arc<Policy>>);

impl FallbackLayer {
    /// A layer that does as `policy` says.
    pub fn new(policy: Policy) -> Self {
        Self(Some(Arc::new(policy)))
    }

    /// A layer of the same type that gives every failure as it is.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// What it has done. `None` if it is disabled.
    #[must_use]
    pub fn handle(&self) -> Option<FallbackHandle> {
        self.0.as_deref().map(Policy::handle)
    }
}

impl<S> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        Fallback { inner, policy: self.0.clone() }
    }
}

/// The service of a [`FallbackLayer`].
#[derive(Clone)]
pub struct Fallback<S> {
    inner: S,
    policy: Option<Arc<Policy>>,
}

impl<S, B, ResB> Service<Request<B>> for Fallback<S>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: Into<BoxError>,
{
    type Response = Response<FallbackBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResB, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        let call = self.policy.as_ref().map(|policy| Call::begin(Arc::clone(policy), &mut request));
        ResponseFuture { state: State::Calling { future: self.inner.call(request) }, call }
    }
}

impl<S> fmt::Debug for Fallback<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// One call, and what is given if it fails.
struct Call {
    policy: Arc<Policy>,
    protocol: Protocol,
    is_head: bool,
    /// As it was, if somebody else is to see it.
    head: Option<Request<()>>,
    /// `None`: it cannot be sent again.
    body: Option<Replay>,
    may_repeat: bool,
    trail: Option<Trail>,
}

/// What becomes of a failure.
enum Next {
    Give(Response<Bytes>),
    Ask(Asked),
    Stand,
}

impl Call {
    fn begin(policy: Arc<Policy>, request: &mut Request<Body>) -> Self {
        let trail = request.extensions().get().cloned();
        let head = Head::of(request);
        let (protocol, is_head) = (head.protocol(), head.method() == Method::HEAD);
        let seen = match policy.instead {
            Instead::Answer(_) => None,
            Instead::Made(_) | Instead::Server(_) => Some(head.to_request()),
        };
        let may_repeat = policy.any_method || is_repeatable(request);
        let asks = matches!(policy.instead, Instead::Server(_)) && has_attempts(request);
        let body = if asks { keep_body(request, policy.most_body) } else { None };
        Self { policy, protocol, is_head, head: seen, body, may_repeat, trail }
    }

    fn instead(&mut self, case: Case) -> Next {
        match &self.policy.instead {
            Instead::Answer(response) => self.told(Response::clone(response)),
            Instead::Made(make) => match self.head.as_ref().and_then(|head| make(head)) {
                Some(response) => self.told(response),
                None => Next::Stand,
            },
            Instead::Server(server) => {
                let body = self.body.take().filter(|_| case.unsent || self.may_repeat);
                let body = body.and_then(|replay| replay.body().filter(|_| replay.give_up_older()));
                match self.head.take().zip(body) {
                    Some((head, body)) => {
                        if let Some(upload) = head.extensions().get::<Upload>() {
                            upload.set_awaited(false); // the other server has not asked for anything yet
                        }
                        Next::Ask(server(head.map(|()| body)))
                    }
                    None => Next::Stand,
                }
            }
        }
    }

    /// Gives it if it is in the protocol of the caller, to `HEAD` without its body.
    fn told(&self, response: Response<Bytes>) -> Next {
        if self.protocol.is_grpc() && Protocol::of(response.headers()) != self.protocol {
            return Next::Stand;
        }
        Next::Give(if self.is_head { without_body(response) } else { response })
    }

    fn stands<B, E>(&self, ended: Result<Response<B>, E>) -> Result<Response<FallbackBody<B>>, E> {
        self.policy.count(None);
        inner(ended)
    }

    fn given<B>(&self, failed: Failed, given: Given, response: Response<Body>) -> Response<FallbackBody<B>> {
        let fell_back = FellBack { failed, given };
        self.policy.count(Some(given));
        if let Some(trail) = &self.trail {
            trail.set_fell_back(fell_back);
        }
        let mut response = response.map(FallbackBody::instead);
        response.extensions_mut().insert(fell_back);
        response
    }
}

/// Servers of HTTP/2 send what they are given, to `HEAD` too.
fn without_body(response: Response<Bytes>) -> Response<Bytes> {
    let (mut head, body) = response.into_parts();
    let length = || HeaderValue::from(body.len());
    head.headers.entry(header::CONTENT_LENGTH).or_insert_with(length);
    Response::from_parts(head, Bytes::new())
}

pin_project! {
    /// The future of a [`Fallback`]. Dropping it drops whatever is asked.
    pub struct ResponseFuture<F, B, E> {
        #[pin]
        state: State<F, B, E>,
        call: Option<Call>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, B, E> {
        Calling { #[pin] future: F },
        // The failure stands if the other server has no answer.
        Asking { asked: Asked, failed: Failed, failure: Option<(Call, Result<Response<B>, E>)> },
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: 'static,
{
    type Output = Result<Response<FallbackBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match this.state.as_mut().project() {
                StateProjection::Calling { future } => ready!(future.poll(cx)),
                StateProjection::Asking { asked, failed, failure } => {
                    let answer = ready!(asked.as_mut().poll(cx));
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let (call, failure) = failure.take().expect("polled after completion");
                    // A refusal is that of a layer in front of the server.
                    let answer =
                        answer.ok().filter(|answer| answer.extensions().get::<Rejection>().is_none());
                    return Poll::Ready(match answer {
                        Some(response) => Ok(call.given(*failed, Given::Server, response)),
                        None => call.stands(failure),
                    });
                }
            };
            let Some(mut call) = this.call.take() else { return Poll::Ready(inner(ended)) };
            let case = match &ended {
                Ok(response) => call.policy.of_response(response),
                Err(error) => call.policy.of_error(error),
            };
            let Some(case) = case else { return Poll::Ready(inner(ended)) };
            match call.instead(case) {
                Next::Give(response) => {
                    let response = response.map(Body::from);
                    return Poll::Ready(Ok(call.given(case.failed, Given::Answer, response)));
                }
                Next::Stand => return Poll::Ready(call.stands(ended)),
                Next::Ask(asked) => {
                    let failure = Some((call, ended));
                    this.state.set(State::Asking { asked, failed: case.failed, failure });
                }
            }
        }
    }
}

fn inner<B, E>(ended: Result<Response<B>, E>) -> Result<Response<FallbackBody<B>>, E> {
    ended.map(|response| response.map(FallbackBody::inner))
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Calling { .. } => "calling",
            State::Asking { .. } => "asking",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
