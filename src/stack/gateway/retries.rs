//! What is told of second attempts, and of faults.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;
use crate::{
    attempt::RetryStop,
    resilience::{
        budget::Budget,
        fault::FaultHandle,
        hedge::{HedgeHandle, HedgeStop},
        retry::RetryHandle,
    },
};

/// The numbers of rules that try again, hedge or make requests fail, and the budgets of upstreams.
#[derive(Debug, Default)]
pub(super) struct Retries {
    rules: Vec<(Arc<str>, RetryHandle)>,
    hedges: Vec<(Arc<str>, HedgeHandle)>,
    faults: Vec<(Arc<str>, FaultHandle)>,
    /// Of upstreams, and of rules whose upstreams have none.
    budgets: Vec<(Whose, Budget)>,
}

/// A label, and its value.
type Whose = (&'static str, Arc<str>);

impl Retries {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut budgets: Vec<(Whose, Budget)> = Vec::new();
        for rule in rules {
            let Some(own) = rule.calling.own_budget() else { continue };
            for (backend, _) in &rule.backends {
                let (whose, budget) = match backend.budget() {
                    Some(budget) => (("upstream", backend.upstream().name().into()), budget.clone()),
                    None => (("route", Arc::clone(&rule.name)), own.clone()),
                };
                if budgets.iter().all(|(known, _)| *known != whose) {
                    budgets.push((whose, budget));
                }
            }
        }
        let handle = |rule: &Rule| Some((Arc::clone(&rule.name), rule.calling.retry.as_ref()?.handle()));
        let hedge = |rule: &Rule| Some((Arc::clone(&rule.name), rule.calling.hedge.as_ref()?.handle()));
        let hedges = rules.iter().filter_map(hedge).collect();
        let fault = |rule: &Rule| Some((Arc::clone(&rule.name), rule.calling.fault.as_ref()?.handle()));
        let faults = rules.iter().filter_map(fault).collect();
        Self { rules: rules.iter().filter_map(handle).collect(), hedges, faults, budgets }
    }

    pub(super) fn fault(&self, rule: &str) -> Option<&FaultHandle> {
        self.faults.iter().find_map(|(name, handle)| (**name == *rule).then_some(handle))
    }

    /// For the status: what is made to fail.
    pub(super) fn faults(&self) -> Value {
        let fault = |(name, handle): &(Arc<str>, FaultHandle)| {
            json!({
                "rule": **name,
                "stopped": handle.is_stopped(),
                "delay": handle.delayed(),
                "abort": handle.aborted(),
                "reset": handle.reset(),
                "throttle": handle.throttled(),
            })
        };
        self.faults.iter().map(fault).collect()
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let rule = |(name, handle): &(Arc<str>, RetryHandle)| {
            let stopped = RetryStop::ALL.iter().map(|why| (why.label(), handle.stopped(*why)));
            json!({
                "rule": **name,
                "retries": handle.retries(),
                "recovered": handle.recovered(),
                "stopped": stopped.collect::<std::collections::BTreeMap<_, _>>(),
            })
        };
        let hedge = |(name, handle): &(Arc<str>, HedgeHandle)| {
            let stopped = HedgeStop::ALL.iter().map(|why| (why.label(), handle.stopped(*why)));
            json!({
                "rule": **name,
                "hedges": handle.hedges(),
                "won": handle.won(),
                "cancelled": handle.cancelled(),
                "delayMillis": handle.delay().map(|delay| delay.as_secs_f64() * 1e3),
                "stopped": stopped.collect::<std::collections::BTreeMap<_, _>>(),
            })
        };
        let budget = |((kind, name), budget): &(Whose, Budget)| {
            json!({
                (*kind): **name,
                "calls": budget.calls(),
                "spent": budget.spent(),
                "refused": budget.refused(),
            })
        };
        json!({
            "rules": self.rules.iter().map(rule).collect::<Vec<_>>(),
            "hedges": self.hedges.iter().map(hedge).collect::<Vec<_>>(),
            "budgets": self.budgets.iter().map(budget).collect::<Vec<_>>(),
        })
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(super) fn numbers(&self, samples: &mut Samples) {
        let Self { rules, hedges, budgets, .. } = self;
        for (name, handle) in rules {
            let route = ("route", &**name);
            let help = "Attempts that were made beside the first";
            samples.counter("retries", help, &[route], handle.retries());
            let help = "Requests that failed at first and ended well";
            samples.counter("retries_recovered", help, &[route], handle.recovered());
            for why in RetryStop::ALL {
                let help = "Requests that failed and were not tried again";
                let labels = [route, ("reason", why.label())];
                samples.counter("retries_stopped", help, &labels, handle.stopped(*why));
            }
        }
        for (name, handle) in hedges {
            let route = ("route", &**name);
            let help = "Attempts that were sent beside a late one";
            samples.counter("hedges", help, &[route], handle.hedges());
            let help = "Those of them whose answer was given";
            samples.counter("hedges_won", help, &[route], handle.won());
            let help = "Attempts that were cancelled, since another had come first";
            samples.counter("hedges_cancelled", help, &[route], handle.cancelled());
            for why in HedgeStop::ALL {
                let help = "Requests that were late and had no further attempt";
                samples.counter(
                    "hedges_stopped",
                    help,
                    &[route, ("reason", why.label())],
                    handle.stopped(*why),
                );
            }
            if let Some(delay) = handle.delay() {
                samples.gauge(
                    "hedge_delay_seconds",
                    "How late an attempt must be for another",
                    &[route],
                    delay,
                );
            }
        }
        for ((kind, name), budget) in budgets {
            let whose = [(*kind, &**name)];
            let help = "Requests from which the budget of second attempts grows";
            samples.counter("retry_budget_calls", help, &whose, budget.calls());
            let help = "Second attempts that the budget allowed";
            samples.counter("retry_budget_spent", help, &whose, budget.spent());
            let help = "Second attempts that the budget did not allow";
            samples.counter("retry_budget_refused", help, &whose, budget.refused());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        resilience::retry,
        stack::gateway::Backend,
        upstream::{Proxy, Upstream},
    };

    #[test]
    fn each_budget_is_told_of_once_by_whose_it_is() {
        let upstream = |name: &str| {
            Backend::new(Proxy::new(Upstream::builder(name).endpoint("127.0.0.1:9001").build().unwrap()))
        };
        let shared = Budget::default();
        let rule = |name: &str, backend: Backend| {
            Rule::new(name).retry(retry::Policy::new(1)).backend(upstream("own"), 1).backend(backend, 1)
        };
        let rules = [
            rule("a", upstream("fleet").retry_budget(shared.clone())),
            rule("b", upstream("fleet").retry_budget(shared)),
            Rule::new("c").backend(upstream("own"), 1),
        ];
        let budgets = Retries::of(&rules).status()["budgets"].clone();
        let whose = |at: usize| (budgets[at]["route"].as_str(), budgets[at]["upstream"].as_str());
        assert_eq!(
            [0, 1, 2].map(whose),
            [(Some("a"), None), (None, Some("fleet")), (Some("b"), None)],
            "{budgets}"
        );
        assert!(budgets[3].is_null());
    }
}
