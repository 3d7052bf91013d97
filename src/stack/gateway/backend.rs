//! From a rule's policies to its upstreams.
use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    guarded::{Guarded, Guards},
    served::Served,
};
#[cfg(feature = "jwt")]
use crate::authn::outbound::{Outbound, OutboundLayer, TokenSource};
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    body::{Body, Tapped},
    gate::{AsyncGated, AsyncGates, GateLayer, Gated},
    reject::{Reason, Rejection},
    resilience::{breaker::BreakerLayer, budget::Budget, deadline::TellDeadline},
    upstream::{Proxy, Session, Upstream},
};

/// An upstream of a rule, and with what credentials it is called.
///
/// ```
/// use portcullis::{stack::gateway::{Backend, Rule}, upstream::{Proxy, Upstream}};
///
/// let stock = Proxy::new(Upstream::builder("stock").endpoint("127.0.0.1:9001").build()?);
/// # #[cfg(feature = "jwt")] {
/// use portcullis::authn::outbound::TokenSource;
///
/// let token = TokenSource::file("/var/run/secrets/tokens/stock");
/// let rule = Rule::new("stock").backend(Backend::new(stock).credentials(token), 1);
/// # let _ = rule; }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Backend {
    pub(super) proxy: Proxy,
    #[cfg(feature = "jwt")]
    pub(super) credentials: OutboundLayer,
    pub(super) guards: Guards,
    pub(super) retry_budget: Option<Budget>,
}

impl Backend {
    /// This upstream, without credentials of ours.
    pub const fn new(proxy: Proxy) -> Self {
        Self {
            proxy,
            #[cfg(feature = "jwt")]
            credentials: OutboundLayer::disabled(),
            guards: Guards { breaker: None, concurrency: Vec::new(), success_rate: None },
            retry_budget: None,
        }
    }

    /// Lets no more requests be in flight to it than this. Several are asked [in one order](Concurrency::in_one_order). One
    /// with a queue does not stand in [rules](super::Rule::concurrency) too.
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.guards.concurrency.push(limit);
        self
    }

    /// Asks it less the more of its answers are failures.
    pub fn success_rate(mut self, rate: SuccessRate) -> Self {
        self.guards.success_rate = Some(rate);
        self
    }

    /// Does not ask it while it keeps failing: each attempt of all rules is judged by one breaker, outside of limits.
    pub fn circuit_breaker(mut self, breaker: BreakerLayer) -> Self {
        self.guards.breaker = Some(breaker);
        self
    }

    /// Binds second attempts of all rules that share this budget. Else each rule that [retries](super::Rule::retry) or
    /// [hedges](super::Rule::hedge) has one of its own.
    pub fn retry_budget(self, budget: Budget) -> Self {
        Self { retry_budget: Some(budget), ..self }
    }

    /// Puts a token of this source on each request. Where that needs the caller's token, the rule's
    /// [providers](super::Rule::authenticate) keep it.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn credentials(self, source: TokenSource) -> Self {
        Self { credentials: OutboundLayer::new(source), ..self }
    }

    pub(in crate::stack) fn upstream(&self) -> &Upstream {
        self.proxy.upstream()
    }

    /// What binds second attempts at it, of whoever shares it.
    pub(in crate::stack) const fn budget(&self) -> Option<&Budget> {
        self.retry_budget.as_ref()
    }

    /// What sends to it. What its pool sends twice is bound like other second attempts: by its own budget, or else by `others`.
    pub(super) fn proxy(&self, others: Option<Budget>) -> Proxy {
        let proxy = self.proxy.clone();
        match self.budget().cloned().or(others) {
            Some(budget) => proxy.bind_resends(move || budget.spend(Instant::now())),
            None => proxy,
        }
    }

    /// The upstream behind its limits, for calls of our own.
    pub(in crate::stack) fn direct(
        &self,
        told: TellDeadline,
        attempted: Attempted,
        session: Option<&Session>,
        others: Option<Budget>,
    ) -> Guarded {
        let proxy = session.into_iter().cloned().fold(self.proxy(others).direct(), Proxy::session);
        let sender = self.sender(proxy);
        self.guards.before(GateLayer::new((told, attempted)).layer(sender))
    }

    pub(super) fn needs_caller(&self) -> bool {
        #[cfg(feature = "jwt")]
        return self.credentials.source().is_some_and(TokenSource::needs_caller);
        #[cfg(not(feature = "jwt"))]
        return false;
    }

    /// What sends, when the proxy has been told what it needs to know.
    pub(super) fn sender(&self, proxy: Proxy) -> Sender {
        #[cfg(feature = "jwt")]
        return self.credentials.layer(proxy);
        #[cfg(not(feature = "jwt"))]
        return proxy;
    }
}

impl From<Proxy> for Backend {
    fn from(proxy: Proxy) -> Self {
        Self::new(proxy)
    }
}

impl From<Upstream> for Backend {
    fn from(upstream: Upstream) -> Self {
        Self::new(Proxy::new(upstream))
    }
}

#[cfg(feature = "jwt")]
pub(super) type Sender = Outbound<Proxy>;
#[cfg(not(feature = "jwt"))]
pub(super) type Sender = Proxy;

/// What counts attempts, of a mesh client that counts.
#[cfg(feature = "prometheus")]
pub(in crate::stack) type Attempted = Option<crate::telemetry::metrics::Attempts>;
#[cfg(not(feature = "prometheus"))]
pub(in crate::stack) type Attempted = Option<crate::telemetry::Witness>;

/// What sends, once the upstream is told how long it has.
pub(super) type Told = Gated<Sender, (TellDeadline, Attempted)>;
/// What a rule does with its requests. What fails inside becomes an answer before any gate sees it.
pub(super) type RuleService = Tapped<AsyncGated<Served<Infallible>, AsyncGates>>;

/// The upstream of a rule that has none, because its gates answer everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nowhere;

impl Service<Request<Body>> for Nowhere {
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Ready<Result<Response<Body>, Rejection>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Err(Rejection::new(Reason::NoEndpoint).detail("the rule has no upstream")))
    }
}

/// The upstreams of these rules, each once.
pub(super) fn upstreams(rules: &[super::rule::Rule]) -> Vec<Upstream> {
    let mut upstreams: Vec<Upstream> = Vec::new();
    for backend in rules.iter().flat_map(super::rule::Rule::upstreams) {
        let proxy = &backend.proxy;
        if !upstreams.iter().any(|known| known.name() == proxy.upstream().name()) {
            upstreams.push(proxy.upstream().clone());
        }
    }
    upstreams
}
