use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use super::fleet::Fleet;
use crate::{ratio::Ratio, redis::Redis};

/// How long a decision may take, unless told.
const DEADLINE: Duration = Duration::from_millis(50);

/// How limits are kept on Redis, so that all instances of a gateway are held to them together. Clones are the same
/// instance. See the [module docs](crate::admission::rate_limit).
#[derive(Clone)]
#[must_use]
pub struct Distribution {
    pub(super) fleet: Arc<Fleet>,
    pub(super) fallback: Fallback,
    pub(super) deadline: Duration,
    pub(super) lease: Ratio,
    pub(super) floor: NonZeroU32,
    pub(super) remembered: Duration,
}

/// What becomes of requests while Redis does not decide in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// They pass.
    Allow,
    /// They are refused with 503.
    Deny,
    /// This instance counts alone, and holds everybody to the limit divided by the number of instances that were seen
    /// last. It begins with whole accounts. An instance that starts while Redis does not answer has seen no other: see
    /// [`at_least`](Distribution::at_least).
    #[default]
    LocalShare,
}

impl Distribution {
    /// The most instances that are counted.
    pub(crate) const MOST_INSTANCES: u32 = 200_000;

    /// On this server: each decision exact, within 50 ms, and a local share where there is none.
    pub fn on(redis: Redis) -> Self {
        let fleet = Arc::new(Fleet::new(redis));
        Self {
            fleet,
            fallback: Fallback::default(),
            deadline: DEADLINE,
            lease: Ratio::NEVER,
            floor: NonZeroU32::MIN,
            remembered: Duration::MAX,
        }
    }

    /// What becomes of requests while Redis does not decide.
    pub fn fallback(self, fallback: Fallback) -> Self {
        Self { fallback, ..self }
    }

    /// How long a decision may take, connecting included. Default: 50 ms.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Lets instances take units ahead and decide on their own: all of them together at most this share of what an account
    /// holds, which is also by how much a limit may be exceeded. Default: none, every decision is exact.
    pub fn lease(self, share: Ratio) -> Self {
        Self { lease: share, ..self }
    }

    /// How many instances there are at least, seen or not: none falls back to a larger share than it has among so many.
    /// Default: 1, so that instances which start while Redis does not answer hold everybody to the whole limit each.
    pub fn at_least(self, instances: NonZeroU32) -> Self {
        Self { floor: instances, ..self }
    }

    /// How long it is remembered at most that an account is refused, so that Redis is not asked: for accounts that are changed
    /// on Redis by others than instances of a gateway. With [`Duration::ZERO`] it is asked each time. Default: until its time
    /// has come.
    ///
    /// What instances do themselves they tell each other: within a second that an account is [made
    /// whole](crate::admission::rate_limit::DistributionHandle::reset), and within two that units have come back, since a
    /// request has cost less or a lease is not used. All that are refused by that limit are asked about again then, so where
    /// much comes back a refusal is remembered for no longer than that.
    pub fn remember_refusals(self, at_most: Duration) -> Self {
        Self { remembered: at_most, ..self }
    }

    /// The instances that were seen last; zero until the first is.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.fleet.seen()
    }
}

/// Two are the same if they are one instance on one server, and say the same.
impl PartialEq for Distribution {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.fleet, &other.fleet)
            && (self.fallback, self.deadline, self.lease) == (other.fallback, other.deadline, other.lease)
            && (self.floor, self.remembered) == (other.floor, other.remembered)
    }
}

impl Eq for Distribution {}

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Distribution")
            .field("redis", &self.fleet.redis)
            .field("fallback", &self.fallback)
            .field("deadline", &self.deadline)
            .field("lease", &self.lease)
            .field("floor", &self.floor)
            .field("remembered", &self.remembered)
            .finish()
    }
}
