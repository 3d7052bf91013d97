//! What is told of retries.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
#[cfg(feature = "prometheus")]
use super::snapshot::Snapshot;
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;
use crate::{
    attempt::RetryStop,
    resilience::{
        budget::Budget,
        retry::{Policy, RetryHandle},
    },
};

/// The numbers of rules that try again, and the budgets of upstreams.
#[derive(Debug, Default)]
pub(super) struct Retries {
    rules: Vec<(Arc<str>, RetryHandle)>,
    budgets: Vec<(Arc<str>, Budget)>,
}

impl Retries {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut budgets: Vec<(Arc<str>, Budget)> = Vec::new();
        for (backend, _) in rules.iter().filter(|rule| rule.retry.is_some()).flat_map(|rule| &rule.backends) {
            let name = backend.proxy.upstream().name();
            if let Some(budget) = &backend.retry_budget
                && budgets.iter().all(|(known, _)| **known != *name)
            {
                budgets.push((name.into(), budget.clone()));
            }
        }
        let handle = |rule: &Rule| Some((Arc::clone(&rule.name), rule.retry.as_ref().map(Policy::handle)?));
        Self { rules: rules.iter().filter_map(handle).collect(), budgets }
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
        let budget = |(name, budget): &(Arc<str>, Budget)| {
            json!({
                "upstream": **name,
                "calls": budget.calls(),
                "spent": budget.spent(),
                "refused": budget.refused(),
            })
        };
        json!({
            "rules": self.rules.iter().map(rule).collect::<Vec<_>>(),
            "budgets": self.budgets.iter().map(budget).collect::<Vec<_>>(),
        })
    }
}

/// For the metrics.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    let Retries { rules, budgets } = &snapshot.retries;
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
    for (name, budget) in budgets {
        let upstream = [("upstream", &**name)];
        let help = "Requests from which the budget of second attempts grows";
        samples.counter("retry_budget_calls", help, &upstream, budget.calls());
        let help = "Second attempts that the budget allowed";
        samples.counter("retry_budget_spent", help, &upstream, budget.spent());
        let help = "Second attempts that the budget did not allow";
        samples.counter("retry_budget_refused", help, &upstream, budget.refused());
    }
}
