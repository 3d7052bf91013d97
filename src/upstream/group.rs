use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use arc_swap::Guard;
use tokio::time::{Instant, timeout};

use super::{
    availability::Availability,
    balance::{Ask, Plan, Roster, Seat},
    beside::Beside,
    common::Common,
    elsewhere::Elsewhere,
    endpoint::Endpoint,
    health::Health,
    load::{Interest, Load},
    member::Member,
    options::Options,
    outlier::Ejected,
    session::SessionKey,
    subset::Chosen,
};
use crate::{
    context::Deadline,
    head::Head,
    reject::{Reason, Rejection},
};

/// How long the first requests wait to be told where the endpoints are.
pub(super) const FIRST: Duration = Duration::from_secs(5);

/// A named group of endpoints that serve the same: where a [`Proxy`](super::Proxy) sends to. Clones share all state.
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Upstream(Arc<Group>, Option<Arc<Chosen>>);

pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) options: Arc<Options>,
    pub(super) roster: Arc<Roster>,
    pub(super) beside: Beside,
    /// Instead of endpoints.
    pub(super) elsewhere: Option<Arc<Elsewhere>>,
}

/// An address, and what is said of it.
pub(super) type Place = (SocketAddr, Arc<Endpoint>);

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

    /// Whom handshakes with it wait for: nothing is known of them yet.
    #[cfg(all(feature = "stack", feature = "tls"))]
    pub(crate) fn awaited(&self) -> Option<&crate::tls::Credentials> {
        self.0.options.secure.as_ref()?.awaited()
    }

    /// No endpoint of it is at these addresses from now on, whatever its name resolves to: a gateway's operators are there.
    #[cfg(feature = "stack")]
    pub(crate) fn keep_off(&self, addresses: &[SocketAddr]) {
        self.0.options.kept_off.set(addresses);
    }

    /// Whether its endpoints are spoken to within TLS, whatever the scheme of a request is.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.elsewhere.is_none() && self.0.options.is_secure()
    }

    /// Its endpoints as they are at the moment. Those behind a host name, and those that a source tells, are there once they
    /// were asked for.
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
    /// be heard before there are requests, and for [first connections](super::UpstreamBuilder::preconnect), 5 seconds at most.
    ///
    /// # Errors
    ///
    /// [`Reason::NoEndpoint`] if there is no address at all.
    pub async fn warm(&self) -> Result<(), Rejection> {
        if self.0.elsewhere.is_some() {
            return Ok(());
        }
        self.0.beside.begin_early(&self.0);
        self.plan().await?;
        if let Some(ahead) = &self.0.beside.ahead {
            let _ = timeout(FIRST, ahead.first(&self.0.members())).await;
        }
        Ok(())
    }

    pub(super) fn group(&self) -> &Arc<Group> {
        &self.0
    }

    /// Where this request goes, if that is not the same for all.
    pub(super) fn elsewhere(&self, head: &Head<'_>) -> Option<Result<Self, Rejection>> {
        self.0.elsewhere.as_ref().map(|elsewhere| elsewhere.of(head))
    }

    /// Who can be picked, unless that must be waited for or there is nobody.
    pub(super) fn plan_now(&self) -> Option<Guard<Arc<Plan>>> {
        self.0.beside.begin(&self.0);
        let plan = self.0.roster.plan();
        // Who takes requests already need not wait for others.
        let waits = || self.0.beside.awaited().is_some() && !plan.takes();
        if plan.seats.is_empty() || waits() { None } else { Some(plan) }
    }

    /// Who can be picked; as long as nobody is known it waits for the first word of where they are, and of how they are if
    /// that has to be heard first.
    pub(super) async fn plan(&self) -> Result<Arc<Plan>, Rejection> {
        let group = &self.0;
        if group.roster.plan().seats.is_empty() {
            let _ = timeout(FIRST, group.beside.first_word()).await;
        }
        if group.roster.plan().seats.is_empty() {
            return Err(Rejection::new(Reason::NoEndpoint)
                .detail("no address of the upstream is known")
                .unsent());
        }
        if let Some(checks) = group.beside.awaited().filter(|_| !group.roster.plan().takes()) {
            checks.first(|| group.members()).await;
        }
        Ok(Guard::into_inner(group.roster.plan()))
    }

    /// Of the request's key, if it has the one that we go by.
    pub(super) fn hash(&self, head: &Head<'_>) -> Option<u64> {
        self.0.roster.rules().balance.key()?.bare_hash(head)
    }

    /// The endpoint for the next try. Tried ones are left out, and those that could not be reached come last, behind those
    /// of earlier attempts at the same call.
    pub(super) fn next(&self, plan: &Plan, ask: &Ask<'_>) -> Option<Arc<Member>> {
        let roster = &self.0.roster;
        let renewed = || roster.pick(&*roster.renewed_now(plan)?, ask).cloned();
        // A plan that knows nobody for this request may be of before.
        roster.pick(plan, ask).cloned().or_else(renewed)
    }

    /// A request begins at this member, at this time if that was [read](Self::now).
    pub(super) fn begin(&self, member: Arc<Member>, until: Option<Deadline>, now: Option<Instant>) -> Load {
        Load::begin(member, self.interest(), until, now)
    }

    /// The time, if somebody wants to know it when a request begins.
    pub(super) fn now(&self) -> Option<Instant> {
        self.interest().listens.then(Instant::now)
    }

    fn interest(&self) -> Interest {
        let mut interest = self.0.roster.interest();
        interest.listens |= self.0.beside.listens();
        interest
    }
}

impl Group {
    /// From now on these are the endpoints.
    pub(super) fn put(&self, places: &[Place]) {
        let before = self.roster.plan();
        let seats = seats(&before.seats, places, &self.options, self.roster.common());
        // A ring is not made again for an answer that says the same.
        if before.seats == seats {
            return;
        }
        let known: HashSet<_> = before.seats.iter().map(|seat| Arc::as_ptr(&seat.member)).collect();
        let new = seats.iter().filter(|seat| !known.contains(&Arc::as_ptr(&seat.member)));
        let others = new.clone().count() < seats.len();
        for seat in new {
            self.adopt(&seat.member);
            if others {
                self.beside.hold_back(&seat.member);
            }
        }
        self.roster.set(seats);
    }

    fn adopt(&self, member: &Member) {
        let shared = self.roster.adopt(member);
        self.beside.adopt(member, shared);
    }

    /// From now on all of them are looked after here.
    pub(super) fn adopt_all(&self) {
        self.members().iter().for_each(|member| self.adopt(member));
    }

    /// Who is in the set.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.roster.plan().seats.iter().map(|seat| Arc::clone(&seat.member)).collect()
    }
}

/// A seat for each place, whose member is taken from `before` where it is there. Of two with the same address the first one
/// says what it is.
pub(super) fn seats(
    before: &[Seat],
    places: &[Place],
    options: &Arc<Options>,
    common: &Arc<Common>,
) -> Box<[Seat]> {
    let known: HashMap<_, _> = before.iter().map(|seat| (seat.member.address(), &seat.member)).collect();
    let mut seen = HashSet::new();
    places
        .iter()
        .filter(|(address, _)| seen.insert(*address))
        .map(|(address, endpoint)| {
            let name = || Arc::clone(&endpoint.address);
            let new = || Arc::new(Member::new(*address, name(), Arc::clone(options), Arc::clone(common)));
            // Within TLS a server is verified by its name.
            let known = known
                .get(address)
                .filter(|member| !options.is_secure() || *member.name() == endpoint.address);
            let member = known.map_or_else(new, |member| Arc::clone(member));
            Seat { member, endpoint: Arc::clone(endpoint) }
        })
        .collect()
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.0.name).field("endpoints", &self.endpoints()).finish()
    }
}
