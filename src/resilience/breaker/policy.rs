use std::{fmt, num::NonZeroU32, sync::Arc};

use http::StatusCode;

use crate::{
    chance::Chance,
    key::Key,
    outcome::{Judgement, Outcome},
    reject::GrpcCode,
    trip,
};

const MOST_KEYS: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// When a breaker opens, for whom, and what it takes for a failure. See the [module docs](super).
///
/// A [`trip::Policy`] alone is one, of a breaker for all requests together.
#[derive(Debug, Clone)]
#[must_use]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) trip: trip::Policy,
    pub(super) judge: Judge,
    pub(super) by: Option<Key>,
    pub(super) max_keys: NonZeroU32,
    pub(super) in_shadow: bool,
    pub(super) chance: Chance,
}

impl Policy {
    /// A breaker that opens and closes as `trip` says.
    pub fn new(trip: trip::Policy) -> Self {
        Self {
            name: "breaker".into(),
            trip,
            judge: Judge { throttling_fails: false, cancelling_fails: false, own: None },
            by: None,
            max_keys: MOST_KEYS,
            in_shadow: false,
            chance: Chance::new(),
        }
    }

    /// When it opens and closes, in the place of what it was made with.
    pub fn trip(self, trip: trip::Policy) -> Self {
        Self { trip, ..self }
    }

    /// What it is called in events and logs; `breaker` unless told.
    pub fn name(self, name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// A breaker of its own for each key. One for all unless told.
    pub fn by(self, key: Key) -> Self {
        Self { by: Some(key), ..self }
    }

    /// The most keys that have one; 10,000 unless told. Those that have done well make room for others; where none has,
    /// the others go unguarded.
    pub fn max_keys(self, most: NonZeroU32) -> Self {
        Self { max_keys: most, ..self }
    }

    /// Whether 429 and `RESOURCE_EXHAUSTED` are failures; unless told they say nothing.
    pub fn throttling_fails(mut self, fails: bool) -> Self {
        self.judge.throttling_fails = fails;
        self
    }

    /// Whether a call that nobody waited for is a failure; unless told it says nothing, but for what the
    /// [module docs](super#what-is-a-failure) say of times.
    pub fn cancelling_fails(mut self, fails: bool) -> Self {
        self.judge.cancelling_fails = fails;
        self
    }

    /// What outcomes say, in the place of all that the [module docs](super#what-is-a-failure) say.
    pub fn judge(mut self, judge: impl Fn(&Outcome) -> Judgement + Send + Sync + 'static) -> Self {
        self.judge.own = Some(Arc::new(judge));
        self
    }

    /// Whether it only looks on: it decides and counts, and lets everything pass. `false` unless told.
    pub fn in_shadow(self, shadow: bool) -> Self {
        Self { in_shadow: shadow, ..self }
    }

    /// Where the jitter of its waits comes from.
    pub fn chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }
}

impl Default for Policy {
    /// By the [default](trip::Policy::new) of its machine.
    fn default() -> Self {
        Self::new(trip::Policy::new())
    }
}

impl From<trip::Policy> for Policy {
    fn from(trip: trip::Policy) -> Self {
        Self::new(trip)
    }
}

/// Tells what an outcome says.
#[derive(Clone)]
pub(super) struct Judge {
    throttling_fails: bool,
    pub(super) cancelling_fails: bool,
    pub(super) own: Option<Arc<Own>>,
}

type Own = dyn Fn(&Outcome) -> Judgement + Send + Sync;

impl Judge {
    /// Of one that was not cancelled. `is_probe`: an answer is an answer. `of_caller`: the caller has set its time.
    pub(super) fn of_ended(&self, outcome: &Outcome, is_probe: bool, of_caller: bool) -> Judgement {
        match outcome.judgement(of_caller) {
            Judgement::Neither if self.throttling_fails && is_throttled(outcome) => Judgement::Failure,
            Judgement::Neither if is_probe && outcome.is_told_to_caller() => Judgement::Success,
            judgement => judgement,
        }
    }
}

fn is_throttled(outcome: &Outcome) -> bool {
    let is_told = outcome.status == Some(StatusCode::TOO_MANY_REQUESTS)
        || outcome.grpc == Some(GrpcCode::RESOURCE_EXHAUSTED);
    is_told && outcome.is_told_to_caller()
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("throttling_fails", &self.throttling_fails)
            .field("cancelling_fails", &self.cancelling_fails)
            .field("own", &self.own.is_some())
            .finish()
    }
}
