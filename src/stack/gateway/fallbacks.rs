//! What is told of fallbacks.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
#[cfg(feature = "prometheus")]
use super::snapshot::Snapshot;
use crate::resilience::fallback::FallbackHandle;
#[cfg(feature = "prometheus")]
use crate::{telemetry::metrics::Samples, trail::Given};

/// The numbers of rules that fall back on something.
#[derive(Debug, Default)]
pub(super) struct Fallbacks(Vec<(Arc<str>, FallbackHandle)>);

impl Fallbacks {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let handle = |rule: &Rule| Some((Arc::clone(&rule.name), rule.fallback.as_ref()?.policy.handle()));
        Self(rules.iter().filter_map(handle).collect())
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let rule = |(name, handle): &(Arc<str>, FallbackHandle)| json!({ "rule": **name, "given": handle.given(), "notGiven": handle.not_given() });
        self.0.iter().map(rule).collect()
    }
}

/// For the metrics.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, handle) in &snapshot.fallbacks.0 {
        let route = ("route", &**name);
        let help = "Failures in whose place something else was given";
        for given in Given::ALL {
            samples.counter("fallbacks", help, &[route, ("given", given.label())], handle.given_as(given));
        }
        let help =
            "Failures that stood, since there was nothing to give or the request could not be sent again";
        samples.counter("fallbacks_not_given", help, &[route], handle.not_given());
    }
}
