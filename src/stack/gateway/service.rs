//! The listener's service: it finds what is in force, and keeps it for as long as the request lasts.
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{direction::Direction, edge::EdgeService, snapshot::Snapshot, tcp::StreamsIn};
use crate::{
    body::Body,
    head::Head,
    reject::{Reason, Rejection, Style},
};

/// What is in force: swapped as one.
pub(super) struct InForce {
    pub(super) snapshot: Arc<Snapshot>,
    /// Counted from 1.
    pub(super) generation: u64,
    /// What is done at each listener, those that drain too.
    pub(super) ways: Vec<WayIn>,
}

/// A listener, whatever its socket is: one that goes the other way is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Door {
    pub(super) listener: Arc<str>,
    pub(super) direction: Direction,
}

/// What is done with what comes to a listener.
#[derive(Clone)]
pub(super) struct WayIn {
    pub(super) door: Door,
    pub(super) edge: EdgeService,
    /// With what is no HTTP.
    pub(super) streams: StreamsIn,
}

impl InForce {
    /// That of this listener. `None`: it is gone, and so is all that came by it.
    pub(super) fn way(&self, door: &Door) -> Option<&WayIn> {
        self.ways.iter().find(|way| way.door == *door)
    }
}

/// Serves the requests of one listener by what is in force when they begin.
#[derive(Clone)]
pub(super) struct ListenerService(Arc<(Arc<ArcSwapOption<InForce>>, Door)>);

impl ListenerService {
    pub(super) fn new(current: Arc<ArcSwapOption<InForce>>, door: Door) -> Self {
        Self(Arc::new((current, door)))
    }
}

impl Service<Request<Body>> for ListenerService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ListenerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (current, door) = &*self.0;
        let current = current.load();
        let way = current.as_ref().and_then(|current| current.way(door));
        let edge = way.and_then(|way| ready_now(way.edge.clone()));
        let Some(mut edge) = edge else {
            let style = Style::of(&Head::of(&mut request));
            let gone = style.render(Rejection::new(Reason::Unavailable).into()).map(Body::from);
            return ListenerFuture { state: State::Gone { answer: Some(Box::new(gone)) } };
        };
        // Its parts hold what they need of the snapshot: a swap takes nothing from a request that has begun.
        ListenerFuture { state: State::Served { answer: edge.call(request) } }
    }
}

/// An edge is always ready: what waits, waits inside of the call.
fn ready_now(mut edge: EdgeService) -> Option<EdgeService> {
    let nobody = &mut Context::from_waker(Waker::noop());
    Service::<Request<Body>>::poll_ready(&mut edge, nobody).is_ready().then_some(edge)
}

pin_project! {
    /// A request on its way. In no box of its own: it is large, and the server has a place for it on each connection.
    pub(super) struct ListenerFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State {
        Served { #[pin] answer: <EdgeService as Service<Request<Body>>>::Future },
        Gone { answer: Option<Box<Response<Body>>> },
    }
}

impl Future for ListenerFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().state.project() {
            StateProjection::Served { answer } => ready!(answer.poll(cx))?.map(Body::new),
            #[expect(clippy::expect_used, reason = "the contract of Future")]
            StateProjection::Gone { answer } => *answer.take().expect("polled after completion"),
        }))
    }
}

impl fmt::Debug for ListenerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerService").field("door", &self.0.1).finish_non_exhaustive()
    }
}
