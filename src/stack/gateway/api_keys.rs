//! What is told of API keys.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authn::api_key::ApiKeys;
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::snapshot::Snapshot, telemetry::metrics::Samples};

/// For the status.
pub(super) fn status((provider, keys): &(Arc<str>, ApiKeys)) -> Value {
    let health = keys.health();
    json!({
        "provider": **provider,
        "keys": health.keys,
        "ageSeconds": health.age.as_secs(),
        "failures": health.failures,
    })
}

/// For the metrics: the numbers of the keys in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (provider, keys) in &snapshot.api_keys {
        let health = keys.health();
        let labels = [("provider", &**provider)];
        if let Some(keys) = health.keys {
            samples.gauge("api_keys", "API keys, also those that are not valid", &labels, keys);
        }
        let age = "Time since the store of API keys was last heard of";
        samples.gauge("api_keys_age_seconds", age, &labels, health.age);
        let failures = "How often the store of API keys was of no use";
        samples.counter("api_keys_store_failures", failures, &labels, health.failures);
    }
}
