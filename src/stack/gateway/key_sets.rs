//! What is told of keys that are fetched.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use crate::authn::jwks::RemoteKeys;
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::snapshot::Snapshot, telemetry::metrics::Samples};

/// For the status.
pub(super) fn status((provider, keys): &(Arc<str>, RemoteKeys)) -> Value {
    let status = keys.status();
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let fetches = status.fetches.iter().filter(|(_, count)| *count > 0);
    let fetches: Map<_, _> =
        fetches.map(|(result, count)| (result.label().to_owned(), json!(count))).collect();
    json!({
        "provider": **provider,
        "source": keys.source(),
        "state": status.state.label(),
        "keys": status.keys,
        "skippedKeys": status.skipped,
        "ageSeconds": seconds(status.age),
        "nextFetchSeconds": seconds(status.next),
        "fetches": fetches,
        "lastError": status.last_error,
    })
}

/// For the metrics: the numbers of the key sets in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (provider, keys) in &snapshot.key_sets {
        let status = keys.status();
        let provider = ("provider", &**provider);
        for (result, count) in status.fetches {
            let labels = [provider, ("result", result.label())];
            samples.counter("key_set_fetches", "Fetches of keys that have ended", &labels, count);
        }
        samples.gauge("key_set_keys", "Keys that verify", &[provider], status.keys);
        samples.gauge("key_set_skipped_keys", "Keys that were left out", &[provider], status.skipped);
        if let Some(age) = status.age {
            samples.gauge("key_set_age_seconds", "Time since the keys were fetched", &[provider], age);
        }
    }
}
