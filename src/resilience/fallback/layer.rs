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
    failure::Failure,
    policy::{Asked, Case, Instead},
    stale::Ask,
};
use crate::{
    body::{Body, BoxError, Replay},
    head::Head,
    reject::{Protocol, Rejection},
    resilience::again::{has_attempts, is_repeatable},
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
    /// What it asks of old answers, if some are kept.
    asks: Option<Ask>,
    trail: Option<Trail>,
}

/// What becomes of a failure.
enum Next {
    Give(Given, Response<Bytes>),
    Ask(Asked),
    Stand,
}

impl Call {
    fn begin(policy: Arc<Policy>, request: &mut Request<Body>) -> Self {
        let trail = request.extensions().get().cloned();
        let has_body = !request.body().is_end_stream();
        let mut head = Head::of(request);
        let asks = policy.stale.as_ref().and_then(|stale| stale.ask(&mut head, has_body));
        let (protocol, is_head) = (head.protocol(), head.method() == Method::HEAD);
        let seen = match policy.instead {
            Instead::Answer(_) => None,
            Instead::Made(_) | Instead::Server(_) => Some(head.to_request()),
        };
        let may_repeat = policy.any_method || is_repeatable(request);
        let twice = matches!(policy.instead, Instead::Server(_)) && has_attempts(request);
        let body = if twice { Replay::of(request.body_mut(), policy.most_body) } else { None };
        Self { policy, protocol, is_head, head: seen, body, may_repeat, asks, trail }
    }

    fn instead(&mut self, case: Case) -> Next {
        if let (Some(stale), Some(Ask::Read(read))) = (&self.policy.stale, &self.asks)
            && let Some(response) = stale.find(read)
        {
            return self.told(Given::Stale, response);
        }
        match &self.policy.instead {
            Instead::Answer(response) => self.told(Given::Answer, Response::clone(response)),
            Instead::Made(make) => match self.head.as_ref().and_then(|head| make(head)) {
                Some(response) => self.told(Given::Answer, response),
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
    fn told(&self, given: Given, response: Response<Bytes>) -> Next {
        if self.protocol.is_grpc() && Protocol::of(response.headers()) != self.protocol {
            return Next::Stand;
        }
        Next::Give(given, if self.is_head { without_body(response) } else { response })
    }

    /// What is no failure is kept for when there is one, if it may be.
    fn passes<B: HttpBody, E>(self, ended: Result<Response<B>, E>) -> Result<Response<FallbackBody<B>>, E> {
        ended.map(|response| {
            let stale = self.policy.stale.as_ref().zip(self.asks);
            let recorder = stale.and_then(|(stale, ask)| stale.learn(ask, &response)).map(Box::new);
            response.map(|body| FallbackBody::recorded(body, recorder))
        })
    }

    fn stands<T>(&self, ended: T) -> T {
        self.policy.count(None);
        ended
    }

    fn given<B>(&self, failed: Failed, given: Given, response: Response<Body>) -> Response<FallbackBody<B>> {
        let fell_back = FellBack { failed, given };
        if let (Some(stale), Some(Ask::Change(place)), Given::Server) =
            (&self.policy.stale, &self.asks, given)
        {
            stale.note(*place, response.status());
        }
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
        Asking { asked: Option<Asked>, failed: Failed, failure: Option<Failure<B, E>> },
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: HttpBody<Data = Bytes>,
    E: 'static,
{
    type Output = Result<Response<FallbackBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match this.state.as_mut().project() {
                StateProjection::Calling { future } => ready!(future.poll(cx)),
                StateProjection::Asking { asked, failed, failure } => {
                    let answer = ready!(poll_other(asked, failure, cx));
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let (call, failure) =
                        this.call.take().zip(failure.take()).expect("polled after completion");
                    let stands =
                        || call.stands(failure.given().map(|response| response.map(FallbackBody::instead)));
                    let given = |response| Ok(call.given(*failed, Given::Server, response));
                    return Poll::Ready(answer.map_or_else(stands, given));
                }
            };
            let Some(mut call) = this.call.take() else { return Poll::Ready(inner(ended)) };
            let case = match &ended {
                Ok(response) => call.policy.of_response(response),
                Err(error) => call.policy.of_error(error),
            };
            let Some(case) = case else { return Poll::Ready(call.passes(ended)) };
            match call.instead(case) {
                Next::Give(given, response) => {
                    let response = response.map(Body::from);
                    return Poll::Ready(Ok(call.given(case.failed, given, response)));
                }
                Next::Stand => return Poll::Ready(call.stands(inner(ended))),
                Next::Ask(asked) => {
                    *this.call = Some(call);
                    let (asked, failure) = (Some(asked), Some(Failure::new(ended)));
                    this.state.set(State::Asking { asked, failed: case.failed, failure });
                }
            }
        }
    }
}

/// The answer of the other server, or `None` if it has none, and what failed is read.
fn poll_other<B, E>(
    asked: &mut Option<Asked>,
    failure: &mut Option<Failure<B, E>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Response<Body>>>
where
    B: HttpBody<Data = Bytes>,
{
    let is_read = failure.as_mut().map_or(Poll::Ready(()), |failure| failure.poll_read(cx));
    if let Some(asking) = asked {
        let answer = ready!(asking.as_mut().poll(cx)).ok();
        // A refusal is that of a layer in front of the server.
        let answer = answer.filter(|answer| answer.extensions().get::<Rejection>().is_none());
        if answer.is_some() {
            return Poll::Ready(answer);
        }
        *asked = None;
    }
    is_read.map(|()| None)
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
