//! `split.canary`: a new version, and the old one.
use super::{Compiler, subsets::called};
use crate::{
    config::{
        at::At,
        kept::KeptCanary,
        scalar::Text,
        schema::{Canary as Said, CanaryLatency, CanarySteer, Rule},
    },
    ratio::Ratio,
    routing::canary::{Canary, InvalidPolicy, Policy, Slow},
    stack::gateway::{self, Steer},
};

impl Compiler<'_> {
    /// The canary of a rule: the one that is in force, if nothing but its `steer` has changed.
    pub(super) fn canary(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let backends = at.field("backendRefs");
        let at = at.field("policies").field("split").field("canary");
        let Some(said) = rule.policies.split.as_ref().and_then(|split| split.canary.as_ref()) else {
            return made;
        };
        if rule.backend_refs.len() != 2 && !backends.is_broken() {
            at.error("a canary is between two `backendRefs`, the old one and the new one");
        }
        for (backend, of) in backends.items(&rule.backend_refs) {
            if of.weight.is_some() {
                backend.field("weight").error("the canary says how much each gets");
            }
        }
        let Some(policy) = policy(at, said) else { return made };
        let name = made.name().to_owned();
        let upstreams = rule.backend_refs.iter().map(called).collect();
        let without = Said { steer: CanarySteer::default(), ..said.clone() };
        let kept = self.kept.canaries.again(&name, &(without.clone(), upstreams));
        let canary = kept.map_or_else(|| Canary::new(name.as_str(), policy), |kept| kept.canary.clone());
        let before = kept.map(|kept| kept.steer);
        let upstreams = rule.backend_refs.iter().map(called).collect();
        let now = KeptCanary { canary: canary.clone(), steer: said.steer };
        self.canaries.borrow_mut().insert(&name, (without, upstreams), now);
        let made = made.canary(canary);
        match steer(before, said.steer) {
            Some(steer) => made.steer(steer),
            None => made,
        }
    }
}

/// What has changed about what it is to do.
fn steer(before: Option<CanarySteer>, now: CanarySteer) -> Option<Steer> {
    // One that is new runs, or was made paused.
    let is_said = match before {
        Some(before) => before != now,
        None => matches!(now, CanarySteer::Abort | CanarySteer::Promote),
    };
    is_said.then_some(match now {
        CanarySteer::Abort => Steer::Abort,
        CanarySteer::Pause => Steer::Pause,
        CanarySteer::Promote => Steer::Promote,
        CanarySteer::Run => Steer::Run,
    })
}

fn policy(at: At<'_>, said: &Said) -> Option<Policy> {
    let mut policy = match &said.steps {
        Some(steps) => at.field("steps").accept(Policy::new(steps.iter().map(|step| step.0)))?,
        None => Policy::default(),
    };
    if let Some(time) = &said.min_time {
        policy = policy.least_time(time.0);
    }
    if let Some(calls) = said.min_calls {
        policy = policy.least_calls(calls.into());
    }
    type Set = fn(Policy, Ratio) -> Result<Policy, InvalidPolicy>;
    let (failures, latency) = (at.field("failures"), at.field("latency"));
    let shares: [(At<'_>, &Option<Text<Ratio>>, Set); 4] = [
        (at.field("alpha"), &said.alpha, Policy::alpha),
        (at.field("beta"), &said.beta, Policy::beta),
        (failures.field("margin"), &said.failures.margin, Policy::margin),
        (latency.field("margin"), &said.latency.margin, Policy::slow_margin),
    ];
    for (at, share, set) in shares {
        if let Some(share) = share {
            policy = at.accept(set(policy, share.0))?;
        }
    }
    policy = policy.caller_faults(said.failures.caller_faults);
    policy = slow(latency, &said.latency)?.into_iter().fold(policy, Policy::slow);
    Some(if said.steer == CanarySteer::Pause { policy.paused() } else { policy })
}

/// Which requests are slow, if it is said.
fn slow(at: At<'_>, said: &CanaryLatency) -> Option<Option<Slow>> {
    match (&said.slower_than, &said.quantile, said.ignore) {
        (None, None, false) => Some(None),
        (None, None, true) => Some(Some(Slow::Never)),
        (Some(time), None, false) => Some(Some(Slow::Than(time.0))),
        (None, Some(share), false) if share.0 == Ratio::NEVER || share.0 == Ratio::ALWAYS => {
            at.field("quantile").refuse(InvalidPolicy::Share.to_string())
        }
        (None, Some(share), false) => Some(Some(Slow::ThanOld(share.0))),
        _ => at.refuse("expected one of `slowerThan`, `quantile` and `ignore`"),
    }
}
