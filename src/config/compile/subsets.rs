//! `upstreams.NAME.subsets`, labels, and the `subset` of a backend.
use super::Compiler;
use crate::{
    config::{
        at::At,
        schema::{self, BackendRef, Endpoint, FallbackPolicy, Labels, SubsetRules},
    },
    upstream::{Fallback, Subset, Subsets, Upstream},
};

/// The longest key, and the longest value.
const LONGEST: usize = 63;
/// The longest name of a version in logs, metrics and headers.
const LONGEST_NAME: usize = 128;

/// What a backend is called among those of a rule.
pub(super) fn called(backend: &BackendRef) -> String {
    let name = &backend.name;
    backend.subset.as_ref().map_or_else(|| name.clone(), |labels| format!("{name}{}", subset(labels)))
}

fn subset(labels: &Labels) -> Subset {
    Subset::new(labels.iter().map(|(key, value)| (&**key, &**value)))
}

/// Reports labels that are none.
pub(super) fn check_labels(at: At<'_>, labels: &Labels) {
    let fits = |text: &str| (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    for (at, key, value) in at.entries(labels) {
        if !fits(key) || !fits(value) {
            at.error("expected a key and a value of 1 to 63 visible ASCII characters");
        }
    }
}

/// Labels by which endpoints of an upstream are picked.
fn picked(at: At<'_>, labels: &Labels, of: Option<&schema::Upstream>) -> Subset {
    check_labels(at, labels);
    if labels.is_empty() && !at.is_broken() {
        at.error("picks nothing: expected labels such as `version: v2`");
    }
    let is_in = |endpoint: &Endpoint| {
        labels.iter().all(|(key, value)| endpoint.labels().is_some_and(|own| own.get(key) == Some(value)))
    };
    if of.is_some_and(|of| of.discovery.is_none() && !of.endpoints.iter().any(is_in)) {
        at.warn("no endpoint of the upstream has these labels");
    }
    subset(labels)
}

/// By what requests choose among the endpoints of an upstream.
pub(super) fn subsets(at: At<'_>, rules: &SubsetRules, upstream: &schema::Upstream) -> Subsets {
    let mut subsets = Subsets::new();
    let headers = at.field("fromHeaders");
    for (at, key, _) in headers.entries(&rules.from_headers) {
        if key.is_empty() || key.len() > LONGEST {
            at.error("expected the key of a label");
        }
    }
    if !rules.from_headers.is_empty() {
        let labels = rules.from_headers.iter().map(|(key, header)| (key.as_str(), header.0.clone()));
        subsets = subsets.by_headers(labels);
    }
    let default = at.field("defaultSubset");
    subsets.fallback(match (rules.fallback_policy, &rules.default_subset) {
        (FallbackPolicy::DefaultSubset, Some(labels)) => {
            Fallback::Default(picked(default, labels, Some(upstream)))
        }
        (FallbackPolicy::DefaultSubset, None) => {
            default.error("is missing, and the `fallbackPolicy` asks for it");
            Fallback::None
        }
        (policy, said) => {
            if said.is_some() {
                default.error("only the `fallbackPolicy` `defaultSubset` asks for it");
            }
            if policy == FallbackPolicy::AnyEndpoint { Fallback::Any } else { Fallback::None }
        }
    })
}

impl Compiler<'_> {
    /// The upstream, or the part of it that a backend picks.
    pub(super) fn part(&self, at: At<'_>, upstream: &Upstream, backend: &BackendRef) -> Upstream {
        let Some(labels) = &backend.subset else { return upstream.clone() };
        let at = at.field("subset");
        let subset = picked(at, labels, self.file.upstreams.get(&backend.name));
        let part = upstream.subset(subset.labels());
        if part.variant().len() > LONGEST_NAME {
            at.error("more than 128 characters together with the name of the upstream");
        }
        part
    }
}
