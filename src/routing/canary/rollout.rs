//! Where a canary stands, and what moves it: decisions only.

use tokio::time::Instant;

use super::{
    Policy, Version,
    trial::{Bound, Call, Calls, Trial, Worse},
};

/// What a canary is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// It goes on to the next step by itself.
    Running,
    /// It stays at its step. If the new version is found worse, it is rolled back nevertheless.
    Paused,
    /// The new version has all calls.
    Promoted,
    /// The new version has none, because it was found worse.
    RolledBack(Worse),
    /// The new version has none, because somebody said so.
    Aborted,
}

impl State {
    /// The words for it in logs and metrics: stable.
    pub const LABELS: &'static [&'static str] = &["running", "paused", "promoted", "rolled_back", "aborted"];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Promoted => "promoted",
            Self::RolledBack(_) => "rolled_back",
            Self::Aborted => "aborted",
        }
    }

    /// Whether nothing moves it any more but somebody's word.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Promoted | Self::RolledBack(_) | Self::Aborted)
    }
}

/// It has moved, and what was known then of the step that it has left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moved {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) state: State,
    pub(super) old: Calls,
    pub(super) new: Calls,
}

#[derive(Debug)]
pub(super) struct Rollout {
    policy: Policy,
    state: State,
    /// Where in the shares.
    at: usize,
    /// Counts the moves: a call that began before one says nothing about what is now.
    epoch: u32,
    began: Instant,
    trial: Trial,
    bound: Bound,
}

impl Rollout {
    pub(super) fn new(policy: Policy, now: Instant) -> Self {
        let (trial, bound) = (Trial::new(&policy), Bound::new(policy.slow));
        let mut rollout = Self { state: State::Paused, at: 0, epoch: 0, began: now, trial, bound, policy };
        if !rollout.policy.paused {
            rollout.state = State::Running;
            rollout.go(1, now);
        }
        rollout
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    pub(super) const fn trial(&self) -> &Trial {
        &self.trial
    }

    pub(super) const fn bound(&self) -> &Bound {
        &self.bound
    }

    /// A call of this version has ended that began in the step of this `epoch`.
    pub(super) fn ended(&mut self, version: Version, epoch: u32, call: Call, now: Instant) -> Option<Moved> {
        if epoch != self.epoch || !self.policy.is_trial(self.at) {
            return None;
        }
        let slow = self.bound.is_slow(call.took);
        if call.given_up && !slow {
            return None;
        }
        self.trial.add(version, call.failed, slow);
        if version == Version::Old {
            self.bound.learn(call.took);
        }
        if let Some(worse) = self.trial.worse(&self.policy) {
            self.state = State::RolledBack(worse);
            return Some(self.go(0, now));
        }
        let lasted = now.saturating_duration_since(self.began) >= self.policy.least_time;
        let enough = lasted && self.trial.new.calls >= self.policy.least_calls;
        let advances = self.state == State::Running && enough && self.trial.is_fine(&self.policy);
        advances.then(|| self.go(self.at + 1, now))
    }

    /// Stays where it is. `None`: it has ended.
    pub(super) fn pause(&mut self) -> Option<State> {
        self.set(State::Paused)
    }

    /// Goes on by itself: from nothing to the first step.
    pub(super) fn resume(&mut self, now: Instant) -> Option<Option<Moved>> {
        self.set(State::Running)?;
        Some((self.at == 0).then(|| self.go(1, now)))
    }

    fn set(&mut self, state: State) -> Option<State> {
        (!self.state.has_ended()).then(|| std::mem::replace(&mut self.state, state))
    }

    /// To the next step, whatever is known of this one. `None`: it has ended.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Moved> {
        (!self.state.has_ended()).then(|| self.go(self.at + 1, now))
    }

    /// All calls to the new version, at once.
    pub(super) fn promote(&mut self, now: Instant) -> Moved {
        self.go(self.policy.last(), now)
    }

    /// No calls to the new version, at once.
    pub(super) fn abort(&mut self, now: Instant) -> Moved {
        self.state = State::Aborted;
        self.go(0, now)
    }

    /// From the beginning.
    pub(super) fn restart(&mut self, now: Instant) -> Moved {
        self.bound = Bound::new(self.policy.slow);
        self.state = if self.policy.paused { State::Paused } else { State::Running };
        self.go(usize::from(!self.policy.paused), now)
    }

    fn go(&mut self, to: usize, now: Instant) -> Moved {
        let from = self.at;
        if to == self.policy.last() {
            self.state = State::Promoted;
        }
        let moved = Moved { from, to, state: self.state, old: self.trial.old, new: self.trial.new };
        (self.at, self.epoch, self.began) = (to, self.epoch.wrapping_add(1), now);
        self.trial = Trial::new(&self.policy);
        moved
    }
}
