//! `policies.fault`: what is made to fail on purpose.
use http::StatusCode;

use super::{Compiler, overload::LONGEST};
use crate::{
    config::{
        at::At,
        scalar::Text,
        schema::{FaultAbort, FaultRules, Listener, Rule},
    },
    identity::TrustedProxies,
    ratio::Ratio,
    reject::GrpcCode,
    resilience::fault::{Abort, Policy},
    stack::gateway,
};

impl Compiler<'_> {
    pub(super) fn fault(&self, at: At<'_>, made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let Some(rules) = &rule.policies.fault else { return made };
        let matches =
            at.field("matches").items(&rules.matches).filter_map(|(at, one)| self.request_match(at, one));
        let policy = matches.fold(kinds(at, rules), Policy::when);
        let policy =
            if rules.by_header { policy.believing(self.tellers(at.field("byHeader"))) } else { policy };
        let name = made.name().to_owned();
        let before = self.kept.counted.faults.get(&name);
        let policy = before.into_iter().fold(policy, Policy::counted_by);
        self.counted.borrow_mut().faults.insert(name, policy.handle());
        if self.file.disable_faults { made } else { made.fault(policy) }
    }

    /// Who can ask for faults: the listeners take the headers out of what others send.
    fn tellers(&self, at: At<'_>) -> TrustedProxies {
        let networks = || self.file.all_listeners().flat_map(Listener::trusted);
        if networks().next().is_none() {
            at.error("nobody could ask: no listener has `trustedProxies`");
        }
        // What is faulty there has been told.
        TrustedProxies::new(networks().map(|network| network.0)).unwrap_or_default()
    }
}

fn kinds(at: At<'_>, rules: &FaultRules) -> Policy {
    let mut policy = Policy::new();
    if let Some(delay) = &rules.delay {
        let at = at.field("delay");
        if delay.fixed_delay.0 > LONGEST || delay.fixed_delay.0.is_zero() {
            at.field("fixedDelay").error("expected more than nothing, and 1h at most");
        }
        policy = policy.delay(delay.fixed_delay.0, share(at, &delay.share));
    }
    // Of what comes first there must be some left for the others.
    let mut all: Option<&str> = None;
    let mut heard = |name: &'static str, of: Ratio| {
        if let Some(before) = all {
            at.field(name).error(format!("nothing is left for it: `{before}` takes all requests"));
        }
        all = all.or((of == Ratio::ALWAYS).then_some(name));
        of
    };
    if let Some(abort) = &rules.abort {
        policy = policy.abort(answer(abort), heard("abort", share(at.field("abort"), &abort.share)));
    }
    if let Some(reset) = &rules.reset {
        policy = policy.reset(heard("reset", share(at.field("reset"), &reset.share)));
    }
    if let Some(throttle) = &rules.throttle {
        let share = heard("throttle", share(at.field("throttle"), &throttle.share));
        policy = policy.throttle(throttle.bytes_per_second, share);
    }
    let none =
        rules.delay.is_none() && rules.abort.is_none() && rules.reset.is_none() && rules.throttle.is_none();
    if none && !rules.by_header && !at.is_broken() {
        at.error("does nothing: expected `delay`, `abort`, `reset`, `throttle` or `byHeader`");
    }
    policy
}

fn answer(abort: &FaultAbort) -> Abort {
    let status = abort.http_status.and_then(|status| StatusCode::from_u16(status).ok());
    let answer = Abort::status(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
    let code = abort.grpc_status.and_then(GrpcCode::of_number);
    code.into_iter().fold(answer, Abort::grpc)
}

/// A share that means some requests.
fn share(at: At<'_>, share: &Text<Ratio>) -> Ratio {
    if share.0 == Ratio::NEVER {
        at.field("share").warn("no request is hit");
    }
    share.0
}
