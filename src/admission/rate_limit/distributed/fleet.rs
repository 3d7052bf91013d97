//! The instances on one server: how many there are, and the task by which this one is seen and gives back what it does
//! not use.

use std::{
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use redis::Script;
use tokio::time::{Instant, sleep};

use super::{Distribution, news::News, shared::Shared, together::Questions};
use crate::{
    admission::beside::{Beside, until_served},
    chance::Chance,
    redis::Redis,
    task::Task,
};

static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("beat.lua")));

const SECOND: Duration = Duration::from_secs(1);
/// All instances together are seen at most so often in a second.
const BEATS: u32 = 1000;
/// An instance that was not seen for so many beats is gone.
const MISSED: u32 = 3;
/// How often it is looked whether the server still answers those who ask it.
const LOOK: Duration = Duration::from_millis(500);

pub(super) struct Fleet {
    pub(super) redis: Redis,
    name: String,
    key: String,
    /// What is written at each beat.
    sign: String,
    /// Where it is told of which limits units have come back.
    pub(super) returned: String,
    pub(super) news: News,
    seen: AtomicU32,
    /// Beats since the number is known. Others know of this instance after the second.
    beats: AtomicU32,
    beating: Task,
    limits: Mutex<Vec<Weak<Shared>>>,
    /// Decisions that are on their way.
    pub(super) asking: Beside,
    pub(super) questions: Questions,
    /// What is done while nobody waits.
    pub(super) beside: Beside,
}

impl Fleet {
    pub(super) fn new(redis: Redis) -> Self {
        Self {
            name: Chance::new().tag(),
            key: redis.key("instances", "limits"),
            sign: redis.key("instances", "sign"),
            returned: redis.key("instances", "returned"),
            news: News::default(),
            seen: AtomicU32::new(0),
            beats: AtomicU32::new(0),
            beating: Task::default(),
            limits: Mutex::default(),
            asking: Beside::default(),
            questions: Questions::default(),
            beside: Beside::default(),
            redis,
        }
    }

    pub(super) fn seen(&self) -> u32 {
        self.seen.load(Relaxed)
    }

    /// How many instances share what is taken ahead; `None` as long as the others may not know of this one.
    pub(super) fn sharers(&self) -> Option<u32> {
        (self.beats.load(Relaxed) >= 2).then(|| self.seen().max(1))
    }

    pub(super) fn join(self: &Arc<Self>, limit: &Arc<Shared>) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.retain(|limit| limit.strong_count() > 0);
        limits.push(Arc::downgrade(limit));
    }

    /// Begins to be seen, if it has not. The task ends with the last who uses it.
    ///
    /// A server that did not answer is asked by it as soon as its breaker lets, also where nobody else asks.
    pub(super) fn begin(self: &Arc<Self>) {
        self.beating.begin(|| keep_beating(Arc::downgrade(self)));
    }

    /// The more there are, the seldomer each is seen.
    fn period(&self) -> Duration {
        SECOND.max(SECOND * self.seen() / BEATS)
    }

    /// For how long an instance counts that is not seen.
    pub(super) fn lives(&self) -> Duration {
        self.period() * MISSED
    }

    async fn beat(&self) {
        let args = (&self.name, self.lives().as_micros() as u64, Distribution::MOST_INSTANCES);
        let deadline = if self.redis.is_shut(&self.key) { self.deadline() } else { SECOND };
        // What cannot be told is told with the next one.
        if !self.redis.is_shut(&self.key) {
            _ = self.tell_news(deadline).await;
        }
        let keys = [&self.key, &self.sign, &self.returned];
        match self.redis.run::<(u32, bool, Vec<u8>)>(deadline, &BEAT, &keys, args).await {
            Ok((seen, is_new, returned)) => {
                self.hear_news(is_new, &returned);
                let before = self.seen.swap(seen, Relaxed);
                self.beats.fetch_add(1, Relaxed);
                if seen > before {
                    // Those who came may take ahead after their next beat, if we hold no more than is ours by then.
                    self.limits().iter().for_each(Shared::trim);
                }
            }
            // What others do is not known any more.
            Err(_) => self.beats.store(0, Relaxed),
        }
    }

    /// The longest of its limits: a server that is too slow for all of them does not serve.
    fn deadline(&self) -> Duration {
        self.limits().iter().map(|limit| limit.deadline()).max().map_or(SECOND, |longest| longest.min(SECOND))
    }

    /// Gives back what was taken ahead and was not used since the last time.
    fn sweep(&self) {
        for limit in self.limits() {
            limit.sweep(false);
        }
    }

    pub(super) fn limits(&self) -> Vec<Arc<Shared>> {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.iter().filter_map(Weak::upgrade).collect()
    }
}

async fn keep_beating(fleet: Weak<Fleet>) {
    let (mut due, mut swept) = (Instant::now(), Instant::now());
    // What cannot be given back meanwhile is kept: it may be of use until it can.
    let is_shut = || fleet.upgrade().is_some_and(|fleet| fleet.redis.is_shut(&fleet.key));
    loop {
        let was_seen = until_served(is_shut, || beat(fleet.clone())).await;
        let Some(known) = fleet.upgrade() else { return };
        let now = Instant::now();
        if was_seen {
            due = now + known.period();
        } else if now >= due {
            tokio::spawn(beat(fleet.clone()));
            due = now + known.period();
        }
        if now >= swept {
            known.sweep();
            swept = now + SECOND;
        }
        drop(known);
        sleep(LOOK).await;
    }
}

async fn beat(fleet: Weak<Fleet>) {
    if let Some(fleet) = fleet.upgrade() {
        fleet.beat().await;
    }
}
