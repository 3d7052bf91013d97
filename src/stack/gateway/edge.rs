//! What stands before any rule is known, for each listener.
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderName, header::FORWARDED};
use tower_layer::Layer;

#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::{
        Fields, Priorities, Priority,
        address::AddressList,
        concurrency::Concurrency,
        rate_limit::{Charge, RateLimit, SyncRateLimit},
        shed::{Overload, Shed},
    },
    gate::{AsyncGates, Gate, GateLayer, Gated, Gates},
    head::Head,
    identity::{AssertedHeaders, ForwardingHeader, HEARSAY, TrustedProxies},
    matching::{Normalize, PathPolicy},
    reject::{Answer, Rescue, RescueLayer},
    resilience::fault,
    telemetry::{
        access_log::AccessLog,
        request_id::{SetRequestId, Trust},
        span::RequestSpan,
        usage::UsageMeter,
    },
    transport::{CertificateHosts, Connection, ListenerBuilder, MinimumRate, ProxyProtocol, Rates},
    upstream::HopByHop,
};

use super::{
    direction::Direction, entered::Entered, limits::Limits, routes::Routes, service::Door, snapshot::Way,
    spoken::Spoken,
};
#[cfg(feature = "tls")]
use crate::tls::{Credentials, ServerTls};

/// An address on which requests are taken, and what is done with each of them before any rule is known.
#[derive(Clone)]
#[must_use]
pub struct Listen {
    pub(super) name: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) direction: Direction,
    pub(super) trusted: TrustedProxies,
    pub(super) addresses: Option<AddressList>,
    pub(super) limits: Limits,
    pub(super) concurrency: Vec<Concurrency>,
    pub(super) socket: Socket,
}

/// What is fixed when connections are accepted. A change of it makes a new acceptor for the same socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Socket {
    proxy_protocol: Vec<ipnet::IpNet>,
    uncapped: Vec<ipnet::IpNet>,
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
    pub(super) max_age: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: Option<ServerTls>,
    pub(super) rates: Rates,
    pub(super) spoken: Spoken,
    transparent: bool,
}

impl Listen {
    /// How long a client may take to say what tells HTTP from the rest, where [both are taken](Self::detect) and unless told
    /// otherwise.
    pub const DETECT: Duration = Duration::from_secs(5);

    /// At this address, trusting nobody.
    pub fn on(name: impl Into<Arc<str>>, address: SocketAddr) -> Self {
        Self {
            name: name.into(),
            address,
            direction: Direction::default(),
            trusted: TrustedProxies::none(),
            addresses: None,
            limits: Limits::default(),
            concurrency: Vec::new(),
            socket: Socket::default(),
        }
    }

    /// Which way its requests go, and so by which rules. [`Direction::Through`] unless told.
    pub fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Believes what these peers say of whom they speak for: `X-Forwarded-*`, `Forwarded`, `X-Request-Id`. If they
    /// [write one form](TrustedProxies::header), the other is taken out of what they send: they let it through.
    pub fn trusted_proxies(self, trusted: TrustedProxies) -> Self {
        Self { trusted, ..self }
    }

    /// Lets in, or keeps out, by the client's address, before anything counts or limits.
    pub fn addresses(self, list: AddressList) -> Self {
        Self { addresses: Some(list), ..self }
    }

    /// How fast heads must come at least; [`MinimumRate::default`] unless told. As
    /// [`Server::min_head_rate`](crate::transport::Server::min_head_rate).
    pub fn min_head_rate(mut self, rate: impl Into<Option<MinimumRate>>) -> Self {
        self.socket.rates.head = rate.into();
        self
    }

    /// How fast requests' bodies must come at least; [`MinimumRate::default`] unless told. As
    /// [`Server::min_body_rate`](crate::transport::Server::min_body_rate).
    pub fn min_body_rate(mut self, rate: impl Into<Option<MinimumRate>>) -> Self {
        self.socket.rates.body = rate.into();
        self
    }

    /// How fast responses must be read at least; [`MinimumRate::default`] unless told. As
    /// [`Server::min_response_rate`](crate::transport::Server::min_response_rate).
    pub fn min_response_rate(mut self, rate: impl Into<Option<MinimumRate>>) -> Self {
        self.socket.rates.response = rate.into();
        self
    }

    /// Adds a limit that counts every request, before any rule is known. It can count by what is known then: the
    /// client's address, a header, a cookie. A rule that names the same limit charges the account once more.
    pub fn limit(mut self, limit: impl Into<Charge>) -> Self {
        self.limits.charges.push(limit.into());
        self
    }

    /// When responses tell of these limits, in `RateLimit` and `RateLimit-Policy`; on refusal unless told.
    pub fn limit_fields(mut self, fields: Fields) -> Self {
        self.limits.fields = fields;
        self
    }

    /// Whether the older `X-RateLimit-*` are told wherever those are. `false` unless told.
    pub fn legacy_limit_fields(mut self, legacy: bool) -> Self {
        self.limits.legacy = legacy;
        self
    }

    /// Lets no more requests be in flight than this, before any rule is known. Nobody waits here: what finds no place is
    /// refused at once.
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Takes connections within TLS. Where plain text is [taken too](ServerTls::permissive) and something else than HTTP, a client that
    /// says nothing for as long as [`DETECT`](Self::DETECT), or as [detection](Self::detect_within) has, speaks plain text, unless
    /// [told](ServerTls::plain_after). A host that the certificate is not for, which the client was shown, is answered 421 (RFC 9110
    /// section 15.5.20), but for trusted proxies, where the certificate has no DNS names, and at an
    /// [inbound](Direction::Inbound) listener that requires certificates, whose callers know it by its identity.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.socket.tls = Some(tls);
        self
    }

    /// Takes connections that carry something else than HTTP, which [`TcpRoute`](super::TcpRoute)s take to upstreams. Its list of
    /// addresses, caps, PROXY protocol and TLS are for them too. Within TLS no protocol is agreed on (ALPN).
    pub fn tcp(mut self) -> Self {
        self.socket.spoken = Spoken::Tcp;
        self
    }

    /// Takes connections that carry HTTP and ones that carry something else, told apart by their first bytes. A client that says too
    /// little for [`DETECT`](Self::DETECT) speaks a protocol whose server begins.
    pub fn detect(self) -> Self {
        self.detect_within(Self::DETECT)
    }

    /// As [`detect`](Self::detect), with another time for what the client has to say.
    pub fn detect_within(mut self, patience: Duration) -> Self {
        self.socket.spoken = Spoken::Detect(patience);
        self
    }

    /// Takes connections that are redirected to it and were meant for others, on Linux, as
    /// [`ListenerBuilder::transparent`] says. Requests and [`TcpRoute`](super::TcpRoute)s are told for whom.
    pub fn transparent(mut self, transparent: bool) -> Self {
        self.socket.transparent = transparent;
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

    /// The age at which a connection ends, with the requests that are in flight. No bound unless told. As
    /// [`Server::max_connection_age`](crate::transport::Server::max_connection_age).
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.socket.max_age = Some(age);
        self
    }

    /// How many connections one address may have. As [`ListenerBuilder::max_connections_per_address`] unless told.
    pub fn max_connections_per_address(mut self, connections: usize) -> Self {
        self.socket.max_connections_per_address = Some(connections);
        self
    }

    pub(super) fn door(&self) -> Door {
        Door { listener: Arc::clone(&self.name), direction: self.direction }
    }

    /// Whether nobody gets in whose certificate was not verified.
    pub(super) fn asks_for_certificates(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.socket.tls.as_ref().is_some_and(ServerTls::requires_certificates);
        #[cfg(not(feature = "tls"))]
        return false;
    }

    /// Whom handshakes wait for: nothing is known of them yet.
    #[cfg(feature = "tls")]
    pub(super) fn awaited(&self) -> Option<&Credentials> {
        self.socket.tls.as_ref()?.awaited()
    }

    pub(super) fn service(&self, shared: &EdgeParts, way: &Way) -> EdgeService {
        let trust = match self.direction {
            // Who calls is of the same mesh, and so is what it calls a request.
            Direction::Inbound => Trust::Identified(self.trusted.clone()),
            _ if self.trusted.is_empty() => Trust::Never,
            _ => Trust::Peers(self.trusted.clone()),
        };
        let connection = Connection::new().trusted_proxies(self.trusted.clone());
        let entered = way.filters.then(|| Entered::by(self));
        let known = ((connection, entered), (SetRequestId::new().trust(trust), RequestSpan));
        let clean = (HopByHop, (self.strangers(shared, &way.asserted), Normalize::new().paths(shared.paths)));
        let (at_once, waiting) = self.bounds();
        let entrance = (self.addresses.clone(), at_once);
        let gates = (known, (shared.watchers(), (shared.shed(&self.trusted), (clean, entrance))));
        let routes = Routes::behind(waiting, way.routes.clone());
        RescueLayer::new().layer(GateLayer::new(gates).layer(routes))
    }

    /// A sidecar is asked by the names that callers have for its service, which its certificate need not say: they know it by its
    /// identity.
    fn strangers(&self, shared: &EdgeParts, asserted: &AssertedHeaders) -> Strangers {
        let names = asserted.names().iter().cloned();
        let unread = |name: &HeaderName| match self.trusted.forwarding_header() {
            ForwardingHeader::Forwarded => *name != FORWARDED,
            ForwardingHeader::XForwarded => *name == FORWARDED,
            _ => false,
        };
        let any_host = self.direction == Direction::Inbound && self.asks_for_certificates();
        let priority = shared.overload.as_ref().and_then(|(_, priorities)| priorities.header_name());
        Strangers {
            trusted: self.trusted.clone(),
            hosts: (!any_host).then(|| CertificateHosts::new().trusted_proxies(self.trusted.clone())),
            of_anyone: AssertedHeaders::new(names.clone().chain(HEARSAY.into_iter().filter(unread))),
            of_strangers: AssertedHeaders::new(
                names.chain(HEARSAY).chain(priority.cloned()).chain(fault::HEADERS),
            ),
        }
    }

    /// What bounds how often and how many: by gates that decide at once, but where a limit has requests wait.
    fn bounds(&self) -> (AtOnce, AsyncGates) {
        let in_flight = self.concurrency.iter().cloned();
        let limits = self.limits.clone().gate();
        match limits.clone().map(RateLimit::sync).transpose() {
            Ok(limits) => {
                let in_flight = in_flight.fold(Gates::new(), Gates::with);
                ((limits, (!in_flight.is_empty()).then_some(in_flight)), AsyncGates::new())
            }
            Err(_) => {
                let limits = limits.into_iter().fold(AsyncGates::new(), AsyncGates::with_async);
                ((None, None), in_flight.fold(limits, AsyncGates::with))
            }
        }
    }
}

impl Socket {
    pub(super) fn builder(&self) -> ListenerBuilder {
        let mut builder = ListenerBuilder::default().transparent(self.transparent);
        builder = builder.uncapped(self.uncapped.iter().copied());
        if !self.proxy_protocol.is_empty() {
            builder =
                builder.proxy_protocol(ProxyProtocol::from_trusted(self.proxy_protocol.iter().copied()));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            builder = builder.tls(self.spoken.within(tls.clone()));
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
    pub(super) paths: PathPolicy,
    pub(super) usage: Option<UsageMeter>,
    pub(super) overload: Option<(Overload, Priorities)>,
    #[cfg(feature = "prometheus")]
    pub(super) metrics: Metrics,
}

#[cfg(feature = "prometheus")]
type Watchers = ((AccessLog, Metrics), Option<UsageMeter>);
#[cfg(not(feature = "prometheus"))]
type Watchers = (AccessLog, Option<UsageMeter>);

impl EdgeParts {
    fn watchers(&self) -> Watchers {
        #[cfg(feature = "prometheus")]
        return ((AccessLog::new(), self.metrics.clone()), self.usage.clone());
        #[cfg(not(feature = "prometheus"))]
        return (AccessLog::new(), self.usage.clone());
    }

    /// Refuses for any rule. What is known only inside of a rule is not refused before it is known.
    fn shed(&self, trusted: &TrustedProxies) -> Option<Shed> {
        let (overload, priorities) = self.overload.as_ref()?;
        let known = priorities.clone().base(Priority::Critical).believing(trusted.clone());
        Some(Shed::new(overload).priorities(known))
    }
}

/// Removes what only we may say, and what only trusted proxies may; refuses strangers' requests for hosts that the connection's
/// certificate is not for.
#[derive(Debug)]
pub(super) struct Strangers {
    trusted: TrustedProxies,
    /// None where any may be asked for.
    hosts: Option<CertificateHosts>,
    of_anyone: AssertedHeaders,
    of_strangers: AssertedHeaders,
}

impl Gate for Strangers {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if let Some(hosts) = &self.hosts {
            hosts.check(head)?;
        }
        let names = if self.trusted.trusts(head.extensions()) { &self.of_anyone } else { &self.of_strangers };
        names.strip(head.headers_mut());
        Ok(())
    }
}

type Known = ((Connection, Option<Entered>), (SetRequestId, RequestSpan));
type Cleaned = (HopByHop, (Strangers, Normalize));
type AtOnce = (Option<SyncRateLimit>, Option<Gates>);
type Entrance = (Option<AddressList>, AtOnce);
type EdgeGates = (Known, (Watchers, (Option<Shed>, (Cleaned, Entrance))));

/// Everything from the listener to the rule.
pub(super) type EdgeService = Rescue<Gated<Routes, EdgeGates>>;

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
