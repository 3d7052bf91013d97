use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    availability::Availability,
    balance::{Ask, Plan, Roster, Seat},
    endpoint::Endpoint,
    load::Load,
    member::{Common, Member},
    options::Options,
    resolve::{Resolve, Target},
    session::SessionKey,
    subset::Chosen,
};
use crate::{
    context::Deadline,
    head::Head,
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
pub struct Upstream(Arc<Group>, Option<Arc<Chosen>>);

pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) options: Arc<Options>,
    pub(super) roster: Arc<Roster>,
    pub(super) targets: Box<[(Target, Arc<Endpoint>)]>,
    /// Whether there are host names among them.
    pub(super) named: bool,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) told: ArcSwap<Told>,
    /// Who holds it asks for addresses; the others wait for that answer.
    pub(super) turn: Semaphore,
    pub(super) answers: AtomicU64,
    /// Whether there was a request since addresses were last asked for.
    pub(super) used: AtomicBool,
    pub(super) refreshing: AtomicBool,
}

/// What was last heard of the targets.
#[derive(Default)]
pub(super) struct Told {
    /// For each target its addresses.
    pub(super) found: Box<[Vec<SocketAddr>]>,
    /// When names were last asked for; `None`: not yet with success.
    pub(super) asked: Option<Instant>,
}

/// One endpoint as it is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Where it is.
    pub address: SocketAddr,
    /// Its part of the requests, against the weights of the others.
    pub weight: NonZeroU32,
    /// When it is used: those of a higher number take what those of lower ones cannot.
    pub priority: u8,
    /// Where it stands.
    pub zone: Option<Arc<str>>,
    /// What else is said of it.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Whether it takes requests, and why not.
    pub availability: Availability,
    /// Requests whose response body has not ended yet, and tunnels.
    pub in_flight: usize,
    /// Connections open, those of tunnels too.
    pub connections: usize,
    /// HTTP/1 connections that wait for a request.
    pub idle: usize,
}

/// An endpoint that was [picked](Upstream::pick). A request is in flight there until this is dropped.
pub struct Picked(Load);

impl Picked {
    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.member().address()
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.address()).finish()
    }
}

impl Upstream {
    pub(super) fn new(group: Group) -> Self {
        Self(Arc::new(group), None)
    }

    pub(super) fn session_key(&self) -> SessionKey {
        self.0.roster.rules().session_key
    }

    /// The same, for requests of this subset.
    pub(super) fn of(&self, subset: Chosen) -> Self {
        Self(Arc::clone(&self.0), Some(Arc::new(subset)))
    }

    /// The subset that it is, if it is one.
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        self.1.as_deref()
    }

    /// Its name, for people, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its endpoints as they are at the moment. Those behind a host name are there once it was asked for.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        let status = |Seat { member, endpoint }: &Seat| EndpointStatus {
            address: member.address(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            zone: endpoint.zone.clone(),
            labels: endpoint.labels.clone(),
            availability: member.availability(),
            in_flight: member.load(),
            connections: member.open(),
            idle: member.idle(),
        };
        self.0.roster.plan().seats.iter().map(status).collect()
    }

    /// Asks for the addresses of its host names now, so that the first request need not wait for them.
    ///
    /// # Errors
    ///
    /// [`Reason::NoEndpoint`] if there is no address at all.
    pub async fn warm(&self) -> Result<(), Rejection> {
        self.plan().await.map(drop)
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.0
    }

    /// Who can be picked, unless that must be waited for or there is nobody.
    pub(super) fn plan_now(&self) -> Option<Arc<Plan>> {
        let plan = self.0.roster.plan();
        if plan.seats.is_empty() || self.0.named && !self.0.keep_fresh() {
            return None;
        }
        Some(plan)
    }

    /// Who can be picked; the first time with host names it waits for their addresses.
    pub(super) async fn plan(&self) -> Result<Arc<Plan>, Rejection> {
        let group = &self.0;
        if group.named && group.told.load().asked.is_none() {
            Box::pin(group.ask()).await;
        }
        if group.named {
            group.keep_fresh();
        }
        let plan = group.roster.plan();
        if plan.seats.is_empty() {
            return Err(Rejection::new(Reason::NoEndpoint).detail("no address of the upstream is known"));
        }
        Ok(plan)
    }

    /// Picks the endpoint for a request that a client of your own sends, in whatever protocol, by the same rules. `None` if
    /// there is none, or the addresses of host names are not known yet ([`warm`](Self::warm) asks for them).
    ///
    /// ```
    /// use http::Request;
    /// use portcullis::{head::Head, upstream::{Balance, Upstream}};
    ///
    /// let stock = Upstream::builder("stock").endpoints(["192.0.2.1:6379", "192.0.2.2:6379"]);
    /// let stock = stock.balance(Balance::LeastRequest).build()?;
    /// let mut request = Request::new(());
    /// let one = stock.pick(&Head::of(&mut request)).unwrap();
    /// let other = stock.pick(&Head::of(&mut request)).unwrap();
    /// assert_ne!(one.address(), other.address());
    /// # Ok::<(), portcullis::upstream::BuildError>(())
    /// ```
    #[must_use]
    pub fn pick(&self, head: &Head<'_>) -> Option<Picked> {
        let (hash, subset) = (self.hash(head), self.marked(head));
        let member = self.next(&*self.plan_now()?, &Ask { hash, subset, ..Ask::default() })?;
        let until = head.extensions().get::<Deadline>().copied();
        Some(Picked(self.begin(member, until)))
    }

    /// Of the request's key, if it has the one that we go by.
    pub(super) fn hash(&self, head: &Head<'_>) -> Option<u64> {
        self.0.roster.rules().balance.key()?.bare_hash(head)
    }

    /// The endpoint for the next try. Tried ones are left out, and those that could not be reached come last, behind those
    /// of earlier attempts at the same call.
    pub(super) fn next(&self, plan: &Plan, ask: &Ask<'_>) -> Option<Arc<Member>> {
        self.0.roster.pick(plan, ask).cloned()
    }

    /// A request begins at this member.
    pub(super) fn begin(&self, member: Arc<Member>, until: Option<Deadline>) -> Load {
        Load::begin(member, self.0.roster.interest(), until)
    }
}

impl Group {
    /// Asks for all addresses, or waits for whoever is asking already.
    async fn ask(&self) {
        let answers = self.answers.load(Ordering::Acquire);
        let _turn = self.turn.acquire().await;
        if self.answers.load(Ordering::Acquire) == answers {
            let found = self.look_up().await;
            let before = self.roster.plan();
            let seats = seats(&before.seats, &self.targets, &found, &self.options, self.roster.common());
            let asked = (!seats.is_empty()).then(Instant::now);
            self.roster.set(seats);
            self.told.store(Arc::new(Told { found, asked }));
            self.answers.fetch_add(1, Ordering::Release);
        }
    }

    /// For each target its addresses, as they are or were last known.
    async fn look_up(&self) -> Box<[Vec<SocketAddr>]> {
        let before = self.told.load_full();
        let mut answers = Vec::with_capacity(self.targets.len());
        for (target, _) in &self.targets {
            answers.push(match target {
                Target::Address(_) => None,
                Target::Name { host, port } => Some(tokio::spawn(self.resolver.resolve(host, *port))),
            });
        }
        let deadline = Instant::now() + LOOKUP;
        let mut found = Vec::with_capacity(self.targets.len());
        for (at, ((target, _), answer)) in self.targets.iter().zip(answers).enumerate() {
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
        found.into()
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

    /// While there are requests, host names are asked for again and again in the background. `false`: they were not asked
    /// for with success yet.
    fn keep_fresh(self: &Arc<Self>) -> bool {
        let Some(asked) = self.told.load().asked else { return false };
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if !self.refreshing.load(Ordering::Relaxed) && !self.refreshing.swap(true, Ordering::Relaxed) {
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(refresh(Arc::downgrade(self), asked + FRESH))),
                Err(_) => self.refreshing.store(false, Ordering::Relaxed),
            }
        }
        true
    }
}

/// A seat for each address, whose member is taken from `before` where it is there. Of two targets with the same address the
/// first one says what it is.
pub(super) fn seats(
    before: &[Seat],
    targets: &[(Target, Arc<Endpoint>)],
    found: &[Vec<SocketAddr>],
    options: &Arc<Options>,
    common: &Arc<Common>,
) -> Box<[Seat]> {
    let known: HashMap<_, _> = before.iter().map(|seat| (seat.member.address(), &seat.member)).collect();
    let mut seen = HashSet::new();
    let addresses = targets
        .iter()
        .zip(found)
        .flat_map(|((_, endpoint), found)| found.iter().map(move |at| (*at, endpoint)));
    addresses
        .filter(|(address, _)| seen.insert(*address))
        .map(|(address, endpoint)| {
            let new = || Arc::new(Member::new(address, Arc::clone(options), Arc::clone(common)));
            let member = known.get(&address).map_or_else(new, |member| Arc::clone(member));
            Seat { member, endpoint: Arc::clone(endpoint) }
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
