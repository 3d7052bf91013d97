//! What the parts of a snapshot count, for the metrics.
use super::snapshot::Snapshot;
use crate::telemetry::metrics::Family;

pub(super) fn of(snapshot: &Snapshot) -> Vec<Family> {
    vec![decisions(snapshot), authorizers(snapshot), remembered(snapshot)]
}

fn decisions(snapshot: &Snapshot) -> Family {
    let counts = snapshot.tallies.iter().flat_map(|tally| tally.read());
    let lines = counts.map(|count| {
        let labels = vec![
            ("policy", count.policy.to_string()),
            ("rule", count.rule.to_string()),
            ("action", count.action.to_owned()),
            ("shadow", count.shadow.to_string()),
        ];
        (labels, count.decisions)
    });
    let help = "Decisions of policies, by the rule that made them";
    Family { name: "authorization_decisions", help, lines: lines.collect() }
}

fn authorizers(snapshot: &Snapshot) -> Family {
    let lines = snapshot.authorizers.iter().flat_map(|(name, counts)| {
        let numbers = counts.read();
        let outcomes = [("pass", numbers.passed), ("refuse", numbers.refused), ("fail", numbers.failed)];
        outcomes.map(|(outcome, count)| {
            (vec![("authorizer", name.to_string()), ("outcome", outcome.to_owned())], count)
        })
    });
    let help = "What authorizers have made of requests";
    Family { name: "external_authorization", help, lines: lines.collect() }
}

fn remembered(snapshot: &Snapshot) -> Family {
    let lines = snapshot.authorizers.iter().map(|(name, counts)| {
        (vec![("authorizer", name.to_string())], counts.read().remembered)
    });
    let help = "Those of them that were decided by an answer from before";
    Family { name: "external_authorization_remembered", help, lines: lines.collect() }
}
