//! `circuitBreaker`: a rule's, and an upstream's.
use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use super::{
    Compiler,
    limits::key,
    overload::{LONGEST, some_share},
};
use crate::{
    backoff::{Backoff, Jitter},
    config::{
        at::At,
        schema::{Authenticate, BreakerWindow, CircuitBreaker, Policies, Public, Rule, Upstream},
    },
    key::Key,
    ratio::Ratio,
    resilience::breaker::{BreakerLayer, Policy},
    stack::gateway,
    trip,
};

/// How long it stays open where a file does not say it.
const FIRST: Duration = Duration::from_secs(1);
/// And at most.
const LAST: Duration = Duration::from_secs(30);
/// How long a request may take where a file does not say it.
const REQUEST: Duration = Duration::from_secs(15);
/// How many calls there must be where a file does not say it.
const TWENTY: NonZeroU32 = NonZeroU32::new(20).unwrap();

impl Compiler<'_> {
    /// The breaker of a rule.
    pub(super) fn rule_breaker(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let Some(said) = &rule.policies.circuit_breaker else { return made };
        let at = at.field("policies").field("circuitBreaker");
        let request = rule.timeouts.request.as_ref().map_or(REQUEST, |request| request.0);
        let slow = said.slow_call_duration.as_ref().map(|slow| slow.0);
        if !request.is_zero() && slow.is_some_and(|slow| slow >= request) {
            at.field("slowCallDuration")
                .warn("as long as the whole request may take: what is slow has failed by then");
        }
        if said.per_endpoint {
            at.field("perEndpoint").error("a rule has no endpoints: it is for `upstreams`");
        }
        let name = format!("rule/{}", made.name());
        let breaker = self.breaker(at, &name, said, asks_nobody(&rule.policies));
        breaker.into_iter().fold(made, gateway::Rule::circuit_breaker)
    }

    /// The breaker of an upstream.
    pub(super) fn upstream_breaker(
        &self,
        at: At<'_>,
        name: &str,
        upstream: &Upstream,
    ) -> Option<BreakerLayer> {
        let said = upstream.circuit_breaker.as_ref().filter(|said| !said.per_endpoint)?;
        self.breaker(at.field("circuitBreaker"), &format!("upstream/{name}"), said, false)
    }

    /// When the breaker of each endpoint of an upstream opens and closes, if they have one.
    pub(super) fn endpoint_breaker(&self, at: At<'_>, upstream: &Upstream) -> Option<trip::Policy> {
        let said = upstream.circuit_breaker.as_ref().filter(|said| said.per_endpoint)?;
        let at = at.field("circuitBreaker");
        let others = [
            ("key", said.key.is_some()),
            ("maxKeys", said.max_keys.is_some()),
            ("throttlingFails", said.throttling_fails),
            ("cancellingFails", said.cancelling_fails),
            ("shadow", said.shadow),
        ];
        for (name, _) in others.into_iter().filter(|(_, is_said)| *is_said) {
            at.field(name).error("not for a breaker of each endpoint");
        }
        trips(at, said)
    }

    /// The one of this name that is in force, if the same is said of it.
    fn breaker(&self, at: At<'_>, name: &str, said: &CircuitBreaker, public: bool) -> Option<BreakerLayer> {
        let trips = trips(at, said);
        let mut policy = Policy::default().name(name);
        if let Some(by) = &said.key {
            let removed = |part: &Key| match part {
                Key::Header(name) => self.removed(name),
                _ => None,
            };
            let key = key(at.field("key"), by, &removed)?;
            if public && key.needs_identity() {
                at.field("key").warn("nobody asks who callers are: addresses are taken instead");
            }
            policy = policy.by(key);
        } else if said.max_keys.is_some() {
            at.field("maxKeys").error("there is no `key`");
        }
        if let Some(most) = said.max_keys {
            policy = policy.max_keys(most);
        }
        let policy = policy.trip(trips?).in_shadow(said.shadow);
        let policy = policy.throttling_fails(said.throttling_fails).cancelling_fails(said.cancelling_fails);
        let make = || Some(BreakerLayer::new(policy));
        self.breakers.borrow_mut().keep(&self.kept.breakers, name, said.clone(), make)
    }
}

fn asks_nobody(policies: &Policies) -> bool {
    matches!(policies.authenticate, None | Some(Authenticate::None(Public::None)))
}

/// When it opens, and when it closes.
fn trips(at: At<'_>, said: &CircuitBreaker) -> Option<trip::Policy> {
    let mut policy = trip::Policy::new().consecutive(said.consecutive_failures);
    let (failures, slow) = (said.failure_rate_threshold.as_ref(), said.slow_call_rate_threshold.as_ref());
    let least = said.minimum_calls.unwrap_or(TWENTY);
    let has_shares = failures.is_some() || slow.is_some() || said.consecutive_failures.is_none();
    for (name, share) in [("failureRateThreshold", failures), ("slowCallRateThreshold", slow)] {
        if let Some(share) = share {
            some_share(at.field(name), share.0);
        }
    }
    for (name, is_said) in [("minimumCalls", said.minimum_calls.is_some()), ("window", said.window.is_some())]
    {
        if is_said && !has_shares {
            at.field(name).error("it is for shares, and only `consecutiveFailures` opens this");
        }
    }
    let by_default = slow.is_none() && said.consecutive_failures.is_none();
    let half = if by_default { Ratio::percent(50) } else { Ratio::NEVER };
    policy = policy.ratio(failures.map_or(half, |share| share.0), least);
    let slow = slow_calls(at, said);
    let over = over(at, said.window.as_ref(), least.get());
    if let Some(probes) = said.half_open_probes {
        policy = policy.probes(probes, probes);
    }
    // Each says what is wrong with it.
    let (slow, over, waits) = (slow?, over?, waits(at, said)?);
    policy = slow.into_iter().fold(policy, |policy, (from, share)| policy.slow(from, share));
    policy = match over {
        Some(Over::Time(time)) => policy.window(time),
        Some(Over::Calls(calls)) => policy.last(calls),
        None => policy,
    };
    Some(policy.wait(waits))
}

/// From when on a call is slow, and how many may be.
fn slow_calls(at: At<'_>, said: &CircuitBreaker) -> Option<Option<(Duration, Ratio)>> {
    let (at_share, at_time) = (at.field("slowCallRateThreshold"), at.field("slowCallDuration"));
    match (&said.slow_call_rate_threshold, &said.slow_call_duration) {
        (None, None) => Some(None),
        (Some(_), Some(from)) if from.0.is_zero() => at_time.refuse("expected more than nothing"),
        (Some(share), Some(from)) => Some(Some((from.0, share.0))),
        (Some(_), None) => at_share.refuse("`slowCallDuration` must say what is slow"),
        (None, Some(_)) => at_time.refuse("`slowCallRateThreshold` must say how many may be slow"),
    }
}

enum Over {
    Time(Duration),
    Calls(NonZeroU16),
}

fn over(at: At<'_>, window: Option<&BreakerWindow>, least: u32) -> Option<Option<Over>> {
    let at = at.field("window");
    let Some(window) = window else { return Some(None) };
    match (&window.duration, window.calls) {
        (Some(time), None) if time.0 < Duration::from_millis(10) || time.0 > LONGEST => {
            at.field("duration").refuse("expected 10ms to 1h")
        }
        (Some(time), None) => Some(Some(Over::Time(time.0))),
        (None, Some(calls)) if least > u32::from(calls.get()) => at.field("calls").refuse(
            "`minimumCalls` (20 unless it is said) are more than it holds: no share would ever count",
        ),
        (None, Some(calls)) => Some(Some(Over::Calls(calls))),
        _ if at.is_broken() => None,
        _ => at.refuse("expected exactly one of `duration` and `calls`"),
    }
}

fn waits(at: At<'_>, said: &CircuitBreaker) -> Option<Backoff> {
    let first = said.open_for.as_ref().map_or(FIRST, |first| first.0);
    if first < Duration::from_millis(1) || first > LONGEST {
        return at.field("openFor").refuse("expected 1ms to 1h");
    }
    let last = said.max_open_for.as_ref().map_or(LAST.max(first), |last| last.0);
    if last < first {
        return at.field("maxOpenFor").refuse("shorter than `openFor` (1s unless it is said)");
    }
    if last > LONGEST {
        return at.field("maxOpenFor").refuse("expected 1h at most");
    }
    Some(Backoff::new(first).max(last).jitter(Jitter::Equal))
}
