//! `retry`: a rule's, and what an upstream bears.
use std::time::Duration;

use http::StatusCode;

use super::{Compiler, overload::LONGEST, timeouts};
use crate::{
    backoff::Backoff,
    config::{
        at::At,
        schema::{Method, Retry, RetryCondition, RetryConstraint, RetryRules, Rule},
    },
    ratio::Ratio,
    resilience::{
        budget::Budget,
        retry::{Policy, RetryOn},
    },
    stack::gateway,
};

/// What is waited for at first where a file does not say it.
const FIRST: Duration = Duration::from_millis(25);
/// The time in which a budget is counted where a file does not say it.
const WINDOW: Duration = Duration::from_secs(10);

impl Compiler<'_> {
    /// What a rule says of trying again.
    pub(super) fn retry(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let of_policy = at.field("policies").field("retry");
        let Some(retry) = &rule.retry else {
            if rule.policies.retry.is_some() {
                of_policy.error("says how to try again, and the rule has no `retry`");
            }
            return made;
        };
        let at_retry = at.field("retry");
        let mut policy = Policy::new(retry.attempts.unwrap_or(2));
        policy = codes(policy, retry, rule.policies.retry.as_ref());
        policy = waits(at, policy, retry, rule);
        if let Some(rules) = &rule.policies.retry {
            policy = how(of_policy, policy, rules);
        }
        self.bearable(at_retry, rule);
        let repeats = rule.policies.retry.as_ref().is_some_and(|rules| rules.danger_any_method);
        if !repeats && is_once(rule) {
            at_retry.warn(
                "these methods are not idempotent: what has no `Idempotency-Key` is tried again only if it was never sent",
            );
        }
        self.asleep(at.field("policies").field("concurrency"), rule);
        let name = made.name().to_owned();
        let before = self.kept.counted.retries.get(&name);
        let policy = before.into_iter().fold(policy, Policy::counted_by);
        self.counted.borrow_mut().retries.insert(name, policy.handle());
        made.retry(policy)
    }

    /// Whether a limit of the rule takes waits between attempts for latency.
    fn asleep(&self, at: At<'_>, rule: &Rule) {
        for (at, name) in at.items(&rule.policies.concurrency) {
            if self.file.concurrency.get(name).is_some_and(|limit| limit.adaptive.is_some()) {
                at.warn(
                    "this limit measures how long requests take, and takes the waits of `retry` for the upstream's: name it \
                     in front of the upstream",
                );
            }
        }
    }

    /// Whether the upstreams bear second attempts at all.
    pub(super) fn bearable(&self, at: At<'_>, rule: &Rule) {
        for backend in &rule.backend_refs {
            if self.budgets.get(backend.name.as_str()).is_some_and(Budget::is_zero) {
                at.error(format!(
                    "the `retryConstraint` of the upstream `{}` allows no second attempt",
                    backend.name
                ));
            }
        }
    }

    /// How many second attempts an upstream bears, with what the one of this name that is in force has spent.
    pub(super) fn retry_budget(&self, at: At<'_>, name: &str, said: &RetryConstraint) -> Budget {
        let mut budget = Budget::new(Ratio::percent(said.budget.percent.unwrap_or(20)));
        if let Some(interval) = &said.budget.interval {
            let at = at.field("budget").field("interval");
            within(at, interval.0, Duration::from_secs(1));
            budget = budget.window(interval.0);
        }
        let rate = &said.min_retry_rate;
        let each = rate.interval.as_ref().map_or(Duration::from_secs(1), |interval| interval.0);
        within(at.field("minRetryRate").field("interval"), each, Duration::from_millis(1));
        let whole = said.budget.interval.as_ref().map_or(WINDOW, |interval| interval.0);
        if each > whole && each <= LONGEST {
            at.field("minRetryRate")
                .field("interval")
                .error("longer than `budget.interval` (10s unless it is said), in which both are counted");
        }
        let budget = budget.floor(rate.count.unwrap_or(10), each);
        if let Some(same) = self.kept.budgets.again(name, said) {
            return same.clone();
        }
        // Other terms are no new beginning.
        self.kept.budgets.before(name).into_iter().fold(budget, Budget::after)
    }
}

/// Whether none of the rule's requests may be done twice by its method.
pub(super) fn is_once(rule: &Rule) -> bool {
    let once = |method: Option<Method>| method.is_some_and(|method| !method.known().is_idempotent());
    !rule.matches.is_empty() && rule.matches.iter().all(|one| once(one.method))
}

/// Reports a time that is too short or too long.
pub(super) fn within(at: At<'_>, time: Duration, least: Duration) {
    if time < least {
        at.error(format!("expected {} at least", crate::time::format_duration(least)));
    } else if time > LONGEST {
        at.error("expected 1h at most");
    }
}

fn codes(policy: Policy, retry: &Retry, rules: Option<&RetryRules>) -> Policy {
    let codes = if retry.codes.is_empty() { &[502, 503, 504] } else { &*retry.codes };
    let policy = policy.codes(codes.iter().filter_map(|code| StatusCode::from_u16(*code).ok()));
    match rules.and_then(|rules| rules.on.as_ref()) {
        Some(on) => policy.on(on.iter().map(|on| on.known())),
        None => {
            policy.on([RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Reset, RetryOn::Unavailable])
        }
    }
}

/// The back-off, which must leave time for an attempt.
fn waits(at: At<'_>, policy: Policy, retry: &Retry, rule: &Rule) -> Policy {
    let (at_backoff, least) =
        (at.field("retry").field("backoff"), retry.backoff.as_ref().map(|least| least.0));
    let request = timeouts::whole(&rule.timeouts);
    if request.is_some_and(|request| least.is_some_and(|least| least >= request)) {
        at_backoff.error("as long as the whole request may take: nothing would be tried again");
    }
    let of_policy = at.field("policies").field("retry");
    let least_left = rule.policies.retry.as_ref().and_then(|rules| rules.min_time_left.as_ref());
    if request.is_some_and(|request| least_left.is_some_and(|least| least.0 >= request)) {
        of_policy
            .field("minTimeLeft")
            .error("as long as the whole request may take: nothing would be tried again");
    }
    if request.is_some() && timeouts::attempt(&rule.timeouts) == request {
        at.field("timeouts")
            .field("backendRequest")
            .warn("as long as `request`: an attempt that takes so long leaves no time for another");
    }
    let backoff = Backoff::new(least.filter(|least| !least.is_zero()).unwrap_or(FIRST));
    let most = rule.policies.retry.as_ref().and_then(|rules| rules.max_backoff.as_ref()).map(|most| most.0);
    if most.is_some_and(|most| least.is_some_and(|least| most < least)) {
        of_policy.field("maxBackoff").error("shorter than `backoff`, which is the least");
    }
    let policy = policy.least_wait(least.unwrap_or_default());
    policy.backoff(
        most.into_iter()
            .fold(backoff, |backoff, most| backoff.max(most.saturating_sub(least.unwrap_or_default()))),
    )
}

/// The rest of what `policies.retry` says.
fn how(at: At<'_>, mut policy: Policy, rules: &RetryRules) -> Policy {
    if rules.on.as_ref().is_some_and(Vec::is_empty) {
        at.field("on").warn("nothing but `codes` is tried again, lost connections neither");
    }
    policy = rules.headers.iter().fold(policy, |policy, header| policy.header(header.0.clone()));
    if let Some(most) = &rules.max_retry_after {
        if most.0 > LONGEST {
            at.field("maxRetryAfter").error("expected 1h at most");
        }
        policy = policy.most_wait(most.0);
    }
    policy = rules.min_time_left.iter().fold(policy, |policy, least| policy.least_left(least.0));
    policy = rules.max_body.into_iter().fold(policy, |policy, bytes| policy.most_body(bytes as usize));
    policy =
        rules.attempt_header.iter().fold(policy, |policy, header| policy.attempt_header(header.0.clone()));
    if rules.danger_any_method { policy.danger_any_method() } else { policy }
}

impl RetryCondition {
    pub(super) const fn known(self) -> RetryOn {
        match self {
            Self::Cancelled => RetryOn::Cancelled,
            Self::ConnectFailure => RetryOn::ConnectFailure,
            Self::DeadlineExceeded => RetryOn::DeadlineExceeded,
            Self::GatewayError => RetryOn::GatewayError,
            Self::Internal => RetryOn::Internal,
            Self::RefusedStream => RetryOn::RefusedStream,
            Self::Reset => RetryOn::Reset,
            Self::ResourceExhausted => RetryOn::ResourceExhausted,
            Self::Retriable4xx => RetryOn::Retriable4xx,
            Self::ServerError => RetryOn::ServerError,
            Self::Unavailable => RetryOn::Unavailable,
        }
    }
}
