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
    held::{Grant, Held, Known, Place, Rest},
    params::Params,
};
use crate::{
    admission::rate_limit::{Algorithm, Quota, Rate, judge::Verdict, tally::Count},
    head::Head,
    key::Key,
    redis::{Redis, RedisError},
};

/// What a lease that is not bound to a window is good for.
const FOR_LONG: Duration = Duration::from_secs(3600);
/// What is behind the name in a key changes with what its value means.
const VERSION: &str = "1";

pub(in crate::admission::rate_limit) struct Shared {
    pub(super) distribution: Distribution,
    algorithm: Algorithm,
    key: Key,
    quota: Quota,
    name: Arc<str>,
    pub(super) own: Params,
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
}

impl Counts {
    /// Redis was asked, and whoever asked has waited so many microseconds.
    pub(super) fn asked(&self, waited: u64, decided: bool) {
        self.redis.fetch_add(decided.into(), Relaxed);
        self.waited.fetch_add(waited, Relaxed);
    }
}

impl Shared {
    /// `None` if Redis cannot count so.
    pub(in crate::admission::rate_limit) fn new(
        name: &Arc<str>,
        distribution: &Distribution,
        (key, algorithm, quota): (&Key, Algorithm, Quota),
        max_keys: u32,
    ) -> Option<Arc<Self>> {
        let shared = Arc::new(Self {
            own: Params::new(algorithm, quota)?,
            distribution: distribution.clone(),
            name: Arc::clone(name),
            key: key.clone(),
            algorithm,
            quota,
            held: Held::new(max_keys),
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

    pub(super) fn fallback(&self) -> Fallback {
        self.distribution.fallback
    }

    /// Whether both are on one server.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.distribution.fleet, &other.distribution.fleet)
    }

    /// The key of this request's account on Redis, where no byte of a stranger's is, and all limits that count by one thing
    /// are in one slot. What is counted otherwise is another account.
    pub(super) fn place(&self, head: &Head<'_>, plan: Option<Quota>) -> Arc<Place> {
        let account = format!("{:032x}", self.key.digest(head));
        let own = plan.and_then(|plan| Some((plan, Params::new(self.algorithm, plan)?)));
        let (quota, params) = own.unwrap_or((self.quota, self.own));
        let (rate, burst) = (quota.rate(), params.capacity());
        let kind = params.words(std::time::UNIX_EPOCH)[0];
        let name = format!("{}:{VERSION}.{kind}.{burst}.{rate}", self.name);
        Arc::new(Place { key: self.redis().key(&account, &name), params, plan })
    }

    /// Pays here, if it can be.
    pub(super) fn pay(self: &Arc<Self>, (key, cost): (u64, u32), plan: Option<Quota>, now: Instant) -> Known {
        self.distribution.fleet.begin();
        let capacity = plan.map_or(self.own.capacity(), |quota| quota.burst().get().into());
        let (known, rest) = self.held.pay(key, cost, (plan, self.most_ahead(capacity)), now);
        if let Some(rest) = rest {
            tokio::spawn(Arc::clone(self).refund(vec![rest]));
        }
        known
    }

    /// Nobody will be heard who was to ask for more.
    pub(super) fn gave_up(&self, key: u64) {
        self.held.gave_up(key);
    }

    pub(super) fn unpay(&self, key: u64, cost: u32) {
        self.held.unpay(key, cost);
    }

    /// What this instance may have taken ahead of one account.
    fn most_ahead(&self, capacity: u64) -> u32 {
        let lease = self.distribution.lease;
        let Some(sharers) = self.distribution.fleet.sharers().filter(|_| lease.numerator() > 0) else {
            return 0;
        };
        let all = u128::from(capacity) * u128::from(lease.numerator()) / u128::from(lease.denominator());
        u32::try_from(all / u128::from(sharers)).unwrap_or(u32::MAX)
    }

    /// What was heard of an account: kept for those who come next.
    pub(super) fn hear(self: &Arc<Self>, key: u64, cost: u32, asked: &Ask, answer: &Answer, at: Instant) {
        let said = match answer {
            Ok(said) => said,
            Err(error) => {
                if !matches!(error, RedisError::Open(_)) {
                    self.counts.errors.fetch_add(1, Relaxed);
                }
                return self.held.gave_up(key);
            }
        };
        if let (Verdict::Wait(nanos), 0) = (said.verdict, asked.flags) {
            let until = crate::time::after(at, Duration::from_nanos(nanos));
            self.held.deny(key, &asked.place, cost, until, at);
        }
        if asked.ahead == 0 {
            return;
        }
        let asked_for = u32::try_from(asked.ahead).unwrap_or(u32::MAX);
        let grant =
            Grant { units: said.ahead, asked: asked_for, window: said.window, good_for: good_for(said) };
        let most = self.most_ahead(asked.place.params.capacity());
        let rests = self.held.keep(key, &asked.place, (grant, most), at);
        if !rests.is_empty() {
            tokio::spawn(Arc::clone(self).refund(rests));
        }
    }

    /// Takes more ahead, while nobody waits.
    pub(super) fn take_more(self: &Arc<Self>, key: u64, place: Arc<Place>, ahead: u32) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let at = Instant::now();
            let more = Ask { shared: Arc::clone(&shared), place, cost: 0, ahead: ahead.into(), flags: 0 };
            let answers = ask(std::slice::from_ref(&more)).await;
            match answers.first() {
                Some(answer) => shared.hear(key, 0, &more, answer, at),
                None => shared.held.gave_up(key),
            }
        });
    }

    /// Gives back what was not used since the last time, or all that is left.
    pub(in crate::admission::rate_limit) async fn give_back(self: &Arc<Self>, all: bool) {
        let rests = self.held.sweep(all, Instant::now());
        Arc::clone(self).refund(rests).await;
    }

    async fn refund(self: Arc<Self>, rests: Vec<Rest>) {
        for some in rests.chunks(TOGETHER) {
            let asks: Vec<_> = some.iter().map(|rest| self.return_of(rest)).collect();
            ask(&asks).await;
        }
    }

    fn return_of(self: &Arc<Self>, rest: &Rest) -> Ask {
        let (shared, place) = (Arc::clone(self), Arc::clone(&rest.place));
        Ask { shared, place, cost: -i64::from(rest.units), ahead: rest.window, flags: 0 }
    }

    /// The limit that this instance holds everybody to when it is alone.
    pub(super) fn share(&self, quota: Quota) -> Quota {
        let instances = self.distribution.fleet.seen().max(self.distribution.floor.get());
        let rate = quota.rate();
        let share = match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket { .. } => {
                let burst = std::num::NonZeroU32::new(quota.burst().get() / instances);
                let slow = Rate::new(rate.count().get(), rate.period().saturating_mul(instances));
                slow.ok().map(|rate| Quota::new(rate).with_burst(burst.unwrap_or(std::num::NonZeroU32::MIN)))
            }
            Algorithm::SlidingWindow | Algorithm::FixedWindow { .. } => {
                Rate::new((rate.count().get() / instances).max(1), rate.period()).ok().map(Quota::new)
            }
        };
        share.unwrap_or(quota)
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

/// How many accounts are given back in one call.
const TOGETHER: usize = 100;

/// Where there are windows, until the running one is over.
fn good_for(said: &Said) -> Duration {
    if said.window == 0 { FOR_LONG } else { Duration::from_nanos(said.whole) }
}
