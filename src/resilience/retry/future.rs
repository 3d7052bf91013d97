use std::{
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::{
    body::RetryBody,
    call::{Call, Ended, Next},
};
use crate::{
    body::Body,
    resilience::looked::{Looked, Peeked, is_undecided},
};

/// How many frames of an answer that is not given are read, so that its connection can be used again.
const DRAINED: usize = 4;

pin_project! {
    /// The future of a [`Retry`](super::Retry). Dropping it drops the attempt.
    pub struct ResponseFuture<S: Service<Request<Body>>> {
        #[pin]
        state: State<S::Future, S::Error>,
        service: Option<S>,
        call: Option<Call>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, E> {
        // A request is large, and waits seldom.
        Readying { request: Option<Box<Request<Body>>> },
        Calling { #[pin] future: F },
        Failed { error: Option<E> },
        Waiting { wait: Pin<Box<Sleep>>, request: Option<Box<Request<Body>>> },
    }
}

impl<S: Service<Request<Body>>> ResponseFuture<S> {
    /// The only attempt.
    pub(super) fn calling(future: S::Future) -> Self {
        Self { state: State::Calling { future }, service: None, call: None }
    }

    /// An attempt by `service`, when it is ready. One that is, as most are, is called at once.
    #[inline]
    pub(super) fn readying(mut service: S, request: Request<Body>, call: Option<Call>) -> Self {
        let nobody = &mut Context::from_waker(Waker::noop());
        let state = match service.poll_ready(nobody) {
            Poll::Ready(Ok(())) => State::Calling { future: service.call(request) },
            Poll::Ready(Err(error)) => State::Failed { error: Some(error) },
            Poll::Pending => State::Readying { request: Some(Box::new(request)) },
        };
        Self { state, service: Some(service), call }
    }
}

type Answered<S, B> = Result<Response<RetryBody<B>>, <S as Service<Request<Body>>>::Error>;

impl<S, ResB> Future for ResponseFuture<S>
where
    S: Service<Request<Body>, Response = Response<ResB>>,
    S::Error: 'static,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    type Output = Answered<S, ResB>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let ended = match this.state.as_mut().project() {
                StateProjection::Calling { future } => ready!(future.poll(cx)),
                StateProjection::Failed { error } =>
                {
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    Err(error.take().expect("polled after completion"))
                }
                StateProjection::Waiting { wait, request } => {
                    ready!(wait.as_mut().poll(cx));
                    let request = request.take();
                    this.state.set(State::Readying { request });
                    continue;
                }
                StateProjection::Readying { request } => {
                    #[expect(clippy::expect_used, reason = "it is there unless there is one attempt only")]
                    let service = this.service.as_mut().expect("a service");
                    match ready!(service.poll_ready(cx)) {
                        Err(error) => Err(error),
                        Ok(()) => {
                            #[expect(clippy::expect_used, reason = "the contract of Future")]
                            let request = request.take().expect("polled after completion");
                            let future = service.call(*request);
                            this.state.set(State::Calling { future });
                            continue;
                        }
                    }
                }
            };
            match judge::<S, _>(this.call.as_mut(), ended, cx) {
                Judged::Given(answered) => {
                    // Nothing more of it is kept.
                    *this.call = None;
                    return Poll::Ready(answered);
                }
                Judged::Again(Next { wait, request }) => {
                    // The failed attempt is let go before the wait, and not after it.
                    this.state.set(State::Waiting { wait: Box::pin(sleep(wait)), request: Some(request) });
                }
            }
        }
    }
}

/// What becomes of an attempt's end: the caller is given it, or there is another attempt.
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
enum Judged<S: Service<Request<Body>>, B: HttpBody> {
    Given(Answered<S, B>),
    Again(Next),
}

fn judge<S, ResB>(
    call: Option<&mut Call>,
    ended: Result<Response<ResB>, S::Error>,
    cx: &mut Context<'_>,
) -> Judged<S, ResB>
where
    S: Service<Request<Body>>,
    S::Error: 'static,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: 'static,
{
    let Some(call) = call else {
        return Judged::Given(ended.map(|response| response.map(RetryBody::unwatched)));
    };
    let (mut head, body) = match ended {
        Ok(response) => response.into_parts(),
        Err(error) => {
            let ended = call.of_error(&error);
            call.count(&ended);
            let next = match ended {
                Ended::Failed(failed) => call.again(failed, None),
                Ended::Done | Ended::Refused => None,
            };
            return next.map_or(Judged::Given(Err(error)), Judged::Again);
        }
    };
    let ended = call.of_head(&head);
    call.count(&ended);
    let (body, failed) = match ended {
        Ended::Failed(failed) => (Looked::Whole { body }, Some(failed)),
        Ended::Done if call.asks_trailers() && is_undecided(&head) => {
            let peeked = Peeked::new(body, cx);
            let failed = match (peeked.trailers(), peeked.error()) {
                (Some(trailers), _) => call.of_trailers(trailers),
                (_, Some(error)) => call.of_body_error(error),
                _ => None,
            };
            (Looked::Peeked { peeked }, failed)
        }
        Ended::Done | Ended::Refused => (Looked::Whole { body }, None),
    };
    if let Some(next) = failed.and_then(|failed| call.again(failed, head.extensions.get())) {
        drain(body, cx);
        return Judged::Again(next);
    }
    call.tell(&mut head);
    let watch = call.watch(&mut head);
    Judged::Given(Ok(Response::from_parts(head, RetryBody::watched(body, watch))))
}

/// Reads what is there, so that the connection of a short answer can be used again.
fn drain<B: HttpBody>(body: B, cx: &mut Context<'_>) {
    let mut body = pin!(body);
    for _ in 0..DRAINED {
        if body.is_end_stream() || !matches!(body.as_mut().poll_frame(cx), Poll::Ready(Some(Ok(_)))) {
            return;
        }
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for ResponseFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Readying { .. } => "readying",
            State::Calling { .. } => "calling",
            State::Failed { .. } => "failed",
            State::Waiting { .. } => "waiting",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
