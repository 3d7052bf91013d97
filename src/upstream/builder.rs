use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    group::{Group, Live, Upstream, endpoints},
    options::{Balance, Options, Wire},
    resolve::{Resolve, SystemResolver, Target},
};
use crate::chance::Chance;

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
    endpoints: Vec<String>,
    options: Options,
    balance: Balance,
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
            balance: Balance::default(),
            chance: None,
            resolver: Arc::new(SystemResolver),
            before: None,
        }
    }
}

impl UpstreamBuilder {
    /// Adds an endpoint: `192.0.2.1:80`, `[2001:db8::1]:80` or `orders.svc:80`. All addresses of a host name are
    /// endpoints; they are asked for at the first request, and every 30 seconds while there are requests. If there
    /// is no answer the last one stays in force.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Adds endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How requests are given to endpoints. By default one after the other.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = balance;
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

    /// Where chance comes from, for [`Balance::LeastRequest`].
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
    pub fn build(self) -> Result<Upstream, BuildError> {
        let targets = self.endpoints.iter().map(|text| text.parse()).collect::<Result<Box<[Target]>, _>>()?;
        if targets.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        for target in &targets {
            if let Target::Address(address) = target
                && self.options.refuses(*address)
            {
                return Err(BuildError::RefusedEndpoint(*address));
            }
        }
        let before = self.before.filter(|before| *before.group().options == self.options);
        let options =
            before.as_ref().map_or_else(|| Arc::new(self.options), |b| Arc::clone(&b.group().options));
        let live = start(&targets, before.as_ref(), &options);
        Ok(Upstream::new(Group {
            name: self.name,
            options,
            balance: self.balance,
            chance: self.chance.unwrap_or_default(),
            named: targets.iter().any(|target| matches!(target, Target::Name { .. })),
            targets,
            resolver: self.resolver,
            next: AtomicUsize::new(0),
            live: ArcSwap::from_pointee(live),
            turn: Semaphore::new(1),
            answers: AtomicU64::new(0),
            used: AtomicBool::new(false),
            refreshing: AtomicBool::new(false),
        }))
    }
}

/// What is known before anybody was asked: plain addresses, and what a predecessor knew of the same host names.
fn start(targets: &[Target], before: Option<&Upstream>, options: &Arc<Options>) -> Live {
    let old = before.map(|before| (before.group().live.load_full(), before));
    let known = |target: &Target| match target {
        Target::Address(address) => Some(vec![*address]),
        Target::Name { .. } => {
            let (live, before) = old.as_ref()?;
            let at = before.group().targets.iter().position(|other| other == target)?;
            live.found.get(at).filter(|found| !found.is_empty()).cloned()
        }
    };
    let found: Vec<_> = targets.iter().map(known).collect();
    let complete = found.iter().all(Option::is_some);
    let found: Box<[_]> = found.into_iter().map(Option::unwrap_or_default).collect();
    let own: &[_] = old.as_ref().map_or(&[], |(live, _)| &live.endpoints);
    let asked = complete.then(|| old.as_ref().and_then(|(live, _)| live.asked).unwrap_or_else(Instant::now));
    Live { endpoints: endpoints(own, found.iter().flatten().copied(), options), found, asked }
}

impl fmt::Debug for UpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}
