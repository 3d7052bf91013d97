use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::shared::Shared;
use crate::{admission::rate_limit::Limit, trip::State};

/// A view of a limit that is kept on Redis.
#[derive(Clone)]
pub struct DistributionHandle(Arc<Shared>);

impl Limit {
    /// A view of how it is kept on Redis, if it is.
    #[must_use]
    pub fn distribution(&self) -> Option<DistributionHandle> {
        self.0.shared.clone().map(DistributionHandle)
    }
}

impl DistributionHandle {
    /// What Redis decided.
    #[must_use]
    pub fn by_redis(&self) -> u64 {
        self.0.counts.redis.load(Relaxed)
    }

    /// What was paid from units that were taken ahead.
    #[must_use]
    pub fn by_lease(&self) -> u64 {
        self.0.counts.lease.read()
    }

    /// What was refused without asking, since it was known to be refused.
    #[must_use]
    pub fn by_deny_cache(&self) -> u64 {
        self.0.counts.denied.read()
    }

    /// What fell to the [`Fallback`](super::Fallback).
    #[must_use]
    pub fn by_fallback(&self) -> u64 {
        self.0.counts.fallback.read()
    }

    /// How often Redis was asked and did not decide.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.counts.errors.load(Relaxed)
    }

    /// How long requests have waited for Redis, all together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_micros(self.0.counts.waited.load(Relaxed))
    }

    /// Whether Redis is asked.
    #[must_use]
    pub fn redis(&self) -> State {
        self.0.redis().state()
    }

    /// The instances that were seen last; zero until the first is.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.0.distribution.instances()
    }

    /// The accounts of which something is known here.
    #[must_use]
    pub fn known(&self) -> usize {
        self.0.known()
    }
}

impl fmt::Debug for DistributionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DistributionHandle")
            .field("by_redis", &self.by_redis())
            .field("by_lease", &self.by_lease())
            .field("by_deny_cache", &self.by_deny_cache())
            .field("by_fallback", &self.by_fallback())
            .field("errors", &self.errors())
            .finish_non_exhaustive()
    }
}
