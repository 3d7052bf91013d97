use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use super::{
    balance::{Tried, pick},
    endpoint::Endpoint,
    options::{Balance, Options},
    resolve::{Resolve, Target},
};
use crate::{
    attempt::Earlier,
    chance::Chance,
    reject::{Reason, Rejection},
};

/// How long a host name's addresses are used before they are asked for again.
const FRESH: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const LOOKUP: Duration = Duration::from_secs(5);

/// A named group of endpoints that serve the same: where a [`Proxy`](super::Proxy) sends to. Clones share all state.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Upstream(Arc<Group>);

pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) options: Arc<Options>,
    pub(super) balance: Balance,
    pub(super) chance: Chance,
    pub(super) targets: Box<[Target]>,
    /// Whether there are host names among them.
    pub(super) named: bool,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) next: AtomicUsize,
    pub(super) live: ArcSwap<Live>,
    /// Who holds it asks for addresses; the others wait for that answer.
    pub(super) turn: Semaphore,
    pub(super) answers: AtomicU64,
    /// Whether there was a request since addresses were last asked for.
    pub(super) used: AtomicBool,
    pub(super) refreshing: AtomicBool,
}

/// The endpoints as they are now.
#[derive(Default)]
pub(super) struct Live {
    pub(super) endpoints: Box<[Arc<Endpoint>]>,
    /// For each target its addresses, as last heard.
    pub(super) found: Box<[Vec<SocketAddr>]>,
    /// When names were last asked for; `None`: not yet with success.
    pub(super) asked: Option<Instant>,
}

/// One endpoint as it is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// Requests whose response body has not ended yet, and tunnels.
    pub in_flight: usize,
    /// Connections open, those of tunnels too.
    pub connections: usize,
    /// HTTP/1 connections that wait for a request.
    pub idle: usize,
}

impl Upstream {
    pub(super) fn new(group: Group) -> Self {
        Self(Arc::new(group))
    }

    /// Its name, for people, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its endpoints as they are at the moment. Those behind a host name are there once it was asked for.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let status = |endpoint: &Arc<Endpoint>| EndpointStatus {
            address: endpoint.address(),
            in_flight: endpoint.load(),
            connections: endpoint.open(),
            idle: endpoint.idle(),
        };
        self.0.live.load().endpoints.iter().map(status).collect()
    }

    /// Asks for the addresses of its host names now, so that the first request need not wait for them.
    ///
    /// # Errors
    ///
    /// [`Reason::NoEndpoint`] if there is no address at all.
    pub async fn warm(&self) -> Result<(), Rejection> {
        self.live().await.map(drop)
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.0
    }

    /// The endpoints, unless they must be waited for or there are none.
    pub(super) fn live_now(&self) -> Option<Arc<Live>> {
        let live = self.0.live.load_full();
        if live.asked.is_none() || live.endpoints.is_empty() {
            return None;
        }
        self.0.keep_fresh(&live);
        Some(live)
    }

    /// The endpoints; the first time with host names it waits for their addresses.
    pub(super) async fn live(&self) -> Result<Arc<Live>, Rejection> {
        let group = &self.0;
        let mut live = group.live.load_full();
        if live.asked.is_none() {
            live = Box::pin(group.ask()).await;
        }
        group.keep_fresh(&live);
        if live.endpoints.is_empty() {
            return Err(Rejection::new(Reason::NoEndpoint).detail("no address of the upstream is known"));
        }
        Ok(live)
    }

    /// The endpoint for the next try. Tried ones are left out, and those that could not be reached come last, behind those
    /// of earlier attempts at the same call.
    pub(super) fn pick(
        &self,
        live: &Live,
        tried: Tried,
        earlier: Option<&Earlier>,
    ) -> Option<(usize, Arc<Endpoint>)> {
        let group = &self.0;
        let earlier = earlier.map_or(&[][..], Earlier::endpoints);
        let at = pick(group.balance, &live.endpoints, tried, earlier, &group.next, &group.chance)?;
        Some((at, Arc::clone(&live.endpoints[at])))
    }
}

impl Group {
    /// Asks for all addresses, or waits for whoever is asking already.
    async fn ask(&self) -> Arc<Live> {
        let answers = self.answers.load(Ordering::Acquire);
        let _turn = self.turn.acquire().await;
        if self.answers.load(Ordering::Acquire) == answers {
            let live = self.look_up().await;
            self.live.store(Arc::new(live));
            self.answers.fetch_add(1, Ordering::Release);
        }
        self.live.load_full()
    }

    async fn look_up(&self) -> Live {
        let before = self.live.load_full();
        let mut answers = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            answers.push(match target {
                Target::Address(_) => None,
                Target::Name { host, port } => Some(tokio::spawn(self.resolver.resolve(host, *port))),
            });
        }
        let deadline = Instant::now() + LOOKUP;
        let mut found = Vec::with_capacity(self.targets.len());
        for (at, (target, answer)) in self.targets.iter().zip(answers).enumerate() {
            let addresses = match (target, answer) {
                (Target::Address(address), _) => vec![*address],
                (Target::Name { host, .. }, Some(mut answer)) => {
                    let wait = deadline.saturating_duration_since(Instant::now());
                    let told = timeout(wait, &mut answer).await;
                    answer.abort();
                    match told {
                        Ok(Ok(Ok(addresses))) if !addresses.is_empty() => self.allowed(host, addresses),
                        told => {
                            tracing::warn!(
                                upstream = &*self.name,
                                host = &**host,
                                ?told,
                                "host name not resolved"
                            );
                            before.found.get(at).cloned().unwrap_or_default()
                        }
                    }
                }
                (Target::Name { .. }, None) => Vec::new(),
            };
            found.push(addresses);
        }
        self.live_with(&before, found)
    }

    /// Without the addresses that must not be upstreams.
    fn allowed(&self, host: &str, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.retain(|&address| {
            let refused = self.options.refuses(address);
            if refused {
                tracing::warn!(upstream = &*self.name, host, %address, "this address must not be an upstream");
            }
            !refused
        });
        addresses
    }

    /// Endpoints for these addresses; those that were there keep their connections.
    fn live_with(&self, before: &Live, found: Vec<Vec<SocketAddr>>) -> Live {
        let endpoints = endpoints(&before.endpoints, found.iter().flatten().copied(), &self.options);
        let asked = (!endpoints.is_empty()).then(Instant::now);
        Live { endpoints, found: found.into(), asked }
    }

    /// While there are requests, host names are asked for again and again in the background.
    fn keep_fresh(self: &Arc<Self>, live: &Live) {
        let Some(asked) = live.asked else { return };
        if !self.named {
            return;
        }
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if !self.refreshing.load(Ordering::Relaxed) && !self.refreshing.swap(true, Ordering::Relaxed) {
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(refresh(Arc::downgrade(self), asked + FRESH))),
                Err(_) => self.refreshing.store(false, Ordering::Relaxed),
            }
        }
    }
}

/// An endpoint for each address, taken from `before` where it is there.
pub(super) fn endpoints(
    before: &[Arc<Endpoint>],
    addresses: impl Iterator<Item = SocketAddr>,
    options: &Arc<Options>,
) -> Box<[Arc<Endpoint>]> {
    let mut known: HashMap<_, _> = before.iter().map(|endpoint| (endpoint.address(), endpoint)).collect();
    let mut seen = std::collections::HashSet::new();
    addresses
        .filter(|&address| seen.insert(address))
        .map(|address| {
            let new = || Arc::new(Endpoint::new(address, Arc::clone(options)));
            known.remove(&address).map_or_else(new, Arc::clone)
        })
        .collect()
}

async fn refresh(group: Weak<Group>, mut at: Instant) {
    loop {
        sleep_until(at).await;
        let Some(group) = group.upgrade() else { return };
        if !group.used.swap(false, Ordering::Relaxed) {
            group.refreshing.store(false, Ordering::Relaxed);
            return;
        }
        group.ask().await;
        at = Instant::now() + FRESH;
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.0.name).field("endpoints", &self.endpoints()).finish()
    }
}
