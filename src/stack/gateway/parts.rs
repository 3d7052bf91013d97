//! What a snapshot gathers from its rules.
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;

use super::{builder::SnapshotError, edge::Listen, rule::Rule, snapshot::RuleFacts};
#[cfg(feature = "jwt")]
use crate::authn::outbound::TokenSourceHandle;
use crate::{
    admission::{
        authz::{Authorization, Guard, Tally},
        concurrency::Concurrency,
        ext_authz::ExternalAuthHandle,
        quota::QuotaHandle,
    },
    authn::Providers,
    resilience::{
        budget::Budget,
        hedge::{self, HedgeHandle},
        retry::{self, RetryHandle},
    },
    stack::admin::Admin,
    upstream::Upstream,
};

pub(super) fn check_admin(admin: Option<&Admin>, upstreams: &[Upstream]) -> Result<(), SnapshotError> {
    let Some(admin) = admin else { return Ok(()) };
    let reaches = |upstream: &&Upstream| upstream.endpoints().iter().any(|at| at.address == admin.address);
    match upstreams.iter().find(reaches) {
        Some(upstream) => Err(SnapshotError::AdminUpstream(upstream.name().into())),
        None => Ok(()),
    }
}

/// What these rules tell upstreams, and nobody else may.
pub(super) fn asserted_by(rules: &[Rule]) -> impl Iterator<Item = HeaderName> {
    let providers = rules.iter().filter_map(|rule| rule.providers.as_ref());
    let asked = rules.iter().flat_map(|rule| &rule.authorizers);
    let by_authorizers = asked.flat_map(|asked| asked.authorizer.asserted_headers());
    let by_retries = rules.iter().filter_map(|rule| rule.retry.as_ref()?.told_in());
    providers.flat_map(Providers::asserted_headers).chain(by_authorizers).chain(by_retries).cloned()
}

/// What a rule says of its attempts does not contradict itself.
pub(super) fn check_attempts(rule: &Rule) -> Result<(), SnapshotError> {
    let (whole, attempt) = (rule.timeout.total(), rule.attempt_timeout.total());
    let hedge = rule.hedge.as_ref().map(hedge::Policy::handle);
    let delay = hedge.as_ref().and_then(HedgeHandle::delay);
    let reaches = |time: Option<Duration>, bound: Option<Duration>| {
        time.zip(bound).is_some_and(|(time, bound)| time >= bound)
    };
    let retry = rule.retry.as_ref().map(retry::Policy::handle);
    let own = retry.as_ref().map(RetryHandle::budget).or(hedge.as_ref().map(HedgeHandle::budget));
    let of_backends = rule.backends.iter().map(|(backend, _)| backend.retry_budget.as_ref().or(own));
    let is_broke = own.is_some() && of_backends.flatten().any(Budget::is_zero);
    let problem = if attempt.zip(whole).is_some_and(|(attempt, whole)| attempt > whole) {
        "an attempt may take longer than the whole request"
    } else if reaches(delay, whole) || reaches(delay, attempt) {
        "a second attempt would come later than the first may take"
    } else if is_broke {
        "the budget of its second attempts allows none"
    } else {
        return Ok(());
    };
    Err(SnapshotError::Contradiction(Arc::clone(&rule.name), problem))
}

/// Each limit for which requests wait stands at one position.
pub(super) fn check_queues(listeners: &[Listen], rules: &[Rule]) -> Result<(), SnapshotError> {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let [at_listeners, at_rules, at_upstreams] = [
        queued(listeners.iter().flat_map(|listen| &listen.concurrency)),
        queued(rules.iter().flat_map(|rule| &rule.concurrency)),
        queued(backends.flat_map(|(backend, _)| &backend.guards.concurrency)),
    ];
    for (one, other) in
        [(&at_listeners, &at_rules), (&at_listeners, &at_upstreams), (&at_rules, &at_upstreams)]
    {
        if let Some(twice) = one.iter().find(|limit| other.iter().any(|other| other.is_same(limit))) {
            return Err(SnapshotError::QueuedTwice(twice.name().into()));
        }
    }
    Ok(())
}

/// Those of these limits for which requests wait, each once.
fn queued<'a>(limits: impl Iterator<Item = &'a Concurrency>) -> Vec<&'a Concurrency> {
    let mut queued: Vec<&Concurrency> = Vec::new();
    for limit in limits.filter(|limit| limit.has_queue()) {
        if queued.iter().all(|known| !known.is_same(limit)) {
            queued.push(limit);
        }
    }
    queued
}

/// The authorizers of these rules, by their names.
pub(super) fn authorizers(rules: &[Rule]) -> BTreeMap<Arc<str>, ExternalAuthHandle> {
    let asked = rules.iter().flat_map(|rule| &rule.authorizers).map(|asked| &asked.authorizer);
    asked.map(|one| (Arc::from(one.name()), one.handle())).collect()
}

pub(super) fn tallies(rules: &[Rule]) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = Vec::new();
    let of_policies = rules.iter().filter_map(|rule| rule.authorization.as_ref()).map(Authorization::tally);
    let asked = rules.iter().flat_map(|rule| &rule.authorizers);
    let of_guards = asked.filter_map(|asked| asked.authorizer.guard()).map(Guard::tally);
    for tally in of_policies.chain(of_guards) {
        if !tallies.iter().any(|known| known.is_same(tally)) {
            tallies.push(tally.clone());
        }
    }
    tallies
}

pub(super) fn quotas(rules: &[Rule]) -> Vec<QuotaHandle> {
    let mut quotas: Vec<QuotaHandle> = Vec::new();
    for quota in rules.iter().flat_map(|rule| &rule.quotas) {
        if quotas.iter().all(|known| known.quota().name() != quota.name()) {
            quotas.push(quota.handle());
        }
    }
    quotas
}

/// The address lists with where they stand: at listeners, and at rules.
#[cfg(feature = "prometheus")]
pub(super) fn addresses(
    listeners: &[Listen],
    rules: &[Rule],
) -> Vec<(&'static str, Arc<str>, crate::admission::address::AddressList)> {
    let at_listeners = listeners.iter().map(|listen| ("listener", &listen.name, &listen.addresses));
    let at_rules = rules.iter().map(|rule| ("rule", &rule.name, &rule.addresses));
    let list = |(position, name, list): (&'static str, &Arc<str>, &Option<_>)| {
        Some((position, Arc::clone(name), Option::clone(list)?))
    };
    at_listeners.chain(at_rules).filter_map(list).collect()
}

pub(super) fn distinct(rules: Vec<RuleFacts>) -> Result<Vec<RuleFacts>, SnapshotError> {
    let mut names = HashSet::new();
    match rules.iter().find(|rule| !names.insert(&rule.name)) {
        Some(twice) => Err(SnapshotError::DuplicateRule(Arc::clone(&twice.name))),
        None => Ok(rules),
    }
}

#[cfg(feature = "jwt")]
pub(super) fn token_sources(rules: &[Rule]) -> Vec<(Arc<str>, TokenSourceHandle)> {
    let mut sources: Vec<(Arc<str>, TokenSourceHandle)> = Vec::new();
    for (backend, _) in rules.iter().flat_map(|rule| &rule.backends) {
        let upstream = backend.proxy.upstream().name();
        if let Some(source) = backend.credentials.source()
            && sources.iter().all(|(known, _)| **known != *upstream)
        {
            sources.push((upstream.into(), source.handle()));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{
        admission::concurrency::Queue,
        stack::gateway::{Backend, Snapshot},
        upstream::Proxy,
    };

    #[test]
    fn a_rule_does_not_contradict_itself() {
        use crate::{ratio::Ratio, resilience::timeout::TimeoutLayer};
        let second = Duration::from_secs(1);
        let upstream = || Upstream::builder("one").endpoint("127.0.0.1:9001").build().unwrap();
        let zero = || Budget::new(Ratio::NEVER).floor(0, second);
        let build = |rule: Rule, budget: Option<Budget>| {
            let backend =
                budget.into_iter().fold(Backend::new(Proxy::new(upstream())), Backend::retry_budget);
            let listen = Listen::on("public", ([127, 0, 0, 1], 0).into());
            Snapshot::builder().listen(listen).rule(rule.backend(backend, 1)).build().map(drop)
        };
        let (rule, late) = (|| Rule::new("r"), |secs| hedge::Policy::after(secs * second));
        let attempt = |secs| TimeoutLayer::new(secs * second);
        for (faulty, budget) in [
            (rule().attempt_timeout(attempt(16)), None),
            (rule().hedge(late(15)), None),
            (rule().hedge(late(2)).attempt_timeout(attempt(2)), None),
            (rule().hedge(late(2)), Some(zero())),
            (rule().hedge(late(2).budget(zero())), None),
            (rule().retry(retry::Policy::new(1)), Some(zero())),
        ] {
            let built = build(faulty, budget);
            assert!(matches!(built, Err(SnapshotError::Contradiction(..))), "{built:?}");
        }
        for (sound, budget) in [
            (rule().attempt_timeout(attempt(15)), Some(zero())),
            (rule().hedge(late(1)).attempt_timeout(attempt(2)), None),
            (rule().timeout(TimeoutLayer::unlimited()).hedge(late(100)), None),
            (rule().retry(retry::Policy::new(1).budget(zero())), Some(Budget::default())),
        ] {
            assert_eq!(build(sound, budget), Ok(()));
        }
    }

    /// Two requests could each hold what the other waits for: `a` at a rule and then `b` in front of its upstream, and
    /// the other way round.
    #[test]
    fn a_limit_that_is_waited_for_has_one_position() {
        let one = NonZeroU32::MIN;
        let queued = |name| Concurrency::fixed(name, one).queue(Queue::new(one));
        let (a, b) = (queued("a").build().unwrap(), queued("b").build().unwrap());
        let listen = || Listen::on("public", ([127, 0, 0, 1], 0).into());
        let backend = |name: &str| {
            let upstream = Upstream::builder(name).endpoint("127.0.0.1:9001").build().unwrap();
            Backend::new(Proxy::new(upstream))
        };
        let build = |listen, rules: [Rule; 2]| {
            let [one, other] = rules;
            Snapshot::builder().listen(listen).rule(one).rule(other).build().map(drop)
        };
        let rule = |name: &str, at_rule: &Concurrency, in_front: &Concurrency| {
            let matched = crate::matching::RequestMatch::prefix(&format!("/{name}")).unwrap();
            let rule = Rule::new(name).when(matched).concurrency(at_rule.clone());
            rule.backend(backend(name).concurrency(in_front.clone()), 1)
        };
        let twice = |name: &str| Err(SnapshotError::QueuedTwice(name.into()));
        assert_eq!(build(listen(), [rule("x", &a, &b), rule("y", &b, &a)]), twice("a"));
        assert_eq!(build(listen(), [rule("x", &a, &b), rule("y", &a, &b)]), Ok(()));
        assert_eq!(
            build(listen().concurrency(b.clone()), [rule("x", &a, &b), rule("y", &a, &b)]),
            twice("b")
        );
        // Where nobody waits, nobody waits for another.
        let c = Concurrency::fixed("c", one).build().unwrap();
        let shadow = queued("d").in_shadow(true).build().unwrap();
        assert_eq!(build(listen(), [rule("x", &c, &shadow), rule("y", &shadow, &c)]), Ok(()));
    }
}
