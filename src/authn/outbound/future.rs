use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::{
    TokenSource,
    source::{Supply, Waiting},
};
use crate::{
    body::ResponseBody,
    identity::CallerToken,
    reject::{GrpcCode, Protocol, Rejection, Style},
};

/// What a call needs to have another token.
pub(super) struct Credentials {
    pub(super) source: TokenSource,
    pub(super) subject: Option<CallerToken>,
    pub(super) style: Style,
}

/// A call with a token.
pub(super) struct Attempt<S, R> {
    pub(super) line: HeaderValue,
    /// The service and the request once more, if the body can be had again.
    pub(super) replay: Option<Box<(S, R)>>,
}

pin_project! {
    /// The future of an [`Outbound`](super::Outbound).
    pub struct OutboundFuture<S, R, F> {
        #[pin]
        state: State<S, R, F>,
        credentials: Option<Box<Credentials>>,
        attempt: Option<Attempt<S, R>>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, F> {
        /// For the first token: the service is ready. For the second: it is to be made so.
        Waiting { wait: Waiting, held: Option<Box<(S, R)>>, is_ready: bool },
        Readying { held: Option<Box<(S, R)>> },
        Calling { #[pin] future: F },
        Answer { response: Option<Box<Response<Bytes>>> },
    }
}

impl<S, R, F> OutboundFuture<S, R, F> {
    pub(super) fn plain(future: F) -> Self {
        Self { state: State::Calling { future }, credentials: None, attempt: None }
    }

    pub(super) fn calling(future: F, credentials: Option<Credentials>, attempt: Attempt<S, R>) -> Self {
        let credentials = credentials.map(Box::new);
        Self { state: State::Calling { future }, credentials, attempt: Some(attempt) }
    }

    pub(super) fn waiting(wait: Waiting, credentials: Credentials, inner: S, request: R) -> Self {
        let held = Some(Box::new((inner, request)));
        let state = State::Waiting { wait, held, is_ready: true };
        Self { state, credentials: Some(Box::new(credentials)), attempt: None }
    }

    pub(super) fn answer(response: Response<Bytes>) -> Self {
        let response = Some(Box::new(response));
        Self { state: State::Answer { response }, credentials: None, attempt: None }
    }
}

impl<S, B, ResB> Future for OutboundFuture<S, Request<B>, S::Future>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    B: HttpBody + 'static,
    ResB: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Answer { response } => {
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let response = response.take().expect("polled after completion");
                    return Poll::Ready(Ok(response.map(ResponseBody::full)));
                }
                StateProjection::Calling { future } => {
                    let response = ready!(future.poll(cx))?;
                    let again = this
                        .credentials
                        .as_ref()
                        .zip(this.attempt.take())
                        .and_then(|(credentials, attempt)| credentials.see(&response, attempt));
                    match again {
                        None => return Poll::Ready(Ok(response.map(ResponseBody::inner))),
                        Some((supply, held)) => State::of(supply, held, this.credentials.as_deref()),
                    }
                }
                StateProjection::Waiting { wait, held, is_ready } => {
                    let token = ready!(wait.as_mut().poll(cx));
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let held = held.take().expect("polled after completion");
                    match token {
                        Err(refusal) => State::refused(refusal, this.credentials.as_deref()),
                        Ok(line) if *is_ready => {
                            let (mut inner, mut request) = *held;
                            *this.attempt = Some(Attempt::prepare(&inner, &mut request, line, true));
                            State::Calling { future: inner.call(request) }
                        }
                        Ok(line) => State::with(line, held),
                    }
                }
                StateProjection::Readying { held } => {
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let (inner, _) = &mut **held.as_mut().expect("polled after completion");
                    ready!(inner.poll_ready(cx))?;
                    #[expect(clippy::expect_used, reason = "it was there a line above")]
                    let (mut inner, request) = *held.take().expect("it is there");
                    State::Calling { future: inner.call(request) }
                }
            };
            this.state.set(next);
        }
    }
}

impl Credentials {
    /// Whether the call is to be made again, with what: only once, and only if its token was refused.
    fn see<S, R, ResB>(
        &self,
        response: &Response<ResB>,
        attempt: Attempt<S, R>,
    ) -> Option<(Supply, Box<(S, R)>)> {
        let is_401 = response.status() == StatusCode::UNAUTHORIZED;
        if !is_401 && GrpcCode::of(response.headers()) != Some(GrpcCode::UNAUTHENTICATED) {
            return None;
        }
        let now = Instant::now();
        let renewed = self.source.refused(self.subject.as_ref(), &attempt.line, now);
        let replay = attempt.replay.filter(|_| renewed && is_401)?;
        Some((self.source.supply(self.subject.as_ref(), Some(&attempt.line), now), replay))
    }
}

impl<S, B, F> State<S, Request<B>, F> {
    /// The second try.
    fn of(supply: Supply, held: Box<(S, Request<B>)>, credentials: Option<&Credentials>) -> Self {
        match supply {
            Supply::Now(Ok(line)) => Self::with(line, held),
            Supply::Now(Err(refusal)) => Self::refused(refusal, credentials),
            Supply::Nothing => Self::Readying { held: Some(held) },
            Supply::Wait(wait) => Self::Waiting { wait, held: Some(held), is_ready: false },
        }
    }

    fn with(line: HeaderValue, mut held: Box<(S, Request<B>)>) -> Self {
        held.1.headers_mut().insert(header::AUTHORIZATION, line);
        Self::Readying { held: Some(held) }
    }

    fn refused(refusal: Rejection, credentials: Option<&Credentials>) -> Self {
        let response = match credentials {
            Some(credentials) => credentials.style.render(refusal.into()),
            None => refusal.into_response(Protocol::Http),
        };
        Self::Answer { response: Some(Box::new(response)) }
    }
}

impl<S, R, F> fmt::Debug for OutboundFuture<S, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundFuture").finish_non_exhaustive()
    }
}
