use std::time::Duration;

use super::Limit;
use crate::head::Head;

/// A view of a limit's accounts, for operators and tests.
#[derive(Debug, Clone)]
pub struct RateLimitHandle {
    limit: Limit,
}

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Standing {
    /// The units that can be spent now.
    pub remaining: u32,
    /// When there will be one more; zero if the account is whole.
    pub more_in: Duration,
    /// When the account will be whole.
    pub whole_in: Duration,
}

impl RateLimitHandle {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Where the account of this request stands. Nothing is spent.
    #[must_use]
    pub fn peek(&self, head: &mut Head<'_>) -> Standing {
        let limit = &*self.limit.0;
        let now = limit.store.clock(head.now());
        let key = limit.terms.key.fingerprint(head, &limit.seed);
        let due = limit.store.open(key).due();
        let debt = due.saturating_sub(now).min(limit.quota.whole());
        Standing {
            remaining: limit.quota.remaining(debt),
            more_in: Duration::from_nanos(limit.quota.next_unit(debt)),
            whole_in: Duration::from_nanos(debt),
        }
    }

    /// The accounts that it holds. Some of them may be whole again, and will be forgotten as others come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.limit.0.store.len()
    }

    /// Whether it holds no account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The accounts that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limit.0.store.capacity()
    }

    /// The bytes that its accounts take. It looks at each bucket: for operators, not for each request.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.limit.0.store.bytes()
    }

    /// How often an account that was not whole could not be held, or no longer, since the limit was full. If this
    /// grows, `max_keys` is too small, or there is a flood.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.limit.0.store.forgotten()
    }

    /// The requests that it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.limit.0.store.refused()
    }
}
