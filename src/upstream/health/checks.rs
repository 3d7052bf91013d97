use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, OnceCell, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};

use super::{
    policy::Policy,
    probe::{Sick, probe},
    progress::{Health, Progress},
};
use crate::{
    chance::Chance,
    time::after,
    upstream::{availability::Withheld, connect::Connections, group::FIRST, member::Member},
};

/// How many endpoints of an upstream are asked at a time.
const AT_ONCE: usize = 64;

/// How an endpoint is. It stays with it, in other sets and across reloads.
#[derive(Debug, Default)]
pub(in crate::upstream) struct State {
    known: Mutex<Known>,
    connections: Connections,
}

#[derive(Debug, Default)]
struct Known {
    asks: Weak<Checks>,
    progress: Progress,
}

/// Who asks the endpoints of an upstream how they are, beside its requests.
#[derive(Debug)]
pub(in crate::upstream) struct Checks {
    upstream: Arc<str>,
    policy: Policy,
    chance: Chance,
    turns: Semaphore,
    /// Whether there was ever a request.
    wanted: AtomicBool,
    learnt: Notify,
    /// Whether all have answered for the first time, or were waited for in vain.
    first: OnceCell<()>,
    /// Since when they are waited for.
    begun: OnceLock<Instant>,
    passed: AtomicU64,
    failed: AtomicU64,
}

impl State {
    pub(in crate::upstream) fn health(&self) -> Health {
        self.known().progress.health()
    }

    /// Takes this for the one who asks, unless somebody else does who came later.
    fn is_asked_by(&self, checks: &Arc<Checks>) -> bool {
        let mut known = self.known();
        if known.asks.strong_count() == 0 {
            known.asks = Arc::downgrade(checks);
        }
        std::ptr::eq(known.asks.as_ptr(), Arc::as_ptr(checks))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checks {
    pub(in crate::upstream) fn new(upstream: Arc<str>, policy: Policy, chance: Chance) -> Self {
        Self {
            upstream,
            policy,
            chance,
            turns: Semaphore::new(AT_ONCE),
            wanted: AtomicBool::new(false),
            learnt: Notify::new(),
            first: OnceCell::new(),
            begun: OnceLock::new(),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// How many answers were good, and how many were not.
    pub(in crate::upstream) fn counts(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// From now on these ask, or nobody does. Who has to show first that it is well gets nothing until then.
    /// `shared`: requests of others may be on their way to it, for whom nobody waits for a first answer.
    pub(in crate::upstream) fn adopt(checks: Option<&Arc<Self>>, member: &Member, shared: bool) {
        let mut known = member.health().known();
        known.asks = checks.map(Arc::downgrade).unwrap_or_default();
        let health = known.progress.health();
        if checks.is_none() {
            known.progress = Progress::default();
        }
        let waits = checks.is_some_and(|checks| checks.policy.wait_for_first) && !shared;
        member.withhold(Withheld::Unheard, waits && health == Health::Unknown);
        member.withhold(Withheld::Unhealthy, checks.is_some() && health == Health::Unhealthy);
    }

    /// There is a request: what is asked seldom is asked as often as it should be.
    pub(in crate::upstream) fn want(&self) {
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until each of these has answered, but not for long.
    pub(in crate::upstream) async fn first(&self, members: impl Fn() -> Vec<Arc<Member>>) {
        let all = async {
            loop {
                let learnt = self.learnt.notified();
                if members().iter().all(|member| member.health().health() != Health::Unknown) {
                    return;
                }
                learnt.await;
            }
        };
        // As long for all of them together, whoever of them goes away.
        let until = after(*self.begun.get_or_init(Instant::now), FIRST);
        self.first.get_or_init(|| async { _ = timeout_at(until, all).await }).await;
    }

    /// Whether requests have to wait for first answers.
    pub(in crate::upstream) fn are_awaited(&self) -> bool {
        self.policy.wait_for_first && !self.first.initialized()
    }

    /// Asks the endpoints again and again, each new one at once, until there are none any more.
    pub(in crate::upstream) async fn run(
        self: Arc<Self>,
        members: impl Fn() -> Option<Vec<Arc<Member>>>,
        owner: Weak<()>,
        mut changes: watch::Receiver<u64>,
    ) {
        let mut tasks = JoinSet::new();
        let mut asked: HashMap<SocketAddr, (Weak<Member>, AbortHandle)> = HashMap::new();
        while let Some(members) = members() {
            let mut before = std::mem::take(&mut asked);
            for member in &members {
                let same = match before.remove(&member.address()) {
                    Some((known, task)) if !std::ptr::eq(known.as_ptr(), Arc::as_ptr(member)) => {
                        task.abort(); // of another one at this address
                        None
                    }
                    known => known,
                };
                let entry = same.unwrap_or_else(|| {
                    let follow = Arc::clone(&self).follow(Arc::clone(member), Weak::clone(&owner));
                    (Arc::downgrade(member), tasks.spawn(follow))
                });
                asked.insert(member.address(), entry);
            }
            drop(members);
            before.into_values().for_each(|(_, task)| task.abort());
            while tasks.try_join_next().is_some() {}
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow(self: Arc<Self>, member: Arc<Member>, owner: Weak<()>) {
        loop {
            let is_own = owner.upgrade().is_some_and(|owner| member.owner().is(&owner));
            if is_own && member.health().is_asked_by(&self) {
                // It is never closed.
                let turn = self.turns.acquire().await;
                let connections = &member.health().connections;
                let answer =
                    probe(&self.policy, (member.address(), member.name()), member.options(), connections)
                        .await;
                drop(turn);
                self.learn(&member, answer);
            }
            self.pause().await;
        }
    }

    fn learn(self: &Arc<Self>, member: &Member, answer: Result<(), Sick>) {
        let mut known = member.health().known();
        if !std::ptr::eq(known.asks.as_ptr(), Arc::as_ptr(self)) {
            return; // another asks by now, or nobody
        }
        let before = known.progress.health();
        known.progress.learn(answer.is_ok(), &self.policy);
        let health = known.progress.health();
        if health != Health::Unknown {
            member.withhold(Withheld::Unhealthy, health == Health::Unhealthy);
            member.withhold(Withheld::Unheard, false);
        }
        drop(known);
        let count = if answer.is_ok() { &self.passed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
        let (upstream, endpoint) = (&*self.upstream, member.address());
        match answer {
            Err(error) if health != before => {
                tracing::warn!(upstream, %endpoint, error = &error as &dyn std::error::Error, "an endpoint is unhealthy");
            }
            Err(error) => {
                tracing::debug!(upstream, %endpoint, error = &error as &dyn std::error::Error, "an endpoint answered badly");
            }
            Ok(()) if health != before => tracing::info!(upstream, %endpoint, "an endpoint is healthy"),
            Ok(()) => {}
        }
        self.learnt.notify_waiters();
    }

    /// An interval and some chance. One that is long as long as there are no requests ends with the first.
    async fn pause(&self) {
        let jitter = self.chance.up_to(self.policy.jitter);
        let begun = Instant::now();
        let interval = self.policy.interval.max(Duration::from_millis(1));
        sleep(interval.saturating_add(jitter)).await;
        let until = after(begun, self.policy.idle_interval.max(interval).saturating_add(jitter));
        while !self.wanted.load(Ordering::Relaxed) && Instant::now() < until {
            sleep(interval.min(until.saturating_duration_since(Instant::now()))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_are_an_interval_and_some_chance() {
        let (interval, jitter) = (Duration::from_secs(2), Duration::from_secs(1));
        let policy = Policy::tcp().interval(interval).no_traffic_interval(interval).jitter(jitter);
        let checks = Checks::new("a".into(), policy, Chance::seeded(1));
        checks.want();
        let mut pauses = Vec::new();
        for _ in 0..50 {
            let before = Instant::now();
            checks.pause().await;
            pauses.push(before.elapsed());
        }
        let bounds = interval..=interval + jitter + Duration::from_millis(1);
        assert!(pauses.iter().all(|pause| bounds.contains(pause)), "{pauses:?}");
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most - *least > jitter / 2, "{pauses:?}");
    }
}
