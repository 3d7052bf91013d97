//! What a snapshot gathers from its rules.
use std::{collections::HashSet, sync::Arc};

use http::HeaderName;

use super::{builder::SnapshotError, rule::Rule, snapshot::RuleFacts};
#[cfg(feature = "jwt")]
use crate::authn::outbound::TokenSourceHandle;
use crate::{
    admission::{
        authz::{Authorization, Guard, Tally},
        quota::QuotaHandle,
    },
    authn::Providers,
    resilience::retry::Policy,
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

/// The headers that only these rules may tell upstreams.
pub(super) fn asserted_by(rules: &[Rule]) -> Vec<HeaderName> {
    let by = |rule: &Rule| {
        let providers = rule.providers.iter().flat_map(Providers::asserted_headers);
        let authorizers = rule.authorizers.iter().flat_map(|asked| asked.authorizer.asserted_headers());
        let retries = rule.retry.iter().filter_map(Policy::told_in);
        providers.chain(authorizers).chain(retries).cloned().collect::<Vec<_>>()
    };
    rules.iter().flat_map(by).collect()
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
