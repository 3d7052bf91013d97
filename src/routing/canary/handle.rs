use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    State,
    rollout::{Moved, Rollout},
    shared::Inner,
    trial::Calls,
};
use crate::ratio::Ratio;

/// Shows where a [`Canary`](super::Canary) stands, and moves it. Clones are for the same one.
#[derive(Clone)]
pub struct CanaryHandle(pub(super) Arc<Inner>);

/// A canary has ended: `restart` it, or say `promote` or `abort`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the canary has ended: it is {}", .0.label())]
pub struct Ended(pub State);

/// Where a canary stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// What it is at.
    pub state: State,
    /// Which of the steps, counted from 1; 0 while the new version has nothing.
    pub step: usize,
    /// How many there are.
    pub steps: usize,
    /// The new version's share.
    pub share: Ratio,
    /// How long it has been so.
    pub since: Duration,
    /// Calls of the old version that were compared in this step.
    pub old: Calls,
    /// Calls of the new version.
    pub new: Calls,
    /// Calls that take longer are slow, if that is compared and known.
    pub slow: Option<Duration>,
    /// Whether the new version was found to be no worse in this step by the margins.
    pub is_fine: bool,
}

impl CanaryHandle {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let (rollout, policy) = (self.0.rollout(), &self.0.policy);
        let trial = rollout.trial();
        Status {
            state: rollout.state(),
            step: rollout.at(),
            steps: policy.last(),
            share: policy.shares[rollout.at()],
            since: rollout.began().elapsed(),
            old: trial.old,
            new: trial.new,
            slow: rollout.bound().now(),
            is_fine: trial.is_fine(policy),
        }
    }

    /// How often it was rolled back.
    #[must_use]
    pub fn rollbacks(&self) -> u64 {
        self.0.rollbacks()
    }

    /// Stays at its step until it is told to [resume](Self::resume). It is still rolled back if the new version is worse.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn pause(&self) -> Result<(), Ended> {
        self.change(|rollout, _| (rollout.pause().is_some(), None))
    }

    /// Goes on by itself.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resume(&self) -> Result<(), Ended> {
        self.change(|rollout, now| {
            let resumed = rollout.resume(now);
            (resumed.is_some(), resumed.flatten())
        })
    }

    /// Goes to the next step now, whatever is known of this one.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn advance(&self) -> Result<(), Ended> {
        self.change(|rollout, now| {
            let moved = rollout.advance(now);
            (moved.is_some(), moved)
        })
    }

    /// Gives the new version all calls at once, from wherever it stands.
    pub fn promote(&self) {
        self.0.change(|rollout, now| Some(rollout.promote(now)));
    }

    /// Takes all calls from the new version at once, from wherever it stands.
    pub fn abort(&self) {
        self.0.change(|rollout, now| Some(rollout.abort(now)));
    }

    /// Begins anew.
    pub fn restart(&self) {
        self.0.change(|rollout, now| Some(rollout.restart(now)));
    }

    fn change(&self, how: impl FnOnce(&mut Rollout, Instant) -> (bool, Option<Moved>)) -> Result<(), Ended> {
        let mut ended = None;
        self.0.change(|rollout, now| {
            let (done, moved) = how(rollout, now);
            ended = (!done).then(|| rollout.state());
            moved
        });
        ended.map_or(Ok(()), |state| Err(Ended(state)))
    }
}

impl fmt::Debug for CanaryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CanaryHandle").field(&self.status()).finish()
    }
}
