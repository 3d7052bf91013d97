use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Request;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::Body;

pin_project! {
    /// One attempt: by a service, when it is ready.
    pub(super) struct Sending<S: Service<Request<Body>>> {
        #[pin]
        state: State<S, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, F> {
        Readying { service: S, request: Option<Request<Body>> },
        Calling { #[pin] future: F },
    }
}

impl<S: Service<Request<Body>>> Sending<S> {
    pub(super) fn readying(service: S, request: Request<Body>) -> Self {
        Self { state: State::Readying { service, request: Some(request) } }
    }

    pub(super) fn calling(future: S::Future) -> Self {
        Self { state: State::Calling { future } }
    }
}

impl<S: Service<Request<Body>>> Future for Sending<S> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProjection::Calling { future } => return future.poll(cx),
                StateProjection::Readying { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    #[expect(clippy::expect_used, reason = "the contract of Future")]
                    service.call(request.take().expect("polled after completion"))
                }
            };
            state.set(State::Calling { future });
        }
    }
}
