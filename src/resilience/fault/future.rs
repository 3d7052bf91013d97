use std::{
    fmt,
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::FaultBody;
use crate::{body::BoxError, trail};

pin_project! {
    /// The future of a [`Fault`](super::Fault). Dropping it drops the call, or the wait before it.
    pub struct ResponseFuture<S: Service<Request<B>>, B> {
        // Begun when it is polled: `call` may be outside of a runtime.
        delay: Option<Duration>,
        wait: Option<Pin<Box<Sleep>>>,
        #[pin]
        state: State<S, S::Future, B>,
        rate: Option<NonZeroU64>,
        fault: Option<trail::Fault>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B> {
        /// For the end of the wait.
        Held { held: Option<Box<(S, Request<B>)>> },
        Calling { #[pin] future: F },
        Answering { answer: Option<Box<Answer>> },
    }
}

/// An answer of our own. `None`: its body breaks off.
type Answer = Response<Option<Bytes>>;

impl<S: Service<Request<B>>, B> ResponseFuture<S, B> {
    /// The inner service's response, perhaps at so many bytes a second.
    pub(super) fn call(future: S::Future, rate: Option<NonZeroU64>, fault: Option<trail::Fault>) -> Self {
        Self { delay: None, wait: None, state: State::Calling { future }, rate, fault }
    }

    /// The same, after some time.
    pub(super) fn call_after(
        delay: Duration,
        service: S,
        request: Request<B>,
        rate: Option<NonZeroU64>,
        fault: trail::Fault,
    ) -> Self {
        let held = Some(Box::new((service, request)));
        Self { delay: Some(delay), wait: None, state: State::Held { held }, rate, fault: Some(fault) }
    }

    /// An answer of our own, perhaps after some time.
    pub(super) fn answer(delay: Option<Duration>, answer: Answer, fault: trail::Fault) -> Self {
        let state = State::Answering { answer: Some(Box::new(answer)) };
        Self { delay, wait: None, state, rate: None, fault: Some(fault) }
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: HttpBody<Data = Bytes>,
    ResB::Error: Into<BoxError>,
{
    type Output = Result<Response<FaultBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(delay) = this.delay.take() {
            *this.wait = Some(Box::pin(sleep(delay)));
        }
        if let Some(wait) = this.wait {
            ready!(wait.as_mut().poll(cx));
            *this.wait = None;
        }
        if let StateProjection::Held { held } = this.state.as_mut().project() {
            #[expect(clippy::expect_used, reason = "it is called once, here")]
            let (mut service, request) = *held.take().expect("a request");
            let future = service.call(request);
            this.state.set(State::Calling { future });
        }
        let mut response = match this.state.project() {
            StateProjection::Calling { future } => ready!(future.poll(cx))?.map(|body| match *this.rate {
                Some(rate) => FaultBody::slow(body, rate),
                None => FaultBody::inner(body),
            }),
            StateProjection::Answering { answer } => {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                let answer = *answer.take().expect("polled after completion");
                answer.map(|bytes| bytes.map_or_else(FaultBody::broken, FaultBody::full))
            }
            StateProjection::Held { .. } => return Poll::Pending,
        };
        if let Some(fault) = *this.fault {
            response.extensions_mut().insert(fault);
        }
        Poll::Ready(Ok(response))
    }
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("fault", &self.fault).finish_non_exhaustive()
    }
}
