//! What is told of mirrors.
use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::rule::Rule;
use crate::routing::mirror::{Difference, Dropped, MirrorHandle};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;

/// The numbers of rules that mirror, each mirror with the name of its rule.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<(Arc<str>, MirrorHandle)>);

impl Mirrors {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let of_rule = |rule: &Rule| {
            let name = Arc::clone(&rule.name);
            rule.mirrors.iter().map(|(_, policy)| (Arc::clone(&name), policy.handle())).collect::<Vec<_>>()
        };
        Self(rules.iter().flat_map(of_rule).collect())
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let mirror = |(rule, handle): &(Arc<str>, MirrorHandle)| {
            let dropped = Dropped::ALL.iter().map(|why| (why.label(), handle.dropped(*why)));
            let differences = Difference::ALL.iter().map(|kind| (kind.label(), handle.differences(*kind)));
            json!({
                "rule": **rule,
                "mirror": handle.name(),
                "inFlight": handle.in_flight(),
                "begun": handle.begun(),
                "completed": handle.completed(),
                "dropped": dropped.collect::<BTreeMap<_, _>>(),
                "compared": handle.compared(),
                "different": handle.different(),
                "incomparable": handle.incomparable(),
                "differences": differences.collect::<BTreeMap<_, _>>(),
            })
        };
        self.0.iter().map(mirror).collect()
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(super) fn numbers(&self, samples: &mut Samples) {
        for (rule, handle) in &self.0 {
            let [route, mirror] = [("route", &**rule), ("mirror", handle.name())];
            let mut count = |name, help, count| samples.counter(name, help, &[route, mirror], count);
            count("mirrored", "Requests of which a mirror has got a copy", handle.begun());
            count("mirrored_completed", "Copies whose response was read", handle.completed());
            count("mirror_compared", "Pairs of answers that were compared", handle.compared());
            count("mirror_different", "Pairs of answers that were not the same", handle.different());
            let help = "Pairs of answers of which one was not there as a whole";
            count("mirror_incomparable", help, handle.incomparable());
            let help = "Copies that are under way";
            samples.gauge("mirrored_in_flight", help, &[route, mirror], handle.in_flight());
            for why in Dropped::ALL {
                let labels = [route, mirror, ("reason", why.label())];
                let help = "Copies that were dropped, or not begun";
                samples.counter("mirrored_dropped", help, &labels, handle.dropped(*why));
            }
            for kind in Difference::ALL {
                let labels = [route, mirror, ("kind", kind.label())];
                let help = "In what pairs of answers differ";
                samples.counter("mirror_differences", help, &labels, handle.differences(*kind));
            }
        }
    }
}
