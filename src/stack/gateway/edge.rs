//! What stands before any rule is known, for each listener.
use std::{fmt, net::SocketAddr, sync::Arc};

use http::HeaderName;
use tower_layer::Layer;

#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::rate_limit::{Charge, RateLimit},
    gate::{Gate, GateLayer, Gated},
    head::Head,
    identity::{AssertedHeaders, HEARSAY, PeerAddr, TrustedProxies},
    matching::{Normalize, PathPolicy},
    reject::{Answer, Rescue, RescueLayer},
    routing::router::RouterService,
    telemetry::{
        access_log::AccessLog,
        request_id::{SetRequestId, Trust},
        span::{SpanLayer, Spanned},
    },
    transport::{Connection, ListenerBuilder, ProxyProtocol},
    upstream::HopByHop,
};

use super::backend::RuleService;

/// An address on which requests are taken, and what is done with each of them before any rule is known.
#[derive(Clone)]
#[must_use]
pub struct Listen {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) trusted: TrustedProxies,
    charges: Vec<Charge>,
    pub(super) socket: Socket,
}

/// What is fixed when connections are accepted. A change of it makes a new acceptor for the same socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Socket {
    proxy_protocol: Vec<ipnet::IpNet>,
    uncapped: Vec<ipnet::IpNet>,
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
}

impl Listen {
    /// At this address, trusting nobody.
    pub fn on(name: impl Into<Arc<str>>, address: SocketAddr) -> Self {
        let (trusted, charges, socket) = (TrustedProxies::none(), Vec::new(), Socket::default());
        Self { name: name.into(), address, trusted, charges, socket }
    }

    /// Believes what these peers say of whom they speak for: `X-Forwarded-*`, `Forwarded`, `X-Request-Id`.
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        Self { trusted, ..self }
    }

    /// Adds a limit that counts every request, before any rule is known. It can count by what is known then: the
    /// client's address, a header, a cookie.
    pub fn limit(mut self, limit: impl Into<Charge>) -> Self {
        self.charges.push(limit.into());
        self
    }

    /// Takes the PROXY protocol from these peers.
    pub fn proxy_protocol(mut self, from: impl IntoIterator<Item = ipnet::IpNet>) -> Self {
        self.socket.proxy_protocol = from.into_iter().collect();
        self
    }

    /// Peers that stand for many clients: the cap of one address is not for them.
    pub fn uncapped(mut self, networks: impl IntoIterator<Item = ipnet::IpNet>) -> Self {
        self.socket.uncapped = networks.into_iter().collect();
        self
    }

    /// How many connections there may be. As [`ListenerBuilder::max_connections`] unless told.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.socket.max_connections = Some(connections);
        self
    }

    /// How many connections one address may have. As [`ListenerBuilder::max_connections_per_address`] unless told.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.socket.max_connections_per_address = Some(connections);
        self
    }

    pub(super) fn service(&self, shared: &EdgeParts, routes: RouterService<RuleService>) -> EdgeService {
        let trust = match self.trusted.is_empty() {
            true => Trust::Never,
            false => Trust::Peers(self.trusted.clone()),
        };
        let watched =
            (Connection::new().trusted_proxies(self.trusted.clone()), SetRequestId::new().trust(trust));
        let clean = (HopByHop, (shared.strangers(&self.trusted), Normalize::new().paths(shared.paths)));
        let limits = (!self.charges.is_empty()).then(|| RateLimit::from_iter(self.charges.iter().cloned()));
        let inner = GateLayer::new((shared.watchers(), (clean, limits))).layer(routes);
        RescueLayer::new().layer(GateLayer::new(watched).layer(SpanLayer::new().layer(inner)))
    }
}

impl Socket {
    pub(super) fn builder(&self) -> ListenerBuilder {
        let mut builder = ListenerBuilder::default().uncapped(self.uncapped.iter().copied());
        if !self.proxy_protocol.is_empty() {
            builder =
                builder.proxy_protocol(ProxyProtocol::from_trusted(self.proxy_protocol.iter().copied()));
        }
        if let Some(connections) = self.max_connections {
            builder = builder.max_connections(connections);
        }
        if let Some(connections) = self.max_connections_per_address {
            builder = builder.max_connections_per_address(connections);
        }
        builder
    }
}

/// What all listeners have in common.
#[derive(Debug, Clone)]
pub(super) struct EdgeParts {
    pub(super) asserted: Vec<HeaderName>,
    pub(super) paths: PathPolicy,
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Metrics,
}

#[cfg(feature = "prometheus")]
type Watchers = (AccessLog, Metrics);
#[cfg(not(feature = "prometheus"))]
type Watchers = AccessLog;

impl EdgeParts {
    fn watchers(&self) -> Watchers {
        #[cfg(feature = "prometheus")]
        return (AccessLog::new(), self.metrics.clone());
        #[cfg(not(feature = "prometheus"))]
        return AccessLog::new();
    }

    fn strangers(&self, trusted: &TrustedProxies) -> Strangers {
        let names = self.asserted.iter().cloned();
        Strangers {
            trusted: trusted.clone(),
            of_anyone: AssertedHeaders::new(names.clone()),
            of_strangers: AssertedHeaders::new(names.chain(HEARSAY)),
        }
    }
}

/// Removes what only we may say, and what only trusted proxies may.
#[derive(Debug)]
pub(super) struct Strangers {
    trusted: TrustedProxies,
    of_anyone: AssertedHeaders,
    of_strangers: AssertedHeaders,
}

impl Gate for Strangers {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let is_trusted =
            head.extensions().get::<PeerAddr>().is_some_and(|peer| self.trusted.contains(peer.ip()));
        let names = if is_trusted { &self.of_anyone } else { &self.of_strangers };
        names.strip(head.headers_mut());
        Ok(())
    }
}

type Cleaned = (HopByHop, (Strangers, Normalize));
type Identified = (Connection, SetRequestId);
type Counted = Gated<RouterService<RuleService>, (Watchers, (Cleaned, Option<RateLimit>))>;

/// Everything from the listener to the rule.
pub(super) type EdgeService = Rescue<Gated<Spanned<Counted>, Identified>>;

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
