#[cfg(feature = "redis")]
use std::sync::Arc;
use std::{num::NonZeroU32, path::PathBuf, time::Duration};

#[cfg(feature = "redis")]
use crate::redis::Redis;

/// The accounts that are held in memory unless told otherwise.
const MAX_KEYS: NonZeroU32 = NonZeroU32::new(250_000).unwrap();
/// How often a file is written unless told otherwise.
const EVERY: Duration = Duration::from_secs(1);
/// How long Redis may take to decide unless told otherwise.
#[cfg(feature = "redis")]
const DEADLINE: Duration = Duration::from_millis(50);

/// Where a quota keeps its counters. See the [module docs](super#where-counters-are-kept).
#[derive(Clone, Debug)]
#[must_use]
pub struct QuotaStore {
    pub(super) kind: Kind,
    pub(super) fallback: QuotaFallback,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Memory {
        most: NonZeroU32,
        file: Option<(PathBuf, Duration)>,
    },
    #[cfg(feature = "redis")]
    Redis {
        redis: Arc<Redis>,
        deadline: Duration,
    },
}

/// What becomes of requests while counters cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QuotaFallback {
    /// They pass uncounted. [`QuotaHandle::uncounted`](super::QuotaHandle::uncounted) tells how many.
    #[default]
    Allow,
    /// They are refused with [`LimitUnavailable`](crate::reject::Reason::LimitUnavailable).
    Deny,
}

impl QuotaStore {
    const fn of(kind: Kind) -> Self {
        Self { kind, fallback: QuotaFallback::Allow }
    }

    /// In this process, as long as it lives.
    pub const fn memory() -> Self {
        Self::of(Kind::Memory { most: MAX_KEYS, file: None })
    }

    /// In this process, and in a file from which the next one goes on. The file is another's than any other quota's, and
    /// one process has it at a time.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Memory { most: MAX_KEYS, file: Some((path.into(), EVERY)) })
    }

    /// On a Redis server, for all instances that ask it.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn redis(redis: Redis) -> Self {
        Self::of(Kind::Redis { redis: Arc::new(redis), deadline: DEADLINE })
    }

    /// The accounts held in memory at most; 250,000 unless told. It is nothing to Redis.
    pub fn max_keys(mut self, accounts: NonZeroU32) -> Self {
        match &mut self.kind {
            Kind::Memory { most, .. } => *most = accounts,
            #[cfg(feature = "redis")]
            Kind::Redis { .. } => {}
        }
        self
    }

    /// How often the file is written while something is spent: what is lost if the process is killed. A second unless
    /// told, and at least ten times as long as writing takes.
    pub fn every(mut self, time: Duration) -> Self {
        if let Kind::Memory { file: Some((_, every)), .. } = &mut self.kind {
            *every = time;
        }
        self
    }

    /// How long Redis may take to decide; 50 ms unless told. After that the request is treated as in an outage.
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    pub fn deadline(mut self, time: Duration) -> Self {
        if let Kind::Redis { deadline, .. } = &mut self.kind {
            *deadline = time;
        }
        self
    }

    /// What becomes of requests while counters cannot be asked: Redis does not answer, or the file cannot be read. They
    /// pass unless told.
    pub fn fallback(mut self, fallback: QuotaFallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Whether both keep the same counters.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            // The first word on how many and how often stands while the process lives.
            (Kind::Memory { file, .. }, Kind::Memory { file: other, .. }) => {
                file.as_ref().map(|(path, _)| path) == other.as_ref().map(|(path, _)| path)
            }
            #[cfg(feature = "redis")]
            (Kind::Redis { redis, deadline }, Kind::Redis { redis: other, deadline: others }) => {
                Arc::ptr_eq(redis, other) && deadline == others
            }
            #[cfg(feature = "redis")]
            _ => false,
        }
    }
}
