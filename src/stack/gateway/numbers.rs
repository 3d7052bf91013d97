//! What policies and authorizers count, for the metrics.
use std::sync::Weak;

use super::{run::Shared, snapshot::Snapshot};
use crate::telemetry::metrics::Samples;

/// The numbers of what is in force.
pub(super) fn of_authorization(gateway: Weak<Shared>) -> impl Fn(&mut Samples) + Send + Sync + 'static {
    move |samples| {
        if let Some(current) = gateway.upgrade().and_then(|gateway| gateway.current.load_full()) {
            decisions(&current.snapshot, samples);
            authorizers(&current.snapshot, samples);
        }
    }
}

fn decisions(snapshot: &Snapshot, samples: &mut Samples) {
    for count in snapshot.tallies.iter().flat_map(|tally| tally.read()) {
        let labels = [
            ("policy", &*count.policy),
            ("rule", &*count.rule),
            ("action", count.action),
            ("shadow", if count.shadow { "true" } else { "false" }),
        ];
        let help = "Decisions of policies, by the rule that made them";
        samples.counter("authorization_decisions", help, &labels, count.decisions);
    }
}

fn authorizers(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, handle) in &snapshot.authorizers {
        let name = ("authorizer", &**name);
        for (result, count) in
            [("pass", handle.passed()), ("refuse", handle.refused()), ("fail", handle.failed())]
        {
            let help = "What authorizers have made of requests";
            samples.counter("external_authorization", help, &[name, ("result", result)], count);
        }
        let help = "Those of them that were decided by an answer from before";
        samples.counter("external_authorization_remembered", help, &[name], handle.remembered());
    }
}
