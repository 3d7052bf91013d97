use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    balance::{Balance, Roster, Rules, SlowStart},
    endpoint::Endpoint,
    group::{Group, Told, Upstream, seats},
    options::{Options, Wire},
    resolve::{Resolve, SystemResolver, Target},
    session::SessionKey,
    subset::Subsets,
};
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
    before: Option<Upstream>,
}

impl Upstream {
    /// Starts an upstream with this name.
    pub fn builder(name: impl Into<Arc<str>>) -> UpstreamBuilder {
        UpstreamBuilder {
            name: name.into(),
            endpoints: Vec::new(),
            options: Options::default(),
            rules: Rules::default(),
            session_key: None,
            chance: None,
            resolver: Arc::new(SystemResolver),
            before: None,
        }
    }
}

impl UpstreamBuilder {
    /// Adds an endpoint: `192.0.2.1:80`, `[2001:db8::1]:80` or `orders.svc:80`, or an [`Endpoint`] of which there is more
    /// to say. All addresses of a host name are endpoints; they are asked for at the first request, and every 30 seconds
    /// while there are requests. If there is no answer the last one stays in force.
    pub fn endpoint(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<Endpoint>>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
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

    /// How long connecting may take, for each endpoint that is tried. By default 2 seconds.
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

    /// Who is asked for the addresses of host names. By default the operating system.
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
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
    /// No endpoints, one that is malformed, or one that was refused.
    pub fn build(mut self) -> Result<Upstream, BuildError> {
        let of_before = || Some(self.before.as_ref()?.group().roster.rules().session_key);
        if let Some(key) = self.session_key.or_else(of_before) {
            self.rules.session_key = key;
        }
        let target = |endpoint: Endpoint| Ok((endpoint.address.parse::<Target>()?, Arc::new(endpoint)));
        let targets = self.endpoints.into_iter().map(target).collect::<Result<Box<[_]>, _>>()?;
        if targets.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        for (target, _) in &targets {
            if let Target::Address(address) = target
                && self.options.refuses(*address)
            {
                return Err(BuildError::RefusedEndpoint(*address));
            }
        }
        let before = self.before.filter(|before| *before.group().options == self.options);
        let before = before.as_ref().map(Upstream::group);
        let options = before.map_or_else(|| Arc::new(self.options), |before| Arc::clone(&before.options));
        let common = before.map(|before| Arc::clone(before.roster.common())).unwrap_or_default();
        let told = start(&targets, before.map(|before| &**before));
        let own = before.map(|before| before.roster.plan());
        let own = own.as_ref().map_or(&[][..], |own| &own.seats);
        let seats = seats(own, &targets, &told.found, &options, &common);
        Ok(Upstream::new(Group {
            name: self.name,
            options,
            roster: Arc::new(Roster::new(self.rules, self.chance.unwrap_or_default(), common, seats)),
            named: targets.iter().any(|(target, _)| matches!(target, Target::Name { .. })),
            targets,
            resolver: self.resolver,
            told: ArcSwap::from_pointee(told),
            turn: Semaphore::new(1),
            answers: AtomicU64::new(0),
            used: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
        }))
    }
}

/// What is known before anybody was asked: plain addresses, and what a predecessor knew of the same host names.
fn start(targets: &[(Target, Arc<Endpoint>)], before: Option<&Group>) -> Told {
    let old = before.map(|before| (before.told.load_full(), before));
    let known = |(target, _): &(Target, _)| match target {
        Target::Address(address) => Some(vec![*address]),
        Target::Name { .. } => {
            let (told, before) = old.as_ref()?;
            let at = before.targets.iter().position(|(other, _)| other == target)?;
            told.found.get(at).filter(|found| !found.is_empty()).cloned()
        }
    };
    let found: Vec<_> = targets.iter().map(known).collect();
    let complete = found.iter().all(Option::is_some);
    let asked = complete.then(|| old.and_then(|(told, _)| told.asked).unwrap_or_else(Instant::now));
    Told { found: found.into_iter().map(Option::unwrap_or_default).collect(), asked }
}

impl fmt::Debug for UpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
