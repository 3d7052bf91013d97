//! What is told of circuit breakers.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
use crate::resilience::breaker::{BreakerHandle, BreakerLayer};
#[cfg(feature = "prometheus")]
use crate::{telemetry::metrics::Samples, trip::State};

/// The breakers of rules and of upstreams: what each guards, its name, and the breaker.
#[derive(Debug, Default)]
pub(super) struct Breakers(Vec<(&'static str, Arc<str>, BreakerHandle)>);

impl Breakers {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let handle = |breaker: &Option<BreakerLayer>| breaker.as_ref().and_then(BreakerLayer::handle);
        let of_rule = |rule: &Rule| Some(("rule", Arc::clone(&rule.name), handle(&rule.breaker)?));
        let mut all: Vec<_> = rules.iter().filter_map(of_rule).collect();
        for backend in rules.iter().flat_map(Rule::upstreams) {
            let name = backend.proxy.upstream().name();
            if let Some(handle) = handle(&backend.guards.breaker)
                && !all.iter().any(|(kind, known, _)| *kind == "upstream" && **known == *name)
            {
                all.push(("upstream", name.into(), handle));
            }
        }
        Self(all)
    }

    pub(super) fn of_upstream(&self, name: &str) -> Option<&BreakerHandle> {
        let known = |(kind, known, _): &&(&str, Arc<str>, _)| *kind == "upstream" && **known == *name;
        self.0.iter().find(known).map(|(_, _, handle)| handle)
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let one = |(kind, name, handle): &(&'static str, Arc<str>, BreakerHandle)| {
            let keys = handle.keys().map(
                |(known, open)| json!({ "known": known, "open": open, "unguarded": handle.unguarded() }),
            );
            json!({
                "kind": kind,
                "name": **name,
                "state": handle.state().label(),
                "mode": handle.mode().label(),
                "opened": handle.opened(),
                "refused": handle.refused(),
                "spared": handle.spared(),
                "keys": keys,
            })
        };
        self.0.iter().map(one).collect()
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(super) fn numbers(&self, samples: &mut Samples) {
        for (kind, name, handle) in &self.0 {
            let labels = [("kind", *kind), ("name", &**name)];
            let now = handle.state();
            for state in State::ALL {
                let labels = [labels[0], labels[1], ("state", state.label())];
                let help = "Whether a circuit breaker stands there: 1 of one of its states";
                samples.gauge("circuit_breaker_state", help, &labels, state == now);
            }
            let help = "How often a circuit breaker opened";
            samples.counter("circuit_breaker_opened", help, &labels, handle.opened());
            let help = "Requests that a circuit breaker refused";
            samples.counter("circuit_breaker_refusals", help, &labels, handle.refused());
            let help = "Requests that passed only because a circuit breaker is in shadow";
            samples.counter("circuit_breaker_spared", help, &labels, handle.spared());
            if let Some((known, open)) = handle.keys() {
                let help = "Keys that a circuit breaker tells apart";
                samples.gauge("circuit_breaker_keys", help, &labels, known);
                let help = "Those of them for which it is not closed";
                samples.gauge("circuit_breaker_open_keys", help, &labels, open);
                let help = "Requests for whose key there was no room";
                samples.counter("circuit_breaker_unguarded", help, &labels, handle.unguarded());
            }
        }
    }
}
