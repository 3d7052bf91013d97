//! A call that waits until its service is ready: how the one that was picked is used, and no other.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Waits for `service`, then calls it. Fails as `E`.
    pub(crate) struct ReadyCall<S: Service<R>, R, E = <S as Service<R>>::Error> {
        #[pin]
        state: State<S, R, S::Future, E>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R, F, E> {
        // Polling `poll_ready`; the request is there until it is ready. It is seldom, and a request is large: all futures
        // around this one would be.
        Waiting { waiting: Box<(S, Option<R>)> },
        Calling { #[pin] future: F },
        Failed { error: Option<E> },
    }
}

impl<S: Service<R>, R> ReadyCall<S, R> {
    /// `service` may not have been polled for readiness yet. One that is ready, as most are, is called at once.
    #[cfg(any(feature = "resilience", feature = "routing"))]
    #[inline]
    pub(crate) fn new(service: S, request: R) -> Self {
        Self::failing_as(service, request)
    }

    /// A call that was made of a service that was ready.
    #[cfg(feature = "resilience")]
    pub(crate) fn calling(future: S::Future) -> Self {
        Self { state: State::Calling { future } }
    }
}

impl<S: Service<R, Error: Into<E>>, R, E> ReadyCall<S, R, E> {
    /// As `new`, with another error.
    #[inline]
    pub(crate) fn failing_as(mut service: S, request: R) -> Self {
        let nobody = &mut Context::from_waker(Waker::noop());
        let state = match service.poll_ready(nobody) {
            Poll::Ready(Ok(())) => State::Calling { future: service.call(request) },
            Poll::Ready(Err(error)) => State::Failed { error: Some(error.into()) },
            Poll::Pending => State::Waiting { waiting: Box::new((service, Some(request))) },
        };
        Self { state }
    }
}

impl<S: Service<R>, R, E> ReadyCall<S, R, E> {
    /// Asks whether it is ready, and calls, on the task that polls this.
    #[cfg(feature = "transport")]
    pub(crate) fn later(service: S, request: R) -> Self {
        Self { state: State::Waiting { waiting: Box::new((service, Some(request))) } }
    }
}

impl<S: Service<R, Error: Into<E>>, R, E> Future for ReadyCall<S, R, E> {
    type Output = Result<S::Response, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.state.as_mut().project() {
                StateProjection::Calling { future } => return future.poll(cx).map_err(Into::into),
                StateProjection::Failed { error } => {
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
                StateProjection::Waiting { waiting } => {
                    let (service, request) = &mut **waiting;
                    ready!(service.poll_ready(cx)).map_err(Into::into)?;
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    let request = request.take().expect("polled after completion");
                    service.call(request)
                }
            };
            this.state.set(State::Calling { future });
        }
    }
}

impl<S: Service<R>, R, E> fmt::Debug for ReadyCall<S, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "waiting",
            State::Calling { .. } => "calling",
            State::Failed { .. } => "failed",
        };
        f.debug_struct("ReadyCall").field("state", &state).finish()
    }
}
