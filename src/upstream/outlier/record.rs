use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    judge::{Cause, Grade, Results, grade},
    policy::Policy,
    watch::Watch,
};
use crate::outcome::Outcome;

/// Failures in a row of each kind.
#[derive(Debug, Default)]
struct Rows {
    failed: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
}

/// What is known of one endpoint: counted with each result, read and judged beside.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Record {
    watched: AtomicBool,
    rows: Rows,
    good: AtomicU64,
    failed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    watch: Weak<Watch>,
    ejection: Option<Ejection>,
    /// How often it was left out of late.
    times: u32,
}

#[derive(Debug, Clone, Copy)]
struct Ejection {
    cause: Cause,
    until: Instant,
}

/// That an endpoint is left out, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejected {
    /// Why.
    pub cause: Cause,
    /// How many times in a row.
    pub times: u32,
    /// For how much longer; it ends at the first look after that.
    pub left: Duration,
}

impl Record {
    /// Learns who watches from now on, if anybody does. The rows begin anew: they may be judged otherwise now.
    pub(super) fn watched_by(&self, watch: Option<&Arc<Watch>>) {
        let mut state = self.state();
        let watch = watch.map(Arc::downgrade).unwrap_or_default();
        if !state.watch.ptr_eq(&watch) {
            state.watch = watch;
            self.begin_anew();
        }
        let watched = state.watch.strong_count() > 0;
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Takes this for the one who watches, unless somebody else does.
    pub(super) fn is_watched_by(&self, watch: &Arc<Watch>) -> bool {
        let mut state = self.state();
        if state.watch.strong_count() == 0 {
            state.watch = Arc::downgrade(watch);
            self.watched.store(true, Ordering::Relaxed);
        }
        std::ptr::eq(state.watch.as_ptr(), Arc::as_ptr(watch))
    }

    /// Counts what became of a request.
    pub(in crate::upstream) fn count(&self, outcome: &Outcome) {
        if !self.watched.load(Ordering::Relaxed) {
            return;
        }
        match grade(outcome) {
            Some(Grade::Good) => {
                self.good.fetch_add(1, Ordering::Relaxed);
                self.rows.end();
            }
            Some(failure) => self.failed(failure),
            None => {}
        }
    }

    fn failed(&self, failure: Grade) {
        let Some(watch) = self.state().watch.upgrade() else { return };
        if self.rows.add(failure, watch.policy()) && !self.is_ejected() {
            watch.ring();
        }
        if failure != Grade::Local || watch.policy().local.is_none() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether one of its rows is too long; those begin anew.
    pub(super) fn too_many(&self, policy: &Policy) -> Option<Cause> {
        self.rows.longest(policy).inspect(|_| self.rows.end())
    }

    /// What there was since the last look.
    pub(super) fn take_results(&self) -> Results {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Results { good: take(&self.good), failed: take(&self.failed) }
    }

    /// Leaves it out, once more than before.
    pub(super) fn eject(&self, cause: Cause, now: Instant, time: impl FnOnce(u32) -> Duration) -> u32 {
        let mut state = self.state();
        state.times = state.times.saturating_add(1);
        let until = crate::time::after(now, time(state.times));
        state.ejection = Some(Ejection { cause, until });
        state.times
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.state().ejection.is_some()
    }

    /// Ends an ejection whose time is over. Who was not left out comes a step nearer to a clean record.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let mut state = self.state();
        match state.ejection {
            Some(Ejection { until, .. }) if until <= now => {
                state.ejection = None;
                self.begin_anew();
                true
            }
            Some(_) => false,
            None => {
                state.times = state.times.saturating_sub(1);
                false
            }
        }
    }

    /// Ends an ejection, and forgets those before. Whether there was one.
    pub(in crate::upstream) fn readmit(&self) -> bool {
        let mut state = self.state();
        state.times = 0;
        self.begin_anew();
        state.ejection.take().is_some()
    }

    /// As it is now.
    pub(in crate::upstream) fn ejected(&self, now: Instant) -> Option<Ejected> {
        let state = self.state();
        let Ejection { cause, until } = state.ejection?;
        Some(Ejected { cause, times: state.times, left: until.saturating_duration_since(now) })
    }

    fn begin_anew(&self) {
        self.rows.end();
        self.take_results();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Whether that makes one of them too long.
    fn add(&self, failure: Grade, policy: &Policy) -> bool {
        let apart = failure == Grade::Local && policy.local.is_some();
        let more = |row: &AtomicU32, goes_on: bool| match goes_on {
            true => drop(row.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1))),
            false => row.store(0, Ordering::Relaxed),
        };
        if apart {
            more(&self.local, true);
        } else {
            more(&self.failed, true);
            more(&self.gateway, matches!(failure, Grade::Gateway | Grade::Local));
            // It has answered, if with a failure.
            more(&self.local, failure == Grade::Local);
        }
        self.longest(policy).is_some()
    }

    fn longest(&self, policy: &Policy) -> Option<Cause> {
        let too_long = |row: &AtomicU32, most: Option<std::num::NonZeroU32>| {
            most.is_some_and(|most| row.load(Ordering::Relaxed) >= most.get())
        };
        if too_long(&self.gateway, policy.gateway) {
            Some(Cause::ConsecutiveGatewayFailure)
        } else if too_long(&self.local, policy.local) {
            Some(Cause::ConsecutiveLocalOriginFailure)
        } else if too_long(&self.failed, policy.consecutive) {
            Some(Cause::Consecutive5xx)
        } else {
            None
        }
    }

    /// Nothing is written where there is nothing to end, which is nearly always.
    fn end(&self) {
        for row in [&self.failed, &self.gateway, &self.local] {
            if row.load(Ordering::Relaxed) != 0 {
                row.store(0, Ordering::Relaxed);
            }
        }
    }
}
