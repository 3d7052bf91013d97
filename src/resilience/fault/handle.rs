use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use super::policy::{Plan, Then};

/// What faults were injected, and the switch that ends it at once. Clones share both.
#[derive(Debug, Clone)]
pub struct FaultHandle(pub(super) Arc<State>);

#[derive(Debug, Default)]
pub(super) struct State {
    stopped: AtomicBool,
    delayed: AtomicU64,
    aborted: AtomicU64,
    reset: AtomicU64,
    throttled: AtomicU64,
}

impl State {
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    pub(super) fn count(&self, plan: Plan) {
        if plan.delay.is_some() {
            self.delayed.fetch_add(1, Relaxed);
        }
        let count = match plan.then {
            None => return,
            Some(Then::Abort(_)) => &self.aborted,
            Some(Then::Reset) => &self.reset,
            Some(Then::Throttle(_)) => &self.throttled,
        };
        count.fetch_add(1, Relaxed);
    }
}

impl FaultHandle {
    /// No request is hit from now on, by chance or by header. What is held back goes on when its time has come.
    pub fn stop(&self) {
        self.0.stopped.store(true, Relaxed);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.0.stopped.store(false, Relaxed);
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }

    /// Requests that were held back.
    #[must_use]
    pub fn delayed(&self) -> u64 {
        self.0.delayed.load(Relaxed)
    }

    /// Requests that were answered instead of served.
    #[must_use]
    pub fn aborted(&self) -> u64 {
        self.0.aborted.load(Relaxed)
    }

    /// Requests that were broken off.
    #[must_use]
    pub fn reset(&self) -> u64 {
        self.0.reset.load(Relaxed)
    }

    /// Responses whose bodies were given slowly.
    #[must_use]
    pub fn throttled(&self) -> u64 {
        self.0.throttled.load(Relaxed)
    }
}
