use std::{
    fmt,
    sync::{Arc, LazyLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use redis::Script;
use tokio::time::timeout;

use super::{
    ask::{Ask, STANDING, ask},
    held::Place,
    params::told,
    shared::Shared,
};
use crate::{
    admission::rate_limit::{Limit, Standing},
    head::Head,
    redis::RedisError,
    trip::State,
};

static RESET: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("limits.lua"), include_str!("reset.lua"))));

/// How long is waited at shutdown.
const LAST: Duration = Duration::from_secs(1);

/// A view of a limit that is kept on Redis.
#[derive(Clone)]
pub struct DistributionHandle {
    limit: Limit,
    shared: Arc<Shared>,
}

impl Limit {
    /// A view of how it is kept on Redis, if it is.
    #[must_use]
    pub fn distribution(&self) -> Option<DistributionHandle> {
        let shared = self.0.shared.clone()?;
        Some(DistributionHandle { limit: self.clone(), shared })
    }
}

impl DistributionHandle {
    /// What Redis decided.
    #[must_use]
    pub fn by_redis(&self) -> u64 {
        self.shared.counts.redis.load(Relaxed)
    }

    /// What was paid from units that were taken ahead.
    #[must_use]
    pub fn by_lease(&self) -> u64 {
        self.shared.counts.lease.read()
    }

    /// What was refused without asking, since it was known to be refused.
    #[must_use]
    pub fn by_deny_cache(&self) -> u64 {
        self.shared.counts.denied.read()
    }

    /// What fell to the [`Fallback`](super::Fallback).
    #[must_use]
    pub fn by_fallback(&self) -> u64 {
        self.shared.counts.fallback.read()
    }

    /// How often Redis was asked and did not decide.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.shared.counts.errors.load(Relaxed)
    }

    /// How long requests have waited for Redis, all together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.shared.counts.waited.load(Relaxed))
    }

    /// How often units were to be charged or given back afterwards, and were not: Redis did not do it in time, or there was
    /// too much of it at once.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.shared.counts.unsettled.load(Relaxed)
    }

    /// Where the account of this request stands on Redis. Nothing is spent. What instances have taken ahead is spent there.
    ///
    /// An operator who has no request describes one: see [`Account`](crate::admission::rate_limit::Account).
    ///
    /// # Errors
    /// [`RedisError`], within the limit's deadline.
    pub fn peek(
        &self,
        head: &mut Head<'_>,
    ) -> impl Future<Output = Result<Standing, RedisError>> + Send + use<> {
        let (key, place) = self.account(head);
        let asked = Ask { shared: Arc::clone(&self.shared), place, key, cost: 0, ahead: 0, flags: STANDING };
        async move {
            let said = ask(&asked).await?;
            Ok(Standing {
                remaining: said.remaining,
                more_in: Duration::from_nanos(said.more),
                whole_in: Duration::from_nanos(said.whole),
            })
        }
    }

    /// Makes the account of this request whole on Redis, forgets what is known of it here, and tells other instances: they
    /// hear it within a second (if there are more than a thousand, within a millisecond for each), and may spend what they have
    /// taken ahead. `false` if it was whole.
    ///
    /// # Errors
    /// [`RedisError`], each time within the limit's deadline. It may be that the others are not told: it can be tried again.
    pub fn reset(
        &self,
        head: &mut Head<'_>,
    ) -> impl Future<Output = Result<bool, RedisError>> + Send + use<> {
        let (key, place) = self.account(head);
        let shared = Arc::clone(&self.shared);
        async move {
            let name = told::<1, 8>([place.name as f64]);
            let was_there: u64 =
                shared.redis().run(shared.deadline(), &RESET, &[&place.key], &name[..]).await?;
            shared.forget(key);
            shared.distribution.fleet.tell_of(&shared, shared.deadline()).await?;
            Ok(was_there > 0)
        }
    }

    fn account(&self, head: &mut Head<'_>) -> (u64, Arc<Place>) {
        let limit = &*self.limit.0;
        let key = limit.terms.key.fingerprint(head, &limit.ledger.seed);
        (key, self.shared.place(head, limit.plan(head)))
    }

    /// Gives back what was taken ahead of this limit and not spent, and waits until what requests cost in the end is
    /// charged and other instances are told, for a second at most and not where Redis does not serve: at shutdown.
    pub async fn give_back(&self) {
        self.shared.sweep(true);
        if self.redis() == State::Open {
            return;
        }
        let fleet = &self.shared.distribution.fleet;
        let told = async {
            fleet.beside.settled().await;
            fleet.tell_news(LAST).await
        };
        _ = timeout(LAST, told).await;
    }

    /// Whether Redis is asked.
    #[must_use]
    pub fn redis(&self) -> State {
        self.shared.redis().state()
    }

    /// The instances that were seen last; zero until the first is.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.shared.distribution.instances()
    }

    /// The accounts of which something is known here.
    #[must_use]
    pub fn known(&self) -> usize {
        self.shared.known()
    }
}

impl fmt::Debug for DistributionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributionHandle")
            .field("by_redis", &self.by_redis())
            .field("by_lease", &self.by_lease())
            .field("by_deny_cache", &self.by_deny_cache())
            .field("by_fallback", &self.by_fallback())
            .field("errors", &self.errors())
            .field("unsettled", &self.unsettled())
            .finish_non_exhaustive()
    }
}
