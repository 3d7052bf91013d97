//! What is told of keys that are fetched.

#[cfg(feature = "prometheus")]
use std::sync::Weak;
use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use crate::authn::jwks::RemoteKeys;
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::run::Shared, telemetry::metrics::Samples};

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
pub(super) fn numbers(gateway: Weak<Shared>) -> impl Fn(&mut Samples) + Send + Sync + 'static {
    move |samples| {
        let Some(current) = gateway.upgrade().and_then(|gateway| gateway.current.load_full()) else { return };
        for (provider, keys) in &current.snapshot.key_sets {
            let status = keys.status();
            let provider = ("provider", &**provider);
            for (result, count) in status.fetches {
                let labels = [provider, ("result", result.label())];
                samples.counter("key_set_fetches", "Fetches of keys that have ended", &labels, count);
            }
            let mut gauge = |name, help, value| samples.gauge(name, help, &[provider], value);
            gauge("key_set_keys", "Keys that verify", status.keys as u64);
            gauge("key_set_skipped_keys", "Keys that were left out", status.skipped as u64);
            if let Some(age) = status.age {
                gauge("key_set_age_seconds", "Time since the keys were fetched", age.as_secs());
            }
        }
    }
}
