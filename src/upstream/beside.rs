//! What goes on beside the requests to an upstream: its source is followed, its endpoints are asked and judged.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use tokio::{sync::watch, task::JoinSet};

use super::{
    ahead::Ahead,
    availability::Withheld,
    balance::Seat,
    group::Group,
    health::Checks,
    member::Member,
    outlier::Watch,
    resolve::Resolve,
    source::{EndpointSource, Followed, Heard, Names},
};
use crate::{chance::Chance, task::Task};

/// One task begins with the first request, or before it, and ends with the upstream.
pub(super) struct Beside {
    pub(super) outliers: Option<Arc<Watch>>,
    pub(super) checks: Option<Arc<Checks>>,
    pub(super) ahead: Option<Arc<Ahead>>,
    /// And who knows the addresses of the host names that it tells.
    pub(super) source: Option<(Arc<dyn EndpointSource>, Arc<dyn Resolve>)>,
    pub(super) heard: Heard,
    chance: Chance,
    /// Goes up with each set.
    sets: watch::Sender<u64>,
    /// How many words of the source there were, and the last that was taken.
    words: AtomicU64,
    taken: Mutex<u64>,
    task: Task,
    /// Nothing goes on, now and later.
    idle: AtomicBool,
}

impl Beside {
    pub(super) fn new(
        outliers: Option<Arc<Watch>>,
        checks: Option<Arc<Checks>>,
        ahead: Option<Arc<Ahead>>,
        source: Option<(Arc<dyn EndpointSource>, Arc<dyn Resolve>)>,
        chance: Chance,
    ) -> Self {
        let (heard, sets, task) = (Heard::default(), watch::Sender::new(0), Task::default());
        let (words, taken, idle) = (AtomicU64::new(0), Mutex::new(0), AtomicBool::new(false));
        Self { outliers, checks, ahead, source, heard, chance, sets, words, taken, task, idle }
    }

    /// Whether what becomes of requests is to be told.
    pub(super) fn listens(&self) -> bool {
        self.outliers.is_some()
    }

    /// The checks whose first answers requests have to wait for.
    pub(super) fn awaited(&self) -> Option<&Arc<Checks>> {
        self.checks.as_ref().filter(|checks| checks.are_awaited())
    }

    /// This one is looked after from now on; `shared` with requests of a predecessor that lives, or not.
    pub(super) fn adopt(&self, member: &Member, shared: bool) {
        Watch::adopt(self.outliers.as_ref(), member);
        Checks::adopt(self.checks.as_ref(), member, shared);
        if self.ahead.is_none() {
            member.withhold(Withheld::Connecting, false);
        }
    }

    /// This one is new beside others that take requests: it takes none before there is a connection to it.
    pub(super) fn hold_back(&self, member: &Member) {
        if self.ahead.is_some() {
            member.withhold(Withheld::Connecting, true);
        }
    }

    fn has_work(&self) -> bool {
        self.outliers.is_some() || self.checks.is_some() || self.ahead.is_some() || self.source.is_some()
    }

    /// The number of a further word of the source.
    pub(super) fn next_word(&self) -> u64 {
        self.words.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The turn to take this word, unless a later one has been taken.
    pub(super) fn turn(&self, word: u64) -> Option<MutexGuard<'_, u64>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken >= word {
            return None;
        }
        *taken = word;
        Some(taken)
    }

    /// There is another set, or word of none.
    pub(super) fn changed(&self) {
        self.sets.send_modify(|set| *set += 1);
    }

    /// Waits until a source has said something.
    pub(super) async fn first_word(&self) {
        let mut sets = self.sets.subscribe();
        while self.source.is_some() && self.heard.is_silent() {
            // It lives as long as this.
            let _ = sets.changed().await;
        }
    }

    /// There is a request, or will be one soon.
    pub(super) fn begin(&self, group: &Arc<Group>) {
        if let Some(checks) = &self.checks {
            checks.want();
        }
        self.begin_early(group);
    }

    pub(super) fn begin_early(&self, group: &Arc<Group>) {
        if self.idle.load(Ordering::Relaxed) || self.task.runs() {
            return;
        }
        if !self.has_work() {
            // What a predecessor has said of its endpoints is over.
            self.idle.store(true, Ordering::Relaxed);
            group.adopt_all();
            return;
        }
        self.task.begin(|| {
            group.adopt_all();
            look_after(Arc::downgrade(group), self.sets.subscribe())
        });
    }
}

/// Ends when the group is gone, or one of the jobs is lost, and all of them with it.
async fn look_after(group: Weak<Group>, mut sets: watch::Receiver<u64>) {
    let mut jobs = JoinSet::new();
    if let Some(strong) = group.upgrade() {
        let members = || {
            let group = Weak::clone(&group);
            move || Some(group.upgrade()?.members())
        };
        let Beside { outliers, checks, ahead, source, chance, .. } = &strong.beside;
        if let Some(watch) = outliers.clone() {
            let members = members();
            let owner = Arc::downgrade(strong.roster.owner());
            let own = move || {
                let (mut members, owner) = (members()?, owner.upgrade()?);
                members.retain(|member| member.owner().is(&owner));
                Some(members)
            };
            jobs.spawn(async move { watch.run(own).await });
        }
        if let Some(checks) = checks.clone() {
            jobs.spawn(checks.run(members(), Arc::downgrade(strong.roster.owner()), sets.clone()));
        }
        if let Some(ahead) = ahead.clone() {
            jobs.spawn(ahead.run(members(), sets.clone()));
        }
        if let Some((source, resolver)) = source.clone() {
            let before = strong.roster.plan();
            let names = Names::new(resolver, chance.clone(), before.seats.iter().map(Seat::place));
            let followed = Followed::new(source, names, chance.clone());
            jobs.spawn(follow(Weak::clone(&group), followed));
        }
    }
    let mut gone = pin!(async { while sets.changed().await.is_ok() {} });
    let lost = poll_fn(|cx| match jobs.poll_join_next(cx) {
        Poll::Ready(Some(_)) => Poll::Ready(true),
        _ => gone.as_mut().poll(cx).map(|()| false),
    });
    if lost.await {
        tracing::error!("what goes on beside an upstream was lost; the next request begins it anew");
    }
}

async fn follow(group: Weak<Group>, mut source: Followed) {
    loop {
        let told = source.next().await;
        let Some(group) = group.upgrade() else { return };
        group.take(told).await;
    }
}
