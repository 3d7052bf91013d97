//! What a running gateway tells at its admin address.
use std::sync::{Arc, PoisonError, Weak, atomic::Ordering};

use serde_json::{Value, json};

use super::run::Shared;
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::{Metrics, Reading, ReadingKind};
use crate::{authn::api_key::ApiKeys, stack::admin::Told, upstream::Upstream};

impl Told for Weak<Shared> {
    fn knows(&self, host: &str) -> bool {
        let current = self.upgrade().and_then(|shared| shared.current.load_full());
        current.is_some_and(|current| current.snapshot.admin.as_ref().is_some_and(|admin| admin.knows(host)))
    }

    fn ready(&self) -> Result<(), &'static str> {
        match self.upgrade() {
            Some(shared) if shared.draining.load(Ordering::Relaxed) => Err("draining"),
            Some(shared) if shared.current.load().is_some() => Ok(()),
            Some(_) => Err("starting"),
            None => Err("gone"),
        }
    }

    fn metrics(&self) -> Option<(&'static str, String)> {
        #[cfg(feature = "prometheus")]
        return self.upgrade().map(|shared| (Metrics::CONTENT_TYPE, shared.metrics.render()));
        #[cfg(not(feature = "prometheus"))]
        return None;
    }

    fn status(&self) -> String {
        self.upgrade().map_or_else(|| "{}".to_owned(), |shared| format!("{:#}\n", shared.status()))
    }
}

impl Shared {
    fn status(&self) -> Value {
        let state = match self.draining.load(Ordering::Relaxed) {
            true => "draining",
            false => "serving",
        };
        let (mut listeners, mut draining) = (Vec::new(), Vec::new());
        {
            let mut sockets = self.sockets();
            sockets.sweep();
            let show = |acceptor: &super::sockets::Acceptor| {
                json!({
                    "name": **acceptor.name(),
                    "address": acceptor.local.to_string(),
                    // Accepting is one of what is counted.
                    "connections": acceptor.drain.in_flight().saturating_sub(1),
                })
            };
            listeners.extend(sockets.serving.iter().map(show));
            draining.extend(sockets.leaving.iter().map(show));
        }
        let load = self.last_load.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|load| {
            json!({
                "accepted": load.faults.is_empty(),
                "secondsAgo": load.at.elapsed().as_secs(),
                "faults": load.faults,
            })
        });
        let current = self.current.load_full();
        let snapshot = current.as_ref().map(|current| &current.snapshot);
        json!({
            "state": state,
            "generation": current.as_ref().map_or(0, |current| current.generation),
            "lastLoad": load,
            "listeners": listeners,
            "drainingListeners": draining,
            "rules": snapshot.iter().flat_map(|snapshot| snapshot.rules())
                .map(|rule| json!({ "name": *rule.name, "public": rule.public })).collect::<Vec<_>>(),
            "apiKeys": snapshot.iter().flat_map(|snapshot| &snapshot.api_keys).map(api_keys).collect::<Vec<_>>(),
            "upstreams": snapshot.iter().flat_map(|snapshot| snapshot.upstreams()).map(upstream).collect::<Vec<_>>(),
        })
    }
}

fn api_keys((provider, keys): &(Arc<str>, ApiKeys)) -> Value {
    let health = keys.health();
    json!({
        "provider": **provider,
        "keys": health.keys,
        "secondsAgo": health.age.as_secs(),
        "failures": health.failures,
    })
}

fn upstream(upstream: &Upstream) -> Value {
    let endpoints = upstream.endpoints().into_iter().map(|endpoint| {
        json!({
            "address": endpoint.address.to_string(),
            "inFlight": endpoint.in_flight,
            "connections": endpoint.connections,
            "idle": endpoint.idle,
        })
    });
    json!({ "name": upstream.name(), "endpoints": endpoints.collect::<Vec<_>>() })
}

/// What is known of the keys that are followed, for the metrics.
#[cfg(feature = "prometheus")]
pub(super) fn readings(shared: &Weak<Shared>) -> Vec<Reading> {
    let current = shared.upgrade().and_then(|shared| shared.current.load_full());
    let keys = current.iter().flat_map(|current| &current.snapshot.api_keys);
    keys.flat_map(|(provider, keys)| {
        let health = keys.health();
        let of = |name, help, kind, value| Reading {
            name,
            help,
            kind,
            label: ("provider", provider.to_string()),
            value,
        };
        let (count, failures) = (health.keys.unwrap_or_default() as f64, health.failures as f64);
        [
            of("api_keys", "API keys in force, also those that are not valid", ReadingKind::Gauge, count),
            of(
                "api_keys_age_seconds",
                "Since the store of API keys was last heard of",
                ReadingKind::Gauge,
                health.age.as_secs_f64(),
            ),
            of(
                "api_keys_store_failures",
                "How often the store of API keys was of no use",
                ReadingKind::Counter,
                failures,
            ),
        ]
    })
    .collect()
}
