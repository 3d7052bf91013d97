//! How upstreams are called, by a rule of a gateway and by a mesh client.
use std::time::Duration;

use http::HeaderName;
use tower_layer::Layer;

use crate::{
    resilience::{
        budget::Budget,
        deadline::{ReadDeadline, TellDeadline},
        fault::{self, FaultLayer},
        hedge::{self, Hedge, HedgeLayer},
        retry::{self, Retry, RetryLayer},
        timeout::TimeoutLayer,
    },
    routing::mirror,
};

/// What is said of calls, and of their attempts.
#[derive(Debug, Clone)]
pub(super) struct Calling {
    pub(super) timeout: TimeoutLayer,
    pub(super) attempt_timeout: TimeoutLayer,
    pub(super) deadline_header: Option<HeaderName>,
    pub(super) deadline_margin: Duration,
    pub(super) retry: Option<retry::Policy>,
    pub(super) hedge: Option<hedge::Policy>,
    pub(super) fault: Option<fault::Policy>,
}

/// Why something cannot be called as was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// An attempt may take longer than the whole call.
    #[error("an attempt may take longer than the whole call")]
    AttemptTimeout,
    /// A second attempt is sent when the first may not last any longer.
    #[error("a second attempt would be sent later than the first may take")]
    LateHedge,
    /// What is to be waited before an attempt is tried again takes the time of the whole call.
    #[error("a retry would wait as long as the whole call may take")]
    LateRetry,
    /// There are to be second attempts, and the budget allows none.
    #[error("the budget of its second attempts allows none")]
    NoBudget,
    /// An attempt beside the first is begun only with as much time left as the whole call has.
    #[error("an attempt beside the first needs as much time as the whole call may take")]
    NoTimeLeft,
}

/// The setters of a builder that has a `calling`.
macro_rules! calling_setters {
    () => {
        /// How long the whole may take, with all its attempts: a time, or a
        /// [`TimeoutLayer`](crate::resilience::timeout::TimeoutLayer) that says more. A time alone bounds gRPC calls to their
        /// last byte.
        pub fn timeout(mut self, timeout: impl Into<$crate::resilience::timeout::TimeoutLayer>) -> Self {
            self.calling.timeout = timeout.into();
            self
        }

        /// How long each attempt may take. No limit of its own unless told.
        pub fn attempt_timeout(
            mut self,
            timeout: impl Into<$crate::resilience::timeout::TimeoutLayer>,
        ) -> Self {
            self.calling.attempt_timeout = timeout.into().per_attempt();
            self
        }

        /// The header in which callers say how many milliseconds they wait, and servers are told how many are left of that or
        /// of the whole, unless the answer [may last](crate::resilience::timeout). gRPC calls have `grpc-timeout`; others none
        /// unless told.
        pub fn deadline_header(mut self, header: http::HeaderName) -> Self {
            self.calling.deadline_header = Some(header);
            self
        }

        /// How much less than is left servers are told. Nothing unless told.
        pub fn deadline_margin(mut self, margin: std::time::Duration) -> Self {
            self.calling.deadline_margin = margin;
            self
        }

        /// Tries again what failed, within the [budget of the upstream](crate::stack::gateway::Backend::retry_budget) if it
        /// has one, and else within that of the policy. Nothing is tried again unless told.
        pub fn retry(mut self, policy: $crate::resilience::retry::Policy) -> Self {
            self.calling.retry = Some(policy);
            self
        }

        /// Sends a second attempt beside a late one, within the
        /// [budget of the upstream](crate::stack::gateway::Backend::retry_budget) if it has one, and else within that of the
        /// [`retry`](Self::retry) if there is one. None unless told.
        pub fn hedge(mut self, policy: $crate::resilience::hedge::Policy) -> Self {
            self.calling.hedge = Some(policy);
            self
        }

        /// Makes some of what is asked fail on purpose, or be late, before anything is sent, to see what comes of it. Who asks
        /// for that in a header is heard if the policy [believes](crate::resilience::fault::Policy::believing) it; in a
        /// gateway, if the listeners [trust](crate::stack::gateway::Listen::trusted_proxies) it too. Nothing unless told.
        pub fn fault(mut self, policy: $crate::resilience::fault::Policy) -> Self {
            self.calling.fault = Some(policy);
            self
        }
    };
}
pub(super) use calling_setters;

/// What may be sent several times, one after the other or beside each other.
pub(super) type Repeated<S> = Retry<Hedge<S>>;

impl Calling {
    /// Within this time, once.
    pub(super) const fn within(timeout: TimeoutLayer) -> Self {
        Self {
            timeout,
            attempt_timeout: TimeoutLayer::disabled(),
            deadline_header: None,
            deadline_margin: Duration::ZERO,
            retry: None,
            hedge: None,
            fault: None,
        }
    }

    /// Whether what was said contradicts itself, for what is called with these budgets of its own.
    pub(super) fn check<'a>(
        &self,
        budgets: impl IntoIterator<Item = Option<&'a Budget>>,
    ) -> Result<(), Contradiction> {
        let (whole, attempt) = (self.timeout.total(), self.attempt_timeout.total());
        if attempt.zip(whole).is_some_and(|(attempt, whole)| attempt > whole) {
            return Err(Contradiction::AttemptTimeout);
        }
        let delay = self.hedge.as_ref().map(hedge::Policy::shortest_delay);
        if delay.zip(attempt.or(whole)).is_some_and(|(delay, most)| delay >= most) {
            return Err(Contradiction::LateHedge);
        }
        let least = self.retry.as_ref().map(retry::Policy::least_times);
        let needed = [
            least.and_then(|(_, needed)| needed),
            self.hedge.as_ref().and_then(hedge::Policy::told_least_left),
        ];
        if let Some(whole) = whole {
            if least.is_some_and(|(wait, _)| wait >= whole) {
                return Err(Contradiction::LateRetry);
            }
            if needed.into_iter().flatten().any(|needed| needed >= whole) {
                return Err(Contradiction::NoTimeLeft);
            }
        }
        let Some(own) = self.own_budget() else { return Ok(()) };
        match budgets.into_iter().any(|budget| budget.unwrap_or(&own).is_zero()) {
            true => Err(Contradiction::NoBudget),
            false => Ok(()),
        }
    }

    /// Warns of a hedge that is no use to calls of gRPC, if nobody has said that it is not for them. `called`: what is.
    pub(super) fn warn_of_hedge(&self, called: Option<&str>) {
        if self.hedge.as_ref().is_some_and(|hedge| !hedge.says_methods()) {
            tracing::warn!(
                called,
                "this hedge sends only idempotent calls twice, and gRPC is always POST: say `danger_any_method` of calls that \
                 can be repeated, or `idempotent_only`"
            );
        }
    }

    /// What binds second attempts at what is called without a budget of its own. `None`: there are no second attempts.
    pub(super) fn own_budget(&self) -> Option<Budget> {
        let of_hedges = || self.hedge.as_ref().map(|hedge| hedge.handle().budget().clone());
        self.retry.as_ref().map(|retry| retry.shared_budget().clone()).or_else(of_hedges)
    }

    /// What reads until when the caller waits.
    pub(super) fn read(&self) -> ReadDeadline {
        self.deadline_header.iter().cloned().fold(ReadDeadline::new(), ReadDeadline::header)
    }

    /// What tells the server how long it has.
    pub(super) fn told(&self) -> TellDeadline {
        let told = TellDeadline::new().margin(self.deadline_margin);
        self.deadline_header.iter().cloned().fold(told, TellDeadline::header)
    }

    /// How a mirror is sent copies of calls: how long the caller waits is nothing to it.
    pub(super) fn mirrors(&self, policy: &mirror::Policy) -> mirror::Policy {
        self.deadline_header.iter().cloned().fold(policy.clone(), mirror::Policy::without)
    }

    /// What makes calls fail on purpose.
    pub(super) fn faults(&self) -> FaultLayer {
        self.fault.clone().map_or_else(FaultLayer::disabled, FaultLayer::new)
    }

    /// Whether an attempt is more than the call itself.
    pub(super) const fn makes_attempts(&self) -> bool {
        self.retry.is_some() || self.hedge.is_some() || self.attempt_timeout.is_enabled()
    }

    /// What tries again and hedges, within one budget: that of what is called if it has one, or else that of the retries.
    /// These count the calls.
    pub(super) fn repeated<S>(&self, budget: Option<&Budget>, attempt: S) -> Repeated<S> {
        let retry =
            self.retry.clone().map(|retry| budget.cloned().into_iter().fold(retry, retry::Policy::budget));
        let hedge = self.hedge.clone().map(|hedge| match (&retry, budget) {
            (Some(retry), _) => hedge.shared_budget(retry.shared_budget().clone()),
            (None, Some(budget)) => hedge.budget(budget.clone()),
            (None, None) => hedge,
        });
        let attempts = hedge.map_or_else(HedgeLayer::disabled, HedgeLayer::new).layer(attempt);
        retry.map_or_else(RetryLayer::disabled, RetryLayer::new).layer(attempts)
    }
}
