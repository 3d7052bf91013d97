//! What is told of canaries, and what they are told.
use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
use crate::routing::canary::{Calls, Canary, CanaryHandle, State};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Samples;

/// What a canary is told when a snapshot is taken into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Steer {
    /// The new version gets nothing, at once.
    Abort,
    /// It stays where it is.
    Pause,
    /// The new version gets all, at once.
    Promote,
    /// It goes on by itself, or begins anew if it has ended.
    Run,
}

/// The canaries of rules, by their names.
#[derive(Debug, Default)]
pub(super) struct Canaries(Vec<(Arc<str>, CanaryHandle, Option<Steer>)>);

impl Canaries {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let of_rule = |rule: &Rule| {
            let handle = rule.canary.as_ref().map(Canary::handle)?;
            Some((Arc::clone(&rule.name), handle, rule.steer))
        };
        Self(rules.iter().filter_map(of_rule).collect())
    }

    pub(super) fn find(&self, rule: &str) -> Option<&CanaryHandle> {
        self.0.iter().find_map(|(name, handle, _)| (**name == *rule).then_some(handle))
    }

    /// Tells them what they are to do.
    pub(super) fn start(&self) {
        for (name, handle, steer) in &self.0 {
            match steer {
                None => {}
                Some(Steer::Abort) => handle.abort(),
                Some(Steer::Promote) => handle.promote(),
                Some(Steer::Pause) => {
                    if let Err(error) = handle.pause() {
                        tracing::warn!(target: "portcullis::canary", canary = &**name, %error, "cannot pause");
                    }
                }
                Some(Steer::Run) if handle.resume().is_ok() => {}
                Some(Steer::Run) => {
                    handle.restart();
                    // It cannot have ended: it has just begun.
                    let _ = handle.resume();
                }
            }
        }
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let calls =
            |calls: Calls| json!({ "calls": calls.calls, "failed": calls.failed, "slow": calls.slow });
        let canary = |(rule, handle, _): &(Arc<str>, CanaryHandle, Option<Steer>)| {
            let status = handle.status();
            let worse = if let State::RolledBack(worse) = status.state { Some(worse.label()) } else { None };
            json!({
                "rule": **rule,
                "state": status.state.label(),
                "worse": worse,
                "step": status.step,
                "steps": status.steps,
                "share": status.share.to_string(),
                "sinceSeconds": status.since.as_secs(),
                "old": calls(status.old),
                "new": calls(status.new),
                "slowerThanSeconds": status.slow.map(|slow| slow.as_secs_f64()),
                "fine": status.is_fine,
                "rollbacks": handle.rollbacks(),
            })
        };
        self.0.iter().map(canary).collect()
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(super) fn numbers(&self, samples: &mut Samples) {
        for (rule, handle, _) in &self.0 {
            let (route, status) = (("route", &**rule), handle.status());
            let help = "The share of requests that a new version gets";
            samples.gauge("canary_share_ratio", help, &[route], status.share.as_f64());
            samples.gauge("canary_step", "Which step a canary is at", &[route], status.step);
            for state in State::LABELS {
                let is = *state == status.state.label();
                samples.gauge("canary_state", "What a canary is at: 1 if so", &[route, ("state", state)], is);
            }
            let help = "How often a new version was found worse and rolled back";
            samples.counter("canary_rollbacks", help, &[route], handle.rollbacks());
        }
    }
}
