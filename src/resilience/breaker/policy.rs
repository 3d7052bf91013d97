use std::{fmt, num::NonZeroU32, sync::Arc};

use http::StatusCode;

use crate::{
    chance::Chance,
    key::Key,
    outcome::{Outcome, Verdict},
    reject::{GrpcCode, Reason},
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

/// What an outcome says of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// It does well.
    Success,
    /// It fails.
    Failure,
    /// Nothing.
    Neither,
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
        let verdict = outcome.verdict();
        match outcome.reason {
            _ if verdict == Verdict::Success => return Judgement::Success,
            Some(reason) if of_server(reason) => return Judgement::Failure,
            // One of our own layers has refused it: nobody asked the server.
            Some(_) => return Judgement::Neither,
            None => {}
        }
        let is_late = outcome.status == Some(StatusCode::GATEWAY_TIMEOUT)
            || outcome.grpc == Some(GrpcCode::DEADLINE_EXCEEDED);
        let is_unknown = outcome.grpc == Some(GrpcCode::UNIMPLEMENTED);
        match verdict {
            Verdict::ServerFault if is_unknown || is_late && of_caller => Judgement::Neither,
            Verdict::ServerFault => Judgement::Failure,
            _ if is_throttled(outcome) && self.throttling_fails => Judgement::Failure,
            Verdict::CallerFault if is_probe && outcome.status.is_some() => Judgement::Success,
            _ => Judgement::Neither,
        }
    }
}

/// Whether it is the server's doing when a layer of ours says so.
const fn of_server(reason: Reason) -> bool {
    use Reason::{
        ConnectFailed, DeadlineExceeded, Internal, UpstreamProtocol, UpstreamReset, UpstreamTimeout,
    };
    matches!(
        reason,
        ConnectFailed | DeadlineExceeded | Internal | UpstreamProtocol | UpstreamReset | UpstreamTimeout
    )
}

fn is_throttled(outcome: &Outcome) -> bool {
    outcome.status == Some(StatusCode::TOO_MANY_REQUESTS)
        || outcome.grpc == Some(GrpcCode::RESOURCE_EXHAUSTED)
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
