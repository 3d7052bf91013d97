//! The listener's service: it finds what is in force, and keeps it for as long as the request lasts.
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwapOption;
use http::{Request, Response};
use tower::ServiceExt;
use tower_service::Service;

use super::{edge::EdgeService, snapshot::Snapshot};
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
    /// The service of each listener, those that drain too.
    pub(super) edges: Vec<(Arc<str>, EdgeService)>,
}

/// Serves the requests of one listener by what is in force when they begin.
#[derive(Clone)]
pub(super) struct ListenerService {
    pub(super) current: Arc<ArcSwapOption<InForce>>,
    pub(super) listener: Arc<str>,
}

impl Service<Request<Body>> for ListenerService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let current = self.current.load();
        let mut edges = current.iter().flat_map(|current| &current.edges);
        let edge = edges.find(|(name, _)| *name == self.listener).map(|(_, edge)| edge.clone());
        let Some(edge) = edge else {
            let style = Style::of(&Head::of(&mut request));
            let gone = style.render(Rejection::new(Reason::Unavailable).into()).map(Body::from);
            return Box::pin(std::future::ready(Ok(gone)));
        };
        // Its parts hold what they need of the snapshot: a swap takes nothing from a request that has begun.
        Box::pin(async move { Ok(edge.oneshot(request).await?.map(Body::new)) })
    }
}

impl fmt::Debug for ListenerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerService").field("listener", &self.listener).finish_non_exhaustive()
    }
}
