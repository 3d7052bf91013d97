//! `policies.hedge`: what is sent a second time because the first is late.
use std::time::Duration;

use super::{Compiler, retry::is_once, timeouts};
use crate::{
    config::{
        at::At,
        schema::{HedgeRules, Rule},
    },
    ratio::Ratio,
    resilience::hedge::Policy,
    stack::gateway,
};

impl Compiler<'_> {
    pub(super) fn hedge(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let Some(rules) = &rule.policies.hedge else { return made };
        let Some(mut policy) = late(at, rules) else { return made };
        in_time(at, rules, rule);
        self.bearable(at, rule);
        if !rules.danger_any_method && is_once(rule) {
            at.warn("these methods are not idempotent: what has no `Idempotency-Key` is sent once");
        }
        policy =
            rules.max_attempts.into_iter().fold(policy, |policy, most| policy.hedges(most.saturating_sub(1)));
        policy = rules.max_body.into_iter().fold(policy, |policy, bytes| policy.most_body(bytes as usize));
        policy = if rules.danger_any_method { policy.danger_any_method() } else { policy.idempotent_only() };
        let name = made.name().to_owned();
        let before = self.kept.counted.hedges.get(&name);
        let policy = before.into_iter().fold(policy, Policy::counted_by);
        self.counted.borrow_mut().hedges.insert(name, policy.handle());
        made.hedge(policy)
    }
}

/// How late an attempt must be.
fn late(at: At<'_>, rules: &HedgeRules) -> Option<Policy> {
    let policy = match (&rules.delay, &rules.percentile) {
        (Some(delay), None) => {
            if rules.min_delay.is_some() {
                at.field("minDelay").error("is for a `percentile`: a `delay` is as it is");
            }
            if delay.0.is_zero() {
                at.field("delay").warn(
                    "each request is sent twice at once, as far as the upstream's `retryConstraint` goes",
                );
            }
            Policy::after(delay.0)
        }
        (None, Some(share)) => {
            if share.0 == Ratio::NEVER || share.0 == Ratio::ALWAYS {
                return at.field("percentile").refuse("expected more than 0% and less than 100%");
            }
            Policy::at_percentile(share.0)
        }
        _ if at.is_broken() => return None,
        _ => return at.refuse("expected exactly one of `delay` and `percentile`"),
    };
    Some(rules.min_delay.iter().fold(policy, |policy, least| policy.least_delay(least.0)))
}

/// Whether a second attempt has a chance at all.
fn in_time(at: At<'_>, rules: &HedgeRules, rule: &Rule) {
    let said = [("delay", &rules.delay), ("minDelay", &rules.min_delay)];
    let (whole, attempt) = (timeouts::whole(&rule.timeouts), timeouts::attempt(&rule.timeouts));
    for (name, delay) in said.into_iter().filter_map(|(name, delay)| Some((name, delay.as_ref()?.0))) {
        let over = |bound: Option<Duration>| bound.is_some_and(|bound| delay >= bound);
        if over(whole) {
            at.field(name).error("as long as the whole request may take: nothing would be sent twice");
        } else if over(attempt) {
            at.field(name).error(
                "as long as an attempt may take (`timeouts.backendRequest`): nothing would be sent twice",
            );
        }
    }
}
