//! What a running gateway tells at its admin address.
use std::sync::{PoisonError, Weak, atomic::Ordering};

use serde_json::{Value, json};

#[cfg(feature = "jwt")]
use super::snapshot::Snapshot;
use super::{consumption::consumption, run::Shared, sockets::Acceptor};
use crate::stack::admin::{Telling, Told};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;

impl Told for Weak<Shared> {
    fn knows(&self, host: &str) -> bool {
        let current = self.upgrade().and_then(|shared| shared.current.load_full());
        current.is_some_and(|current| current.snapshot.admin.as_ref().is_some_and(|admin| admin.knows(host)))
    }

    fn ready(&self) -> Result<(), String> {
        let shared = self.upgrade().ok_or("gone")?;
        shared.readiness().map_err(|why| why.to_string())
    }

    fn metrics(&self) -> Option<(&'static str, String)> {
        #[cfg(feature = "prometheus")]
        return self.upgrade().map(|shared| (Metrics::CONTENT_TYPE, shared.metrics.render()));
        #[cfg(not(feature = "prometheus"))]
        return None;
    }

    fn consumption(&self, quota: &str, query: &str) -> Telling {
        let current = self.upgrade().and_then(|shared| shared.current.load_full());
        let quotas = current.as_ref().map_or(&[][..], |current| &current.snapshot.quotas);
        consumption(quotas, quota, query)
    }

    fn status(&self) -> String {
        self.upgrade().map_or_else(|| "{}".to_owned(), |shared| format!("{:#}\n", shared.status()))
    }
}

impl Shared {
    fn status(&self) -> Value {
        let state = if self.draining.load(Ordering::Relaxed) { "draining" } else { "serving" };
        let (listeners, draining) = self.listeners();
        let load = self.last_load.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|load| {
            json!({
                "accepted": load.faults.is_empty(),
                "secondsAgo": load.at.elapsed().as_secs(),
                "faults": load.faults,
            })
        });
        let current = self.current.load_full();
        let snapshot = current.as_ref().map(|current| &current.snapshot);
        #[cfg_attr(
            not(any(feature = "jwt", feature = "tls")),
            expect(unused_mut, reason = "of those alone is more told")
        )]
        let mut status = json!({
            "state": state,
            "generation": current.as_ref().map_or(0, |current| current.generation),
            "lastLoad": load,
            "listeners": listeners,
            "drainingListeners": draining,
            "rules": snapshot.iter().flat_map(|snapshot| snapshot.rules())
                .map(|rule| json!({ "name": *rule.name, "public": rule.public })).collect::<Vec<_>>(),
            "apiKeys": snapshot.iter().flat_map(|snapshot| &snapshot.api_keys)
                .map(super::api_keys::status).collect::<Vec<_>>(),
            "quotas": snapshot.iter().flat_map(|snapshot| &snapshot.quotas)
                .map(super::usage::quota).collect::<Vec<_>>(),
            "usage": snapshot.and_then(|snapshot| snapshot.usage.as_ref()).map(super::usage::usage),
            "load": snapshot.map(|snapshot| snapshot.load.status()),
            "canaries": snapshot.map(|snapshot| snapshot.canaries.status()),
            "mirrors": snapshot.map(|snapshot| snapshot.mirrors.status()),
            "circuitBreakers": snapshot.map(|snapshot| snapshot.breakers.status()),
            "fallbacks": snapshot.map(|snapshot| snapshot.fallbacks.status()),
            "faults": snapshot.map(|snapshot| snapshot.retries.faults()),
            "retries": snapshot.map(|snapshot| snapshot.retries.status()),
            "tcpRoutes": self.tcp.status(),
            "upstreams": snapshot.iter().flat_map(|snapshot| snapshot.upstreams())
                .map(super::endpoints::status).collect::<Vec<_>>(),
        });
        #[cfg(feature = "tls")]
        super::identities::tell(&mut status, snapshot.map(|snapshot| &snapshot.told_credentials));
        #[cfg(feature = "jwt")]
        of_tokens(&mut status, snapshot.map(|snapshot| &**snapshot));
        status
    }
}

impl Shared {
    /// Those that are served, and those that leave.
    fn listeners(&self) -> (Vec<Value>, Vec<Value>) {
        let mut sockets = self.sockets();
        sockets.sweep();
        let show = |acceptor: &Acceptor| {
            json!({
                "name": **acceptor.name(),
                "address": acceptor.local.to_string(),
                "direction": acceptor.direction().as_str(),
                // Accepting is one of what is counted.
                "connections": acceptor.in_flight().saturating_sub(1),
            })
        };
        (sockets.serving.iter().map(show).collect(), sockets.leaving.iter().map(show).collect())
    }
}

/// What is known of keys and tokens.
#[cfg(feature = "jwt")]
fn of_tokens(status: &mut Value, snapshot: Option<&Snapshot>) {
    let key_sets = snapshot.iter().flat_map(|snapshot| &snapshot.key_sets);
    status["keySets"] = key_sets.map(super::key_sets::status).collect();
    let introspections = snapshot.iter().flat_map(|snapshot| &snapshot.introspections);
    status["introspections"] = introspections.map(super::tokens::introspection).collect();
    let sources = snapshot.iter().flat_map(|snapshot| &snapshot.token_sources);
    status["tokenSources"] = sources.map(super::tokens::source).collect();
}
