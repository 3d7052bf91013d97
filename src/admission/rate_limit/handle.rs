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

    /// Where the account of this request stands in this process. Nothing is spent. A limit that is kept on Redis has its
    /// accounts there, and what is told here is what it counts while Redis does not decide.
    #[must_use]
    pub fn peek(&self, head: &mut Head<'_>) -> Standing {
        let limit = &*self.limit.0;
        let now = limit.ledger.now(head);
        let own = limit.judge_of(head);
        let judge = own.as_ref().unwrap_or(&limit.judge);
        let key = limit.terms.key.fingerprint(head, &limit.ledger.seed);
        let state = limit.ledger.store().open(key).look(limit.at(now, own.as_ref()));
        Standing {
            remaining: judge.remaining(state, now),
            more_in: Duration::from_nanos(judge.next_unit(state, now)),
            whole_in: Duration::from_nanos(judge.whole_in(state, now)),
        }
    }

    /// Makes the account of this request whole, in this process and not on Redis. An operator who has no request describes one: see [`Account`](super::Account).
    ///
    /// `false` if there is nothing to make whole, or if the account is not [held](super#when-it-is-full), so that what is
    /// known of it is also known of others.
    pub fn reset(&self, head: &mut Head<'_>) -> bool {
        let limit = &*self.limit.0;
        limit.ledger.store().open(limit.terms.key.fingerprint(head, &limit.ledger.seed)).remove()
    }

    /// The accounts that it holds. Some of them may be whole again, and will be forgotten as others come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.limit.0.ledger.store().len()
    }

    /// Whether it holds no account.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The accounts that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.limit.0.ledger.most.get() as usize
    }

    /// The bytes that its accounts take. It looks at each bucket: for operators, not for each request.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.limit.0.ledger.store().bytes()
    }

    /// How often an account that was not whole could not be held, or no longer, since the limit was full. If this
    /// grows, `max_keys` is too small, or there is a flood.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.limit.0.ledger.store().forgotten()
    }

    /// The requests that it has counted and let pass.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.limit.0.ledger.tally.admitted.read()
    }

    /// The requests that it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.limit.0.ledger.tally.refused.read()
    }

    /// The requests that it would have refused if it were not [in shadow](super::Charge::in_shadow).
    #[must_use]
    pub fn spared(&self) -> u64 {
        self.limit.0.ledger.tally.spared.read()
    }

    /// The requests that wait in front of a [leaky bucket](super::Algorithm::LeakyBucket).
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.limit.0.ledger.queues.waiting()
    }
}
