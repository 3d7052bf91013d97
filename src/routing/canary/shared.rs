use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{
    CanaryHandle, Policy, State, Version,
    rollout::{Moved, Rollout},
    trial::Call,
    watch::Watch,
};
use crate::{
    gate::{GateLayer, Gated},
    ratio::Ratio,
    routing::split::{InvalidSplit, Split},
};

/// Gives a new version more and more of the calls, as long as it is no worse. See the [module docs](super). Clones are the
/// same canary.
#[derive(Clone)]
pub struct Canary(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) name: Arc<str>,
    pub(super) policy: Policy,
    /// Where in the shares, and the epoch, in one word: who picks a version and who watches it read no more than this.
    place: AtomicU64,
    rollout: Mutex<Rollout>,
    rollbacks: AtomicU64,
}

impl Canary {
    /// A canary that begins now, by this policy. `name` is what it is called in the log: the rule's, say.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, policy: Policy) -> Self {
        let rollout = Rollout::new(policy.clone(), Instant::now());
        let place = AtomicU64::new(place(&rollout));
        let (name, rollout) = (name.into(), Mutex::new(rollout));
        Self(Arc::new(Inner { name, policy, place, rollout, rollbacks: AtomicU64::new(0) }))
    }

    /// Shows and moves it.
    #[must_use]
    pub fn handle(&self) -> CanaryHandle {
        CanaryHandle(Arc::clone(&self.0))
    }

    /// By what policy.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// Whether it is the same canary.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Divides calls between the two versions of `split`, the old one first, as the canary has it then, and watches them.
    /// The weights of `split` mean nothing any more; who has which part of the circle does.
    ///
    /// # Errors
    ///
    /// If there are not two versions.
    pub fn over<S>(&self, split: &Split<S>) -> Result<Split<Gated<S, Watch>>, InvalidSplit>
    where
        S: Clone,
    {
        let mut version = Version::Old;
        Ok(split.steered(self.clone())?.map(|service| {
            let watch = self.watch(version);
            version = Version::New;
            watch.layer(service.clone())
        }))
    }

    /// Watches what becomes of the calls of one version.
    #[must_use]
    pub fn watch(&self, version: Version) -> GateLayer<Watch> {
        GateLayer::new(Watch::new(self.clone(), version))
    }

    /// Whether the point of the circle is the new version's. Its part begins at a half and grows upwards and around, as
    /// that of the second of two variants does: whoever it has had it keeps as long as it grows.
    pub(crate) fn is_new(&self, point: u64) -> bool {
        let (at, _) = self.0.place();
        self.0.policy.shares.get(at).copied().unwrap_or(Ratio::NEVER).admits(point.wrapping_sub(1 << 63))
    }

    /// The epoch, while versions are compared.
    pub(super) fn epoch(&self) -> Option<u32> {
        let (at, epoch) = self.0.place();
        self.0.policy.is_trial(at).then_some(epoch)
    }

    pub(super) fn ended(&self, version: Version, epoch: u32, call: Call) {
        self.0.change(|rollout, now| rollout.ended(version, epoch, call, now));
    }
}

impl Inner {
    pub(super) fn rollout(&self) -> MutexGuard<'_, Rollout> {
        self.rollout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> (usize, u32) {
        let place = self.place.load(Ordering::Relaxed);
        ((place >> 32) as usize, place as u32)
    }

    /// Does something with it, and tells of it if it has moved.
    pub(super) fn change(&self, how: impl FnOnce(&mut Rollout, Instant) -> Option<Moved>) {
        let moved = {
            let mut rollout = self.rollout();
            let moved = how(&mut rollout, Instant::now());
            if moved.is_some() {
                self.place.store(place(&rollout), Ordering::Relaxed);
            }
            moved
        };
        if let Some(moved) = moved {
            if matches!(moved.state, State::RolledBack(_)) {
                self.rollbacks.fetch_add(1, Ordering::Relaxed);
            }
            self.log(&moved);
        }
    }

    pub(super) fn rollbacks(&self) -> u64 {
        self.rollbacks.load(Ordering::Relaxed)
    }

    fn log(&self, moved: &Moved) {
        let Moved { from, to, state, old, new } = moved;
        let [before, share] = [from, to].map(|at| self.policy.shares[*at].to_string());
        let why = if let State::RolledBack(worse) = state { Some(worse.label()) } else { None };
        macro_rules! tell {
            ($level:ident, $what:literal) => {
                tracing::$level!(
                    target: "portcullis::canary",
                    canary = &*self.name,
                    state = state.label(),
                    worse = why,
                    before,
                    share,
                    old_calls = old.calls,
                    old_failed = old.failed,
                    old_slow = old.slow,
                    new_calls = new.calls,
                    new_failed = new.failed,
                    new_slow = new.slow,
                    $what
                )
            };
        }
        match state {
            State::RolledBack(_) => tell!(warn, "the new version is worse: rolled back"),
            _ => tell!(info, "the canary has moved"),
        }
    }
}

fn place(rollout: &Rollout) -> u64 {
    (rollout.at() as u64) << 32 | u64::from(rollout.epoch())
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canary").field("name", &self.0.name).field("status", &self.handle().status()).finish()
    }
}
