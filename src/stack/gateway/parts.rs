//! What a snapshot gathers from its rules.
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use http::HeaderName;

use super::{
    builder::SnapshotError, direction::Direction, edge::Listen, rule::Rule, snapshot::RuleFacts,
    tcp::TcpRoute,
};
#[cfg(feature = "jwt")]
use crate::authn::outbound::TokenSourceHandle;
use crate::{
    admission::{
        authz::{Authorization, Guard, Tally},
        concurrency::Concurrency,
        ext_authz::ExternalAuthHandle,
        quota::QuotaHandle,
    },
    authn::{Location, Providers},
    listening,
    stack::admin::Admin,
    upstream::Upstream,
};

fn check_admin(admin: Option<&Admin>, upstreams: &[Upstream]) -> Result<(), SnapshotError> {
    let Some(admin) = admin else { return Ok(()) };
    let reaches = |upstream: &&Upstream| {
        upstream.endpoints().iter().any(|at| listening::reaches(admin.address, at.address))
    };
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
    let by_retries = rules.iter().filter_map(|rule| rule.calling.retry.as_ref()?.told_in());
    let by_mirrors = rules.iter().flat_map(|rule| &rule.mirrors).map(|(_, policy)| policy.marked_by());
    let of_providers = providers.flat_map(Providers::asserted_headers);
    of_providers.chain(by_authorizers).chain(by_retries).chain(by_mirrors).cloned()
}

/// Where the credentials stand that these rules ask for.
pub(super) fn locations(rules: &[Rule]) -> impl Iterator<Item = Location> {
    let providers = rules.iter().filter_map(|rule| rule.providers.as_ref());
    providers.flat_map(Providers::locations).cloned()
}

/// What rules say fits together.
pub(super) fn check_rules(
    admin: Option<&Admin>,
    listeners: &[Listen],
    rules: &[Rule],
    tcp: &[TcpRoute],
) -> Result<(), SnapshotError> {
    check_admin(admin, &upstreams(rules, tcp))?;
    check_queues(listeners, rules)?;
    check_calls(rules)
}

/// What is said of calls does not contradict itself.
fn check_calls(rules: &[Rule]) -> Result<(), SnapshotError> {
    let check = |rule: &Rule| {
        let budgets = rule.backends.iter().map(|(backend, _)| backend.budget());
        rule.calling
            .check(budgets)
            .map_err(|error| SnapshotError::Contradiction(Arc::clone(&rule.name), error))
    };
    rules.iter().try_for_each(check)
}

/// Each limit for which requests wait stands at one position.
fn check_queues(listeners: &[Listen], rules: &[Rule]) -> Result<(), SnapshotError> {
    let backends = rules.iter().flat_map(Rule::upstreams);
    let [at_listeners, at_rules, at_upstreams] = [
        queued(listeners.iter().flat_map(|listen| &listen.concurrency)),
        queued(rules.iter().flat_map(|rule| &rule.concurrency)),
        queued(backends.flat_map(|backend| &backend.guards.concurrency)),
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

/// The upstreams of rules and of routes for connections, each once.
pub(super) fn upstreams(rules: &[Rule], tcp: &[TcpRoute]) -> Vec<Upstream> {
    let mut upstreams = super::backend::upstreams(rules);
    for upstream in tcp.iter().flat_map(TcpRoute::upstreams) {
        if !upstreams.iter().any(|known| known.name() == upstream.name()) {
            upstreams.push(upstream.clone());
        }
    }
    upstreams
}

pub(super) fn tallies(rules: &[Rule], tcp: &[TcpRoute]) -> Vec<Tally> {
    let mut tallies: Vec<Tally> = Vec::new();
    let of_connections = tcp.iter().filter_map(TcpRoute::authorization);
    let of_policies = rules.iter().filter_map(|rule| rule.authorization.as_ref()).chain(of_connections);
    let of_policies = of_policies.map(Authorization::tally);
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

/// The rules, each of which has a name of its own.
pub(super) fn distinct(listeners: &[Listen], rules: &[Rule]) -> Result<Vec<RuleFacts>, SnapshotError> {
    // What goes out is the service's own. What comes in may be known by its certificates.
    let is_open = |direction: Direction| {
        let mut ways_in = listeners.iter().filter(|listen| listen.direction == direction);
        direction != Direction::Outbound && ways_in.any(|listen| !listen.asks_for_certificates())
    };
    let facts = |rule: &Rule| {
        let public = rule.is_public() && is_open(rule.direction);
        RuleFacts { name: Arc::clone(&rule.name), public }
    };
    let (rules, mut names) = (rules.iter().map(facts).collect::<Vec<_>>(), HashSet::new());
    match rules.iter().find(|rule| !names.insert(&rule.name)) {
        Some(twice) => Err(SnapshotError::DuplicateRule(Arc::clone(&twice.name))),
        None => Ok(rules),
    }
}

#[cfg(feature = "jwt")]
pub(super) fn token_sources(rules: &[Rule]) -> Vec<(Arc<str>, TokenSourceHandle)> {
    let mut sources: Vec<(Arc<str>, TokenSourceHandle)> = Vec::new();
    for backend in rules.iter().flat_map(Rule::upstreams) {
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
        use crate::{
            ratio::Ratio,
            resilience::{budget::Budget, hedge, retry, timeout::TimeoutLayer},
        };
        let second = std::time::Duration::from_secs(1);
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
            (rule().retry(retry::Policy::new(1).least_wait(15 * second)), None),
            (rule().retry(retry::Policy::new(1).least_left(15 * second)), None),
            (rule().hedge(late(1).least_left(15 * second)), None),
        ] {
            let built = build(faulty, budget);
            assert!(matches!(built, Err(SnapshotError::Contradiction(..))), "{built:?}");
        }
        for (sound, budget) in [
            (rule().attempt_timeout(attempt(15)), Some(zero())),
            (rule().hedge(late(1)).attempt_timeout(attempt(2)), None),
            (rule().timeout(TimeoutLayer::unlimited()).hedge(late(100)), None),
            (rule().retry(retry::Policy::new(1).least_wait(14 * second).least_left(14 * second)), None),
            (
                rule()
                    .timeout(TimeoutLayer::unlimited())
                    .retry(retry::Policy::new(1).least_wait(99 * second)),
                None,
            ),
            (rule().timeout(second / 200).retry(retry::Policy::new(1)), None), // nobody has asked for more
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
