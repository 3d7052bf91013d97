//! What a limit on Redis keeps here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Distribution, Fallback,
    ask::{Answer, Ask, Said, ask},
    correct::Correction,
    held::{Grant, Held, Known, Place, Rest},
    params::Params,
    share::share,
    together::Question,
};
use crate::{
    admission::rate_limit::{
        Quota,
        judge::{Judge, Verdict},
        limit::Terms,
        tally::Count,
    },
    head::Head,
    key::Key,
    redis::{Redis, RedisError},
};

/// What a lease that is not bound to a window is good for.
const FOR_LONG: Duration = Duration::from_secs(3600);
/// What keys end with changes with what their values mean.
const KEPT: &str = "limits.5";

pub(in crate::admission::rate_limit) struct Shared {
    pub(super) distribution: Distribution,
    terms: Terms,
    name: Arc<str>,
    pub(super) own: Params,
    /// By which its accounts are known.
    own_name: u64,
    held: Held,
    pub(super) counts: Counts,
}

/// Who decided, and how it went.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) redis: AtomicU64,
    pub(super) lease: Count,
    pub(super) denied: Count,
    pub(super) fallback: Count,
    pub(super) errors: AtomicU64,
    pub(super) waited: AtomicU64,
    /// Corrections that were not made.
    pub(super) unsettled: AtomicU64,
}

impl Counts {
    /// Redis was asked, and whoever asked has waited so many microseconds. Without an answer, it did not come in time.
    pub(super) fn asked(&self, waited: u64, answer: Option<&Answer>) {
        self.waited.fetch_add(waited, Relaxed);
        match answer {
            Some(Ok(_)) => _ = self.redis.fetch_add(1, Relaxed),
            Some(Err(error)) => self.failed(error),
            None => _ = self.errors.fetch_add(1, Relaxed),
        }
    }

    fn failed(&self, error: &RedisError) {
        if !matches!(error, RedisError::Open(_)) {
            self.errors.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn unsettled(&self, corrections: usize) {
        self.unsettled.fetch_add(corrections as u64, Relaxed);
    }
}

impl Shared {
    /// `None` if Redis cannot count so.
    pub(in crate::admission::rate_limit) fn new(
        name: &Arc<str>,
        distribution: &Distribution,
        terms: &Terms,
    ) -> Option<Arc<Self>> {
        let own = Params::new(terms.algorithm, terms.quota, terms.max_debt)?;
        let shared = Arc::new(Self {
            own,
            own_name: own.name(name),
            distribution: distribution.clone(),
            name: Arc::clone(name),
            held: Held::new(terms.max_keys.get(), distribution.remembered),
            terms: terms.clone(),
            counts: Counts::default(),
        });
        distribution.fleet.join(&shared);
        Some(shared)
    }

    pub(super) fn redis(&self) -> &Redis {
        &self.distribution.fleet.redis
    }

    pub(super) fn deadline(&self) -> Duration {
        self.distribution.deadline
    }

    /// The units that an account may owe beyond what it holds.
    pub(super) fn max_debt(&self) -> u32 {
        self.terms.max_debt
    }

    pub(super) fn fallback(&self) -> Fallback {
        self.distribution.fallback
    }

    /// Whether both are on one server.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.distribution.fleet, &other.distribution.fleet)
    }

    /// Where this request's account is on Redis: under a key in which no byte of a stranger's is, that of all limits which count
    /// by one thing. What is counted otherwise is another account.
    pub(super) fn place(&self, head: &Head<'_>, plan: Option<Quota>) -> Arc<Place> {
        let Terms { key, algorithm, max_debt, .. } = &self.terms;
        let account = format!("{:032x}", key.digest(head));
        let own = plan.and_then(|plan| Some((plan, Params::new(*algorithm, plan, *max_debt)?)));
        let params = own.map_or(self.own, |(_, params)| params);
        let name = if params.is_like(self.own) { self.own_name } else { params.name(&self.name) };
        // What counts everybody together is many limits' one account: each has a key of its own, beside theirs.
        let key = match key {
            Key::Tuple(parts) if parts.is_empty() => {
                self.redis().key(&account, &format!("{KEPT}.{:x}", self.own_name))
            }
            _ => self.redis().key(&account, KEPT),
        };
        Arc::new(Place { key, name, params, plan })
    }

    /// Pays here, if it can be.
    pub(super) fn pay(self: &Arc<Self>, (key, cost): (u64, u32), plan: Option<Quota>, now: Instant) -> Known {
        self.distribution.fleet.begin();
        let capacity = plan.map_or(self.own.capacity(), |quota| quota.burst().get().into());
        let (known, rest) = self.held.pay(key, cost, (plan, self.most_ahead(capacity)), now);
        if let Some(rest) = rest {
            self.give_back(vec![rest]);
        }
        known
    }

    /// Nobody will be heard who was to ask for more.
    pub(super) fn gave_up(&self, key: u64) {
        self.held.gave_up(key);
    }

    /// Takes back what was paid from a lease.
    pub(super) fn unpay(self: &Arc<Self>, key: u64, rest: Rest) {
        if let Some(rest) = self.held.unpay(key, rest) {
            self.give_back(vec![rest]);
        }
    }

    /// By which its accounts are known on Redis.
    pub(super) fn name(&self) -> u64 {
        self.own_name
    }

    /// Units have come back: other instances may refuse too long.
    pub(super) fn returned(&self) {
        self.distribution.fleet.news.is_to_be_told(self.own_name);
    }

    /// Nobody is refused any more by what was heard before this.
    pub(super) fn forgive(&self) {
        self.held.forgive(Instant::now());
    }

    /// Knows nothing of the account any more.
    pub(super) fn forget(&self, key: u64) {
        self.held.forget(key);
    }

    /// What this instance may have taken ahead of one account.
    fn most_ahead(&self, capacity: u64) -> u32 {
        let lease = self.distribution.lease;
        let Some(sharers) = self.distribution.fleet.sharers().filter(|_| lease.numerator() > 0) else {
            return 0;
        };
        // Units are counted in 32 bits, and so is the share.
        let all = capacity.saturating_mul(lease.numerator().into()) / u64::from(lease.denominator());
        u32::try_from(all / u64::from(sharers)).unwrap_or(u32::MAX)
    }

    /// What was heard of an account: kept for those who come next.
    pub(super) fn hear(self: &Arc<Self>, asked: &Ask, answer: &Answer, at: Instant) {
        let (key, Ok(said)) = (asked.key, answer) else { return self.held.gave_up(asked.key) };
        if let (Verdict::Wait(nanos), true) = (said.verdict, asked.is_plain()) {
            let until = crate::time::after(at, Duration::from_nanos(nanos));
            self.held.deny(key, &asked.place, asked.cost, until, at);
        }
        if asked.ahead == 0 {
            return;
        }
        let grant =
            Grant { units: said.ahead, asked: asked.ahead, window: said.window, good_for: good_for(said) };
        let most = self.most_ahead(asked.place.params.capacity());
        self.give_back(self.held.keep(key, &asked.place, (grant, most), at));
    }

    /// Takes more ahead, while nobody waits.
    pub(super) fn take_more(self: &Arc<Self>, key: u64, place: Arc<Place>, ahead: u32) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let at = Instant::now();
            let more = Ask { shared: Arc::clone(&shared), place, key, cost: 0, ahead, flags: 0 };
            let answer = ask(&more).await;
            answer.as_ref().err().into_iter().for_each(|error| shared.counts.failed(error));
            shared.hear(&more, &answer, at);
        });
    }

    /// Does this while nobody waits, as long as there is not too much of it.
    pub(super) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        self.distribution.fleet.beside.run(work)
    }

    /// Asks, as long as not too much is asked.
    pub(super) fn ask(&self, question: Question) -> bool {
        self.distribution.fleet.ask(question)
    }

    /// Asks for whoever was to ask, if that is late.
    pub(super) fn ask_if_late(&self) {
        self.distribution.fleet.ask_if_late();
    }

    pub(super) fn give_back(self: &Arc<Self>, rests: Vec<Rest>) {
        self.correct_beside(rests.into_iter().map(Correction::from).collect());
    }

    pub(super) fn correct_beside(self: &Arc<Self>, corrections: Vec<Correction>) {
        let (shared, count) = (Arc::clone(self), corrections.len());
        if count > 0 && !self.beside(async move { shared.correct(corrections).await }) {
            self.counts.unsettled(count);
        }
    }

    /// Gives back what was not used since the last time, or all that is left.
    pub(in crate::admission::rate_limit) fn sweep(self: &Arc<Self>, all: bool) {
        self.give_back(self.held.sweep(all, Instant::now()));
    }

    /// Gives back what is more than this instance may have taken ahead, now that others share it.
    pub(super) fn trim(self: &Arc<Self>) {
        let most = |place: &Place| self.most_ahead(place.params.capacity());
        self.give_back(self.held.trim(most, Instant::now()));
    }

    /// Who judges when this instance is alone: by its share of the limit, or of an account's plan.
    pub(super) fn alone(&self, judge: &Judge, plan: Option<Quota>) -> Option<Judge> {
        let instances = self.distribution.fleet.seen().max(self.distribution.floor.get());
        let Terms { algorithm, quota, max_debt, .. } = self.terms;
        share(judge, algorithm, (plan.unwrap_or(quota), max_debt), instances)
    }

    pub(super) fn known(&self) -> usize {
        self.held.len()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("known", &self.known()).finish_non_exhaustive()
    }
}

/// Where there are windows, until the running one is over.
fn good_for(said: &Said) -> Duration {
    if said.window == 0 { FOR_LONG } else { Duration::from_nanos(said.whole) }
}
