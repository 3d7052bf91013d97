use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, Uri, header::HOST, uri::Scheme};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::destination::{Called, Destination};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    body::{Body, BoxError},
    head::Head,
    ready::ReadyCall,
    reject::{Reason, Rejection, Style},
    resilience::{breaker::BreakerHandle, fault::FaultHandle},
    routing::{canary::CanaryHandle, split::InvalidSplit},
    stack::{
        Contradiction,
        gateway::Told,
        order::{self, Order},
    },
    upstream::{self, Upstream},
};

/// Calls other services by their names: what stands in the place of tonic's `Channel`, or of a client of hyper's.
///
/// See the [module docs](super). Clones are cheap, and share all state.
#[derive(Clone)]
pub struct Client {
    table: Arc<ArcSwap<Table>>,
    /// The one that is called, whatever a request says.
    only: Option<Arc<str>>,
}

/// Why destinations make no [`Client`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidClient {
    /// What is said of calls cannot be.
    #[error("the calls of `{0}`: {1}")]
    Contradiction(Arc<str>, Contradiction),
    /// Two destinations have this name. Upper and lower case are one.
    #[error("two destinations are called `{0}`")]
    Duplicate(Arc<str>),
    /// There is nothing to be called.
    #[error("a client needs a destination")]
    Empty,
    /// The versions make no split.
    #[error("the versions of `{0}`: {1}")]
    Split(Arc<str>, InvalidSplit),
    /// The upstream cannot be built.
    #[error(transparent)]
    Upstream(#[from] upstream::BuildError),
}

/// What can be called, by names in lower case.
#[derive(Debug, Default)]
struct Table {
    called: HashMap<Box<str>, Arc<Called>>,
    /// If there is one alone, whatever the request calls it.
    only: Option<Arc<Called>>,
    told: Told,
}

impl Client {
    /// A client of one service, which runs at these endpoints: `10.0.0.1:9000`, or `orders.internal:9000`, all of whose
    /// addresses are endpoints. Calls are made as a [`Destination`] says by default.
    ///
    /// # Errors
    ///
    /// No endpoints, or one that is malformed.
    pub fn to<E: Into<upstream::Endpoint>>(
        name: impl Into<Arc<str>>,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Self, InvalidClient> {
        Self::new(Upstream::builder(name).endpoints(endpoints).build()?)
    }

    /// A client of one destination: all that it is asked goes there. What a request names as its host is what that is told.
    ///
    /// # Errors
    ///
    /// Policies that contradict each other.
    pub fn new(destination: impl Into<Destination>) -> Result<Self, InvalidClient> {
        Self::of([destination.into()])
    }

    /// A client of these destinations. A request says by the host in its URI which one it is for, as in
    /// `http://orders/2026/17`; an [`upstream`](Self::upstream) of it is for one.
    ///
    /// # Errors
    ///
    /// No destinations, two of one name, or policies that contradict each other.
    pub fn of(destinations: impl IntoIterator<Item = Destination>) -> Result<Self, InvalidClient> {
        let table = Table::of(destinations)?;
        table.told.start();
        Ok(Self { table: Arc::new(ArcSwap::from_pointee(table)), only: None })
    }

    /// Calls these from now on, by all clones. What has begun ends as it began. A handle for one that is not among them is
    /// answered as a name that is none.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of); then all is as it was.
    pub fn replace(&self, destinations: impl IntoIterator<Item = Destination>) -> Result<(), InvalidClient> {
        let table = Table::of(destinations)?;
        table.told.start();
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Whether there can be a client of these destinations.
    #[cfg(feature = "config")]
    pub(crate) fn check(destinations: impl IntoIterator<Item = Destination>) -> Result<(), InvalidClient> {
        Table::of(destinations).map(drop)
    }

    /// Has these metrics tell of what it calls, what [`replace`](Self::replace) says too, by the names of a gateway's numbers:
    /// endpoints and ejections, retries, hedges and their budgets, breakers, limits, mirrors and canaries; a route is a
    /// destination. Calls are counted by [`ClientLayer::metrics`](super::ClientLayer::metrics). It is to be said once, and
    /// two clients of one upstream would both tell of it.
    #[cfg(feature = "prometheus")]
    #[cfg_attr(docsrs, doc(cfg(feature = "prometheus")))]
    pub fn tell(&self, metrics: &Metrics) {
        let table = Arc::downgrade(&self.table);
        metrics.also(move |samples| {
            if let Some(table) = table.upgrade() {
                table.load().told.numbers(samples);
            }
        });
    }

    /// The circuit breaker of the upstream of this name, if it has one for all of its endpoints: to be looked at, and moved.
    #[must_use]
    pub fn circuit_breaker(&self, upstream: &str) -> Option<BreakerHandle> {
        self.table.load().told.breaker(upstream).cloned()
    }

    /// The canary of the destination of this name, if it has one.
    #[must_use]
    pub fn canary(&self, name: &str) -> Option<CanaryHandle> {
        let table = self.table.load();
        table.told.canary(&table.named(name)?.name.0).cloned()
    }

    /// What makes calls of the destination of this name fail on purpose, if something does.
    #[must_use]
    pub fn fault(&self, name: &str) -> Option<FaultHandle> {
        let table = self.table.load();
        table.told.fault(&table.named(name)?.name.0).cloned()
    }

    /// The client of the destination of this name alone, whatever requests say; `None` if there is none.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<Self> {
        let called = Arc::clone(self.table.load().named(name)?);
        Some(Self { table: Arc::clone(&self.table), only: Some(Arc::clone(&called.name.0)) })
    }

    /// The upstreams behind its destinations, each once, by name: with their endpoints as they are at the moment, and how
    /// often these were [ejected](Upstream::ejections).
    #[must_use]
    pub fn upstreams(&self) -> Vec<Upstream> {
        let mut upstreams = self.table.load().told.upstreams().to_vec();
        upstreams.sort_by(|one, other| one.name().cmp(other.name()));
        upstreams
    }

    /// Calls. It is the same as [`Service::call`] of a clone.
    pub async fn send<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Ok(response) = self.begin(request).await;
        response
    }

    /// What a call passes, outermost first, each with its reason.
    #[must_use]
    pub const fn explain() -> Order {
        order::mesh_client()
    }

    fn begin<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = request.map(Body::new);
        let table = self.table.load();
        match table.find(self.only.as_deref(), request.uri()) {
            Ok(called) => {
                called.address(&mut request);
                let service = called.service.clone();
                ResponseFuture { kind: Kind::Called { future: ReadyCall::new(service, request) } }
            }
            Err(refused) => {
                let answer = refused.render(Style::of(&Head::of(&mut request)));
                ResponseFuture { kind: Kind::Refused { answer: Some(answer.map(Body::from)) } }
            }
        }
    }
}

impl Table {
    fn of(destinations: impl IntoIterator<Item = Destination>) -> Result<Self, InvalidClient> {
        let mut table = Self::default();
        let mut rules = Vec::new();
        for destination in destinations {
            rules.push(destination.as_rule());
            let name = Arc::clone(&destination.name);
            let called = Arc::new(destination.build()?);
            if table.called.insert(name.to_ascii_lowercase().into(), called).is_some() {
                return Err(InvalidClient::Duplicate(name));
            }
        }
        let mut called = table.called.values();
        let first = called.next().ok_or(InvalidClient::Empty)?;
        table.only = called.next().is_none().then(|| Arc::clone(first));
        table.told = Told::of(&rules);
        Ok(table)
    }

    fn named(&self, name: &str) -> Option<&Arc<Called>> {
        // Names are written in lower case as a rule.
        self.called.get(name).or_else(|| self.called.get(name.to_ascii_lowercase().as_str()))
    }

    /// What a request is for.
    fn find(&self, only: Option<&str>, uri: &Uri) -> Result<&Arc<Called>, Rejection> {
        let found = match (only, &self.only) {
            (Some(name), _) => self.named(name),
            (None, Some(only)) => Some(only),
            (None, None) => uri.host().and_then(|host| self.named(host)),
        };
        let called = found.ok_or_else(|| {
            Rejection::new(Reason::Misdirected)
                .detail("the host of the request's URI is no name of a destination")
        })?;
        if uri.scheme() == Some(&Scheme::HTTPS) && !called.is_secure {
            // Never in the clear what was meant to be secret.
            return Err(
                Rejection::new(Reason::NotImplemented).detail("this destination is called without TLS")
            );
        }
        Ok(called)
    }
}

impl Called {
    /// Says in the request whom it is for, unless it does itself.
    fn address(&self, request: &mut Request<Body>) {
        if let Some(host) = &self.host
            && request.uri().authority().is_none()
            && !request.headers().contains_key(HOST)
        {
            request.headers_mut().insert(HOST, host.clone());
        }
        request.extensions_mut().insert(self.name.clone());
    }
}

impl<B> Service<Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    /// Always ready: whether an endpoint has room is known once there is a request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.begin(request)
    }
}

pin_project! {
    /// The future of a [`Client`]. Dropping it takes the call back: the connection or stream of its attempt ends.
    pub struct ResponseFuture {
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind {
        Called { #[pin] future: ReadyCall<super::destination::Service, Request<Body>> },
        Refused { answer: Option<Response<Body>> },
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Called { future } => {
                future.poll(cx).map(|answered| answered.map(|response| response.map(Body::new)))
            }
            KindProjection::Refused { answer } =>
            {
                #[expect(clippy::expect_used, reason = "the contract of Future")]
                Poll::Ready(Ok(answer.take().expect("polled after completion")))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("only", &self.only).field("upstreams", &self.upstreams()).finish()
    }
}
