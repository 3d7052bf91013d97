//! `RequestMirror`, and how it mirrors.
use std::collections::HashSet;

use http::HeaderName;

use super::{Compiler, overload::LONGEST, subsets::called};
use crate::{
    config::{
        at::At,
        schema::{MirrorRules, RequestMirror, Rule},
    },
    ratio::Ratio,
    routing::mirror::{Compare, Policy},
    stack::gateway,
};

impl Compiler<'_> {
    /// The mirrors of a rule.
    pub(super) fn mirrors(&self, at: At<'_>, mut made: gateway::Rule, rule: &Rule) -> gateway::Rule {
        let mut seen = HashSet::new();
        for (at, filter) in at.field("filters").items(&rule.filters) {
            let Some(mirror) = &filter.request_mirror else { continue };
            let at = at.field("requestMirror");
            let upstream = at.field("backendRef");
            let backend = mirror.backend_ref.backend();
            let called = called(&backend);
            if !seen.insert(called.clone()) {
                upstream.field("name").error("another `RequestMirror` of this rule has this upstream");
            }
            let name = mirror.backend_ref.name.as_str();
            let (share, proxy) = (share(at, mirror), self.backend(upstream, &backend));
            let (Some(share), Some(proxy)) = (share, proxy) else { continue };
            let policy = self.how_to_mirror(at, Policy::new(called).share(share), name, rule);
            made = made.mirror(self.with_credentials(upstream, name, proxy, &rule.policies), policy);
        }
        let says = at.field("policies").field("mirror");
        if says.is_said() && seen.is_empty() && !at.field("filters").is_broken() {
            says.error("says how to mirror, and the rule has no `RequestMirror`");
        }
        if !seen.is_empty() && rule.filters.iter().any(|filter| filter.request_redirect.is_some()) {
            at.field("filters").error("a rule that redirects mirrors nothing");
        }
        made
    }

    fn how_to_mirror(&self, at_mirror: At<'_>, policy: Policy, upstream: &str, rule: &Rule) -> Policy {
        let Some(rules) = &rule.policies.mirror else { return policy };
        let has_host = self.file.upstreams.get(upstream).is_some_and(|upstream| upstream.host.is_some());
        if rules.host_suffix.is_some() && has_host {
            at_mirror
                .field("backendRef")
                .warn("its upstream has a `host`: the `hostSuffix` is not seen there");
        }
        how(policy, rules)
    }

    /// What is wrong with how a rule mirrors, told once.
    pub(super) fn check_mirror(&self, at: At<'_>, rules: &MirrorRules) {
        if let Some(suffix) = &rules.host_suffix {
            at.field("hostSuffix").accept(Policy::new("").host_suffix(suffix));
        }
        if let Some(timeout) = &rules.timeout
            && (timeout.0.is_zero() || timeout.0 > LONGEST)
        {
            at.field("timeout").error("expected more than nothing and at most an hour");
        }
    }

    /// Whether copies are told by this header.
    pub(super) fn marks_mirrored(&self, name: &HeaderName) -> bool {
        let mut filters = self.file.all_rules().flat_map(|rule| &rule.filters);
        Policy::new("").marked_by() == name && filters.any(|filter| filter.request_mirror.is_some())
    }
}

fn share(at: At<'_>, mirror: &RequestMirror) -> Option<Ratio> {
    match (mirror.percent, mirror.fraction) {
        (None, None) => Some(Ratio::ALWAYS),
        (Some(percent), None) => Some(Ratio::percent(percent)),
        (None, Some(fraction)) => {
            let of = fraction.denominator.map_or(100, |of| of.get());
            let share = Ratio::new(fraction.numerator, of);
            share.or_else(|| at.field("fraction").refuse("more than the whole"))
        }
        (Some(_), Some(_)) => at.field("percent").refuse("expected one of `percent` and `fraction`"),
    }
}

fn how(mut policy: Policy, rules: &MirrorRules) -> Policy {
    if let Some(suffixed) =
        rules.host_suffix.as_deref().and_then(|suffix| policy.clone().host_suffix(suffix).ok())
    {
        policy = suffixed;
    }
    if let Some(timeout) = &rules.timeout {
        policy = policy.timeout(timeout.0);
    }
    policy = rules.max_in_flight.into_iter().fold(policy, Policy::most_in_flight);
    policy = rules.max_behind.into_iter().fold(policy, |policy, bytes| policy.most_behind(bytes as usize));
    policy = rules.max_response.into_iter().fold(policy, |policy, bytes| policy.most_response(bytes.into()));
    let Some(compare) = &rules.compare else { return policy };
    let headers = compare.headers.iter().map(|header| header.0.clone());
    let compared = headers.fold(Compare::status(), Compare::header);
    policy.compare(if compare.body { compared.body() } else { compared })
}
