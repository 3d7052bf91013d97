use std::{fmt, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use thiserror::Error;

#[cfg(feature = "tls")]
use super::secure::Secure;
use super::{
    ahead::Ahead,
    balance::{Balance, Roster, Rules, Seat, SlowStart},
    beside::Beside,
    elsewhere::Elsewhere,
    endpoint::Endpoint,
    group::{Group, Place, Upstream, seats},
    health::{self, Checks},
    options::{KeepAlive, Options, Wire},
    outlier::{self, Watch},
    resolve::{Resolve, SystemResolver, Target},
    session::SessionKey,
    source::{EndpointSet, EndpointSource, Fixed, Targets},
    subset::Subsets,
};
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::{chance::Chance, ratio::Ratio, trip};

/// Why an [`Upstream`] cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// It has no endpoints.
    #[error("an upstream needs at least one endpoint")]
    NoEndpoints,
    /// An endpoint is no `address:port` and no `host:port`.
    #[error(
        "{0:?} is not an endpoint: it must be an IP address or a host name, a colon, and a port other than 0"
    )]
    InvalidEndpoint(String),
    /// An endpoint is an address that was refused, such as the admin address.
    #[error("{0} must not be an upstream's endpoint")]
    RefusedEndpoint(SocketAddr),
    /// It has both endpoints of its own and a source that tells them.
    #[error("an upstream has endpoints, or a source that tells them: not both")]
    TwoSources,
}

/// Builds an [`Upstream`].
#[must_use]
pub struct UpstreamBuilder {
    name: Arc<str>,
    endpoints: Vec<Endpoint>,
    options: Options,
    rules: Rules,
    session_key: Option<SessionKey>,
    chance: Option<Chance>,
    resolver: Arc<dyn Resolve>,
    source: Option<Arc<dyn EndpointSource>>,
    health_check: Option<health::Policy>,
    outlier_detection: Option<outlier::Policy>,
    preconnect: bool,
    passes_through: bool,
    before: Option<Upstream>,
}

impl Upstream {
    /// Starts an upstream with this name.
    pub fn builder(name: impl Into<Arc<str>>) -> UpstreamBuilder {
        UpstreamBuilder::of(name.into(), Options::default())
    }
}

impl UpstreamBuilder {
    pub(super) fn of(name: Arc<str>, options: Options) -> Self {
        Self {
            name,
            endpoints: Vec::new(),
            options,
            rules: Rules::default(),
            session_key: None,
            chance: None,
            resolver: Arc::new(SystemResolver),
            source: None,
            health_check: None,
            outlier_detection: None,
            preconnect: false,
            passes_through: false,
            before: None,
        }
    }

    /// Has no endpoints: each request goes to the host that it asks for, at port 80 unless it says another, or where its connection
    /// was going before it [was redirected](crate::identity::OriginalDestination); up to 1024 hosts
    /// keep their connections. [Refuse](Self::refuse) the addresses at which requests come in: they would go round for ever.
    pub fn pass_through(self) -> Self {
        Self { passes_through: true, ..self }
    }

    /// Adds an endpoint: `192.0.2.1:80`, `[2001:db8::1]:80` or `orders.svc:80`, or an [`Endpoint`] of which there is more
    /// to say. All addresses of a host name are endpoints; they are asked for at the first request, which waits for them for 5
    /// seconds at most, and again when they are good no longer, up to a tenth sooner by chance. If there is no answer the
    /// last one stays in force, and they are asked for again after a second, growing to 5.
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<Endpoint>>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// Learns the endpoints from this source, in place of ones that are given here. The first requests wait for its first
    /// word, 5 seconds at most. What it told last stays in force as long as it tells nothing else: an error changes nothing,
    /// and a set without endpoints is taken for one unless it [says](super::EndpointSet::none) that it is certain.
    pub fn source(mut self, source: impl EndpointSource) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Asks endpoints how they are, and sends nothing to those that are not well. By default nobody is asked.
    pub fn health_check(mut self, policy: health::Policy) -> Self {
        self.health_check = Some(policy);
        self
    }

    /// Leaves endpoints out for what becomes of the requests to them. By default nobody is left out.
    pub fn outlier_detection(mut self, policy: outlier::Policy) -> Self {
        self.outlier_detection = Some(policy);
        self
    }

    /// Connects to each endpoint before there is a request for it. One that is new beside others takes no requests before
    /// there is a connection to it, or it is known that none comes about; [`warm`](Upstream::warm) waits for the first ones. A
    /// connection of HTTP/1 for which there is no request closes after the [idle timeout](Self::idle_timeout). By default the
    /// first request connects.
    pub fn preconnect(mut self, preconnect: bool) -> Self {
        self.preconnect = preconnect;
        self
    }

    /// How requests are given to endpoints. By default one after the other.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.rules.balance = balance;
        self
    }

    /// Where we stand: endpoints of this zone are preferred, as far as they bear it. They get every request if they are
    /// their zone's part of the weight that takes requests, with the zones taken to have as many callers each, and less if
    /// they are less. Balancers by key do not look at zones: the same key must go to the same endpoint from everywhere. By
    /// default all zones are one.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.rules.zone = Some(zone.into());
        self
    }

    /// Of a priority in which less than this share of the endpoints take requests, all are given some, those that do not
    /// take them too: the few would break down under what all can bear, and it is likely that the checks are wrong. Not as
    /// long as other priorities bear it. By default 50%; [`Ratio::NEVER`] turns it off, and requests for which there is no
    /// endpoint are refused.
    pub fn panic_threshold(mut self, threshold: Ratio) -> Self {
        self.rules.panic_threshold = threshold;
        self
    }

    /// Gives new endpoints more and more, beside those that were there. By default all at once. It does not concern
    /// balancers by key.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.rules.slow_start = Some(slow_start);
        self
    }

    /// By what requests choose among endpoints by their labels, beside [`Upstream::subset`], and what becomes of those for
    /// which there is none. By default by nothing, and these are refused.
    pub fn subsets(mut self, subsets: Subsets) -> Self {
        self.rules.subsets = subsets;
        self
    }

    /// The secret under which [sessions](super::Session) name its endpoints. By default the one of the upstream that it
    /// [inherits](Self::inherit) from, or else a new one that nobody knows.
    pub fn session_key(mut self, key: SessionKey) -> Self {
        self.session_key = Some(key);
        self
    }

    /// Gives each endpoint a circuit breaker of its own, which opens and closes as `policy` says. While one is open its endpoint
    /// is [withheld](super::Withheld::Open), and when its wait is over one request after the other tries it. None unless told.
    ///
    /// What each request comes to is judged at the end of its body, by
    /// [`Outcome::judgement`](crate::outcome::Outcome::judgement); one that a timeout outside has cut off is a failure if its
    /// [`Deadline`](crate::context::Deadline) says so.
    pub fn circuit_breaker(mut self, policy: trip::Policy) -> Self {
        self.options.breaker = Some(policy);
        self
    }

    /// Which version of HTTP is spoken. By default HTTP/1.1, and HTTP/2 for gRPC.
    pub fn wire(mut self, wire: Wire) -> Self {
        self.options.wire = wire;
        self
    }

    /// Speaks to endpoints within TLS, and never in plain text. Who a server is is found out as `tls` says: by
    /// [the host](crate::tls::ServerId::Host) of its endpoint, unless told; an endpoint that is an address must have that in its
    /// certificate. ALPN offers the version of HTTP that is [spoken](Self::wire). A connection takes no further request
    /// when the server's certificate has expired.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(mut self, tls: &ClientTls) -> Self {
        self.options.secure = Some(Secure::new(tls));
        self
    }

    /// How long connecting may take, and as long again the handshake of TLS, for each endpoint that is tried. By default 2 seconds. After 250 ms the next is tried
    /// beside it.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long an HTTP/1 connection waits for its next request. It must be shorter than the upstream's own
    /// keep-alive time, or requests are sent on connections that are just being closed. By default 4 seconds; an
    /// upstream that says less in `Keep-Alive: timeout` is believed.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout = timeout;
        self
    }

    /// How long an HTTP/2 connection without streams stays open. By default 60 seconds.
    pub fn http2_idle_timeout(mut self, timeout: Duration) -> Self {
        self.options.idle_timeout_http2 = timeout;
        self
    }

    /// How many HTTP/1 connections wait for requests, for each endpoint. By default 128; 0 turns reuse off.
    pub fn max_idle(mut self, max: usize) -> Self {
        self.options.max_idle = max;
        self
    }

    /// How many connections are open, for each endpoint. A request that would need one more goes to another
    /// endpoint, or else is refused. By default 1024.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = max;
        self
    }

    /// How many streams an HTTP/2 connection carries at a time, if its server allows more. One that would be too many goes
    /// to another connection. By default as many as the server allows.
    pub fn max_streams(mut self, max: NonZeroUsize) -> Self {
        self.options.max_streams = max.get();
        self
    }

    /// How old a connection becomes: then it takes no further request and closes once those that it has are done. Up to a
    /// tenth less by chance, so that connections that were made together do not go together. It lets new endpoints behind
    /// one address have their part, and follows a name server behind the back of pools. By default without bound.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.options.max_age = Some(age);
        self
    }

    /// Asks the peer of an HTTP/2 connection on which nothing was heard for `interval` whether it is still there (RFC 9113
    /// section 6.7), as long as there are streams on it, and closes it if there is no answer for `timeout`. Servers of gRPC
    /// take pings more often than every 5 minutes for an attack unless told otherwise. By default nobody is asked.
    pub fn http2_keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.options.keep_alive = Some(KeepAlive { interval, timeout });
        self
    }

    /// Refuses this address as an endpoint: the admin address, an own listener. It is compared with each address
    /// that a host name has, too.
    pub fn refuse(mut self, address: SocketAddr) -> Self {
        self.options.refused.push(address);
        self
    }

    /// Where chance comes from, for picks that are made by it.
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = Some(chance);
        self
    }

    /// Who is asked for the addresses of host names, those that a source tells too. By default the operating system, every 30
    /// seconds: it does not tell how long they are good.
    pub fn resolver(self, resolver: impl Resolve) -> Self {
        self.shared_resolver(Arc::new(resolver))
    }

    pub(super) fn shared_resolver(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    /// Takes over the endpoints that `before` has in common with this one, with their connections and their load, if
    /// the connections are configured alike. For a reload of the configuration.
    pub fn inherit(mut self, before: &Upstream) -> Self {
        self.before = Some(before.clone());
        self
    }

    /// Builds it. Nothing is connected or asked for yet.
    ///
    /// # Errors
    ///
    /// No endpoints, one that is malformed, or one that was refused; both endpoints and a source.
    pub fn build(mut self) -> Result<Upstream, BuildError> {
        let of_before = || Some(self.before.as_ref()?.group().roster.rules().session_key);
        if let Some(key) = self.session_key.or_else(of_before) {
            self.rules.session_key = key;
        }
        let target = |endpoint: Endpoint| Ok((endpoint.address.parse::<Target>()?, Arc::new(endpoint)));
        let targets = self.endpoints.into_iter().map(target).collect::<Result<Targets, _>>()?;
        match (&self.source, &*targets) {
            (None, []) if !self.passes_through => return Err(BuildError::NoEndpoints),
            (Some(_), [_, ..]) => return Err(BuildError::TwoSources),
            _ => {}
        }
        for (target, _) in &*targets {
            if let Target::Address(address) = target
                && self.options.refuses(*address)
            {
                return Err(BuildError::RefusedEndpoint(*address));
            }
        }
        let before = self.before.filter(|before| *before.group().options == self.options);
        let before = before.as_ref().map(Upstream::group);
        let options = before.map_or_else(|| Arc::new(self.options), |before| Arc::clone(&before.options));
        let of_before = || before.and_then(|before| before.elsewhere.clone());
        let new = || {
            Arc::new(Elsewhere::new(
                Arc::clone(&self.name),
                Options::clone(&options),
                Arc::clone(&self.resolver),
            ))
        };
        let elsewhere = self.passes_through.then(|| of_before().unwrap_or_else(new));
        let common = before.map(|before| Arc::clone(before.roster.common())).unwrap_or_default();
        let own = before.map(|before| before.roster.plan());
        let own = own.as_ref().map_or(&[][..], |own| &own.seats);
        let (places, source) = match self.source {
            // What a predecessor knew stands until this one's source has told something.
            Some(source) => (own.iter().map(Seat::place).collect(), Some(source)),
            None => start(&targets, own),
        };
        let chance = self.chance.unwrap_or_default();
        let seats = seats(own, &places, &options, &common);
        let judge = |policy| Arc::new(Watch::new(Arc::clone(&self.name), policy, chance.clone()));
        let ask = |policy| Arc::new(Checks::new(Arc::clone(&self.name), policy, chance.clone()));
        let beside = Beside::new(
            self.outlier_detection.map(judge),
            self.health_check.map(ask),
            self.preconnect.then(|| Arc::new(Ahead::new())),
            source.map(|source| (source, self.resolver)),
            chance.clone(),
        );
        let roster = Arc::new(Roster::new(self.rules, chance, common, seats));
        Ok(Upstream::new(Group { name: self.name, options, roster, beside, elsewhere }))
    }
}

/// What is known before anybody was asked: plain addresses, and what a predecessor knew of the same host names; nothing as
/// long as it is not all. And who tells the rest.
fn start(targets: &Targets, own: &[Seat]) -> (Vec<Place>, Option<Arc<dyn EndpointSource>>) {
    let found = |(target, endpoint): &(Target, Arc<Endpoint>)| -> Vec<Place> {
        match target {
            Target::Address(address) => vec![(*address, Arc::clone(endpoint))],
            Target::Name { .. } => {
                let same = own.iter().filter(|seat| seat.endpoint.address == endpoint.address);
                same.map(|seat| (seat.member.address(), Arc::clone(endpoint))).collect()
            }
        }
    };
    let found: Vec<_> = targets.iter().map(found).collect();
    let complete = found.iter().all(|places| !places.is_empty());
    let places = if complete { found.concat() } else { Vec::new() };
    if targets.iter().all(|(target, _)| matches!(target, Target::Address(_))) {
        return (places, None);
    }
    let set = EndpointSet::new(targets.iter().map(|(_, endpoint)| Endpoint::clone(endpoint)));
    (places, Some(Arc::new(Fixed(set))))
}

impl fmt::Debug for UpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
