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
    beside::Beside,
    endpoint::Endpoint,
    health::Health,
    load::Load,
    member::{Common, Member},
    options::Options,
    outlier::Ejected,
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
    /// Whether there are host names among the targets.
    pub(super) named: AtomicBool,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) told: ArcSwap<Told>,
    /// Who holds it asks for addresses; the others wait for that answer.
    pub(super) turn: Semaphore,
    pub(super) answers: AtomicU64,
    /// Whether there was a request since addresses were last asked for.
    pub(super) used: AtomicBool,
    pub(super) refreshing: AtomicBool,
    pub(super) beside: Beside,
}

/// Where endpoints are, and what is said of each.
pub(super) type Targets = Arc<[(Target, Arc<Endpoint>)]>;

/// The targets, and what was last heard of them.
#[derive(Default)]
pub(super) struct Told {
    pub(super) targets: Targets,
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
    /// What it says when it is asked, where it is.
    pub health: Health,
    /// That it is left out for what became of its requests, if it is.
    pub ejected: Option<Ejected>,
    /// Requests whose response body has not ended yet, and tunnels.
    pub in_flight: usize,
    /// Connections open, those of tunnels too.
    pub connections: usize,
    /// HTTP/1 connections that wait for a request.
    pub idle: usize,
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
        let now = Instant::now();
        let status = |Seat { member, endpoint }: &Seat| EndpointStatus {
            address: member.address(),
            weight: endpoint.weight,
            priority: endpoint.priority,
            zone: endpoint.zone.clone(),
            labels: endpoint.labels.clone(),
            availability: member.availability(),
            health: member.health().health(),
            ejected: member.record().ejected(now),
            in_flight: member.load(),
            connections: member.open(),
            idle: member.idle(),
        };
        self.0.roster.plan().seats.iter().map(status).collect()
    }

    /// Learns its endpoints and the addresses of its host names now, so that the first request need not wait for them, and
    /// begins to ask how they are; it waits for their first answers if [they have to](super::health::Policy::wait_for_first)
    /// be heard before there are requests.
    ///
    /// # Errors
    ///
    /// [`Reason::NoEndpoint`] if there is no address at all.
    pub async fn warm(&self) -> Result<(), Rejection> {
        self.0.beside.begin_early(&self.0);
        self.plan().await?;
        if let Some(checks) = &self.0.beside.checks {
            checks.first(&self.0.members()).await;
            // The plan of before knows nobody who is well.
            self.0.roster.renew();
        }
        Ok(())
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.0
    }

    /// Who can be picked, unless that must be waited for or there is nobody.
    pub(super) fn plan_now(&self) -> Option<Arc<Plan>> {
        self.0.beside.begin(&self.0);
        let plan = self.0.roster.plan();
        if plan.seats.is_empty() || self.0.is_named() && !self.0.keep_fresh() {
            return None;
        }
        Some(plan)
    }

    /// Who can be picked; the first time it waits for the word of a source, and for the addresses of host names.
    pub(super) async fn plan(&self) -> Result<Arc<Plan>, Rejection> {
        let group = &self.0;
        let _ = timeout(LOOKUP, group.beside.first_word()).await;
        if group.is_named() && group.told.load().asked.is_none() {
            Box::pin(group.ask()).await;
        }
        if group.is_named() {
            group.keep_fresh();
        }
        let plan = group.roster.plan();
        if plan.seats.is_empty() {
            return Err(Rejection::new(Reason::NoEndpoint).detail("no address of the upstream is known"));
        }
        Ok(plan)
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
        let mut interest = self.0.roster.interest();
        interest.listens |= self.0.beside.listens();
        Load::begin(member, interest, until)
    }
}

impl Group {
    /// Asks for all addresses, or waits for whoever is asking already.
    async fn ask(&self) {
        let answers = self.answers.load(Ordering::Acquire);
        let _turn = self.turn.acquire().await;
        if self.answers.load(Ordering::Acquire) == answers {
            let targets = Arc::clone(&self.told.load().targets);
            let found = self.look_up(&targets).await;
            self.put(targets, found, false);
        }
    }

    /// From now on these are the endpoints. That there are none is `certain`, or a sign that they could not be learnt.
    pub(super) fn put(&self, targets: Targets, found: Box<[Vec<SocketAddr>]>, certain: bool) {
        let before = self.roster.plan();
        let seats = seats(&before.seats, &targets, &found, &self.options, self.roster.common());
        let known: HashSet<_> = before.seats.iter().map(|seat| Arc::as_ptr(&seat.member)).collect();
        let new = seats.iter().filter(|seat| !known.contains(&Arc::as_ptr(&seat.member)));
        new.for_each(|seat| self.beside.adopt(&seat.member));
        let asked = (certain || !seats.is_empty()).then(Instant::now);
        self.named.store(has_names(&targets), Ordering::Relaxed);
        self.roster.set(seats);
        self.told.store(Arc::new(Told { targets, found, asked }));
        self.answers.fetch_add(1, Ordering::Release);
        self.beside.changed();
    }

    /// Who is in the set.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.roster.plan().seats.iter().map(|seat| Arc::clone(&seat.member)).collect()
    }

    fn is_named(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    /// For each target its addresses, as they are or were last known.
    pub(super) async fn look_up(&self, targets: &Targets) -> Box<[Vec<SocketAddr>]> {
        let mut answers = Vec::with_capacity(targets.len());
        for (target, _) in &**targets {
            answers.push(match target {
                Target::Address(_) => None,
                Target::Name { host, port } => Some(tokio::spawn(self.resolver.resolve(host, *port))),
            });
        }
        let deadline = Instant::now() + LOOKUP;
        let mut found = Vec::with_capacity(targets.len());
        for ((target, _), answer) in targets.iter().zip(answers) {
            let addresses = match (target, answer) {
                (Target::Address(address), _) => self.allowed("", vec![*address]),
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
                            self.told.load().of(target)
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
    pub(super) fn allowed(&self, host: &str, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
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

impl Told {
    /// The addresses of this target, as last heard.
    pub(super) fn of(&self, target: &Target) -> Vec<SocketAddr> {
        let at = self.targets.iter().position(|(known, _)| known == target);
        at.and_then(|at| self.found.get(at)).cloned().unwrap_or_default()
    }
}

/// Whether addresses must be asked for.
pub(super) fn has_names(targets: &Targets) -> bool {
    targets.iter().any(|(target, _)| matches!(target, Target::Name { .. }))
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
