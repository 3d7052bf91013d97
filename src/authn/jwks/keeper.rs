//! The task that keeps one source's keys up to date.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    fault::Fault,
    schedule::{Schedule, Times},
    source::{Asking, Discovered, Fetched},
    status::FetchResult,
};
use crate::{
    authn::jwt::{Keeper, KeySet, Keys, Skipped, WeakKeys},
    chance::Chance,
};

/// One source and its state.
pub(super) struct Remote {
    pub(super) asking: Asking,
    pub(super) times: Times,
    pub(super) wait: Duration,
    pub(super) chance: Chance,
    progress: Mutex<Progress>,
    /// How many fetches have ended.
    pub(super) ended: watch::Sender<u64>,
    task: OnceLock<AbortHandle>,
}

/// What is known of the fetches so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// None: nobody has used the keys yet.
    pub(super) schedule: Option<Schedule>,
    pub(super) discovered: Option<Discovered>,
    pub(super) fetched: Option<Instant>,
    pub(super) results: [u64; FetchResult::ALL.len()],
    pub(super) last_error: Option<Box<str>>,
    pub(super) skipped: Vec<Skipped>,
}

impl Remote {
    pub(super) fn new(
        asking: Asking,
        times: Times,
        wait: Duration,
        chance: Chance,
        progress: Progress,
    ) -> Self {
        Self {
            asking,
            times,
            wait,
            chance,
            progress: Mutex::new(progress),
            ended: watch::Sender::new(0),
            task: OnceLock::new(),
        }
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the fetches, with the set that they led to.
    pub(super) fn both(&self, keys: &Keys) -> (Progress, Option<Arc<KeySet>>) {
        let progress = self.progress();
        (progress.clone(), keys.current())
    }

    /// Fetches in a task of its own, since what is asked through is somebody else's code.
    async fn fetch(self: &Arc<Self>) -> Result<Fetched, Fault> {
        let (known, remote) = (self.progress().discovered.clone(), Arc::clone(self));
        let mut task = JoinSet::new();
        task.spawn(async move { remote.asking.fetch(known).await });
        task.join_next().await.and_then(Result::ok).unwrap_or(Err(Fault::Panicked))
    }

    /// What has come takes the place of what was there.
    fn take(&self, keys: &Keys, fetched: Fetched, schedule: &mut Schedule) {
        let now = Instant::now();
        let (source, failed) = (self.asking.source.name(), schedule.failures());
        schedule.succeed(now, fetched.lifetime, &self.times, &self.chance);
        let mut progress = self.progress();
        if progress.skipped != fetched.keys.skipped() {
            progress.skipped = fetched.keys.skipped().to_vec();
            for skipped in &progress.skipped {
                tracing::warn!(%source, key = skipped.index, error = %skipped.error, "a key is left out");
            }
        }
        if progress.fetched.is_none() || failed > 0 {
            tracing::info!(%source, keys = fetched.keys.len(), "the keys are known");
        }
        progress.results[FetchResult::Success as usize] += 1;
        progress.fetched = Some(now);
        progress.last_error = None;
        progress.discovered = fetched.discovered;
        progress.schedule = Some(schedule.clone());
        // Under the same lock: whoever reads the one has the other.
        keys.replace(fetched.keys);
        keys.settle(schedule.settled(&self.times));
        drop(progress);
    }

    fn miss(&self, keys: &Keys, fault: &Fault, schedule: &mut Schedule) {
        let now = Instant::now();
        schedule.fail(now, &self.times, &self.chance);
        let (source, error) = (self.asking.source.name(), fault.line());
        let (failures, retry_in) = (schedule.failures(), schedule.due().saturating_duration_since(now));
        tracing::warn!(%source, error, failures, ?retry_in, "the keys were not fetched");
        let mut progress = self.progress();
        progress.results[fault.result() as usize] += 1;
        progress.last_error = Some(error.into());
        // Perhaps they have moved.
        progress.discovered = None;
        progress.schedule = Some(schedule.clone());
        keys.settle(None);
        drop(progress);
    }

    fn end(&self, keys: &Keys) {
        tracing::error!(source = self.asking.source.name(), "the keys are too old to be used any more");
        let mut progress = self.progress();
        keys.forget();
        progress.fetched = None;
        drop(progress);
    }
}

impl Keeper for Remote {
    fn start(self: Arc<Self>, keys: &WeakKeys) {
        let Ok(runtime) = Handle::try_current() else { return };
        self.task.get_or_init(|| runtime.spawn(keep(Arc::clone(&self), keys.clone())).abort_handle());
    }

    fn stop(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// Fetches again and again, until nobody uses the keys.
async fn keep(remote: Arc<Remote>, weak: WeakKeys) {
    let known = remote.progress().schedule.clone();
    let mut schedule = known.unwrap_or_else(|| Schedule::new(Instant::now()));
    loop {
        if schedule.is_hurried() {
            // What is asked for cannot come sooner.
            sleep_until(schedule.next()).await;
        } else if timeout_at(schedule.next(), weak.wanted()).await.is_ok() {
            schedule.hurry(&remote.times);
            continue;
        }
        let now = Instant::now();
        if schedule.ends(now)
            && let Some(keys) = weak.upgrade()
        {
            remote.end(&keys);
        }
        if !schedule.is_due(now) {
            continue;
        }
        schedule.begin(now);
        let fetched = remote.fetch().await;
        let Some(keys) = weak.upgrade() else { return };
        match fetched {
            Ok(fetched) => {
                remote.take(&keys, fetched, &mut schedule);
                // Who asked while it was fetched has been answered by it.
                let _ = timeout(Duration::ZERO, weak.wanted()).await;
            }
            Err(fault) => remote.miss(&keys, &fault, &mut schedule),
        }
        drop(keys);
        remote.ended.send_modify(|ended| *ended += 1);
    }
}
