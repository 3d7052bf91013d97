use std::{sync::Arc, time::Duration};

use http::{HeaderName, Request, StatusCode};

use super::{
    handle::{Counts, RetryHandle},
    on::{Cases, Conditions, RetryOn},
};
use crate::{
    backoff::Backoff,
    chance::Chance,
    resilience::{
        again::{LEAST_LEFT, is_repeatable},
        budget::Budget,
    },
    time::WallClock,
};

/// What is tried again, how often and when. See the [module docs](super). Clones share the budget and the numbers.
#[derive(Debug, Clone)]
#[must_use]
pub struct Policy {
    pub(super) retries: u32,
    pub(super) conditions: Conditions,
    pub(super) any_method: bool,
    pub(super) budget: Budget,
    pub(super) backoff: Backoff,
    pub(super) least_wait: Duration,
    pub(super) most_wait: Duration,
    /// As it was told.
    least_left: Option<Duration>,
    pub(super) most_body: usize,
    pub(super) attempt_header: Option<HeaderName>,
    pub(super) chance: Chance,
    pub(super) clock: WallClock,
    pub(super) counts: Arc<Counts>,
}

impl Policy {
    /// So many attempts beside the first. What else it is by default is told at each method.
    pub fn new(retries: u32) -> Self {
        Self {
            retries,
            conditions: Conditions {
                on: Cases::of(&[
                    RetryOn::ConnectFailure,
                    RetryOn::GatewayError,
                    RetryOn::RefusedStream,
                    RetryOn::Reset,
                    RetryOn::Unavailable,
                ]),
                codes: Vec::new(),
                headers: Vec::new(),
            },
            any_method: false,
            budget: Budget::default(),
            backoff: Backoff::default(),
            least_wait: Duration::ZERO,
            most_wait: Duration::from_secs(1),
            least_left: None,
            most_body: 64 * 1024,
            attempt_header: None,
            chance: Chance::new(),
            clock: WallClock::system(),
            counts: Arc::default(),
        }
    }

    /// In which cases, in the place of `connect-failure`, `gateway-error`, `refused-stream`, `reset` and `unavailable`.
    pub fn on(mut self, on: impl IntoIterator<Item = RetryOn>) -> Self {
        self.conditions.on = on.into_iter().collect();
        self
    }

    /// And with these statuses.
    pub fn codes(mut self, codes: impl IntoIterator<Item = StatusCode>) -> Self {
        self.conditions.codes.extend(codes);
        self
    }

    /// And if the response has this header.
    pub fn header(mut self, name: HeaderName) -> Self {
        self.conditions.headers.push(name);
        self
    }

    /// What all of its second attempts together are bound by; a [`Budget`] of its own with 20% of the calls and 10 a second
    /// unless told. One that [allows nothing](Budget::is_zero) contradicts the policy, and a gateway refuses it.
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// How long it waits: 25 ms growing to 250 ms, with full jitter, unless told.
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Waits at least so long, and what [`backoff`](Self::backoff) says on top of it: a Gateway API back-off is a minimum.
    /// Nothing unless told.
    pub fn least_wait(self, least: Duration) -> Self {
        Self { least_wait: least, ..self }
    }

    /// The longest time for which a server can ask. Asked for more, it does not try again, and the caller is told what the
    /// server said. 1 second unless told: what waits holds its caller's connection, and all places outside of the retry.
    pub fn most_wait(self, most: Duration) -> Self {
        Self { most_wait: most, ..self }
    }

    /// An attempt is not begun with less than this left of the request's [deadline](crate::context::Deadline). 10 ms unless
    /// told.
    pub fn least_left(self, least: Duration) -> Self {
        Self { least_left: Some(least), ..self }
    }

    /// The longest body that is kept to be sent again, in bytes. A longer one is sent once. 64 KiB unless told.
    pub fn most_body(self, bytes: usize) -> Self {
        Self { most_body: bytes, ..self }
    }

    /// Tells the server in this header which attempt it is: 1 for the first. Those of a [hedge](crate::resilience::hedge)
    /// inside are counted along, so that no two have one number. It is not told unless there is one.
    pub fn attempt_header(self, name: HeaderName) -> Self {
        Self { attempt_header: Some(name), ..self }
    }

    /// Tries again whatever the method is, and without an idempotency key. Then a server may do twice what it was asked
    /// once: charge an account, send a message. It is for calls of which you know that they can be repeated, as gRPC calls
    /// that only read, which are all `POST`.
    pub fn danger_any_method(self) -> Self {
        Self { any_method: true, ..self }
    }

    /// Where jitter comes from.
    pub fn chance(self, chance: Chance) -> Self {
        Self { chance, ..self }
    }

    /// The clock by which dates in `Retry-After` are read.
    pub fn clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// Goes on with the numbers of another policy, in whose place it is put.
    pub fn counted_by(self, handle: &RetryHandle) -> Self {
        Self { counts: Arc::clone(&handle.counts), ..self }
    }

    /// How many attempts there may be beside the first.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// What its second attempts are bound by.
    pub const fn shared_budget(&self) -> &Budget {
        &self.budget
    }

    /// The header in which the server is told which attempt it is.
    #[must_use]
    pub const fn told_in(&self) -> Option<&HeaderName> {
        self.attempt_header.as_ref()
    }

    /// What calls under this policy have come to.
    #[must_use]
    pub fn handle(&self) -> RetryHandle {
        RetryHandle { counts: Arc::clone(&self.counts), budget: self.budget.clone() }
    }

    /// The least that is waited for, and what is to be left of a call's time for an attempt, if that was told.
    #[cfg(feature = "stack")]
    pub(crate) const fn least_times(&self) -> (Duration, Option<Duration>) {
        (self.least_wait, self.least_left)
    }

    /// An attempt is not begun with less than this left.
    pub(super) fn time_needed(&self) -> Duration {
        self.least_left.unwrap_or(LEAST_LEFT)
    }

    /// Whether a request may be done twice.
    pub(super) fn is_safe<B>(&self, request: &Request<B>) -> bool {
        self.any_method || is_repeatable(request)
    }

    /// How long to wait before this retry, if the server has asked for `told`. `None`: longer than it may ask.
    pub(super) fn wait(&self, retry: u32, told: Option<Duration>) -> Option<Duration> {
        let own = self.least_wait.saturating_add(self.backoff.delay(retry, &self.chance));
        let Some(told) = told else { return Some(own) };
        if told > self.most_wait {
            return None;
        }
        // Those who were told the same do not all come at once.
        let half = u64::try_from(told.as_nanos() / 2).unwrap_or(u64::MAX);
        Some(own.max(told.saturating_add(Duration::from_nanos(self.chance.below(half)))))
    }
}

impl Default for Policy {
    /// Two attempts beside the first.
    fn default() -> Self {
        Self::new(2)
    }
}
