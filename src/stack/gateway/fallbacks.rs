//! What is told of fallbacks.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
#[cfg(feature = "prometheus")]
use super::snapshot::Snapshot;
use crate::resilience::fallback::{FallbackHandle, Stale};
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
        let stale = |stale: &Stale| {
            let (kept, not_kept) = stale.kept();
            json!({ "answers": stale.entries(), "bytes": stale.bytes(), "kept": kept, "notKept": not_kept })
        };
        let rule = |(name, handle): &(Arc<str>, FallbackHandle)| {
            json!({
                "rule": **name,
                "given": handle.given(),
                "notGiven": handle.not_given(),
                "stale": handle.stale().map(stale),
            })
        };
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
        if let Some(stale) = handle.stale() {
            old_answers(stale, route, samples);
        }
    }
}

#[cfg(feature = "prometheus")]
fn old_answers(stale: &Stale, route: (&'static str, &str), samples: &mut Samples) {
    let (kept, not_kept) = stale.kept();
    let help = "Answers that are kept for when there are none";
    samples.gauge("stale_answers", help, &[route], stale.entries() as u64);
    let help = "The bytes that they take, and those that are being recorded";
    samples.gauge("stale_bytes", help, &[route], stale.bytes() as u64);
    let help = "Answers that were kept";
    samples.counter("stale_kept", help, &[route], kept);
    let help = "Answers that might have been kept: too long, no room, broken off, or with trailers";
    samples.counter("stale_not_kept", help, &[route], not_kept);
}
