//! What is told of the endpoints of upstreams.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::upstream::{EndpointStatus, Upstream, Withheld};
#[cfg(feature = "prometheus")]
use crate::{telemetry::metrics::Samples, upstream::outlier::Cause};

/// For the status.
pub(super) fn status(upstream: &Upstream) -> Value {
    let discovery = upstream.discovery().map(|discovery| {
        json!({
            "ageSeconds": discovery.age.map(|age| age.as_secs()),
            "stale": discovery.stale.as_deref(),
            "updates": discovery.updates,
            "failures": discovery.failures,
        })
    });
    json!({
        "name": upstream.name(),
        "endpoints": upstream.endpoints().iter().map(endpoint).collect::<Vec<_>>(),
        "discovery": discovery,
    })
}

fn endpoint(endpoint: &EndpointStatus) -> Value {
    let ejected = endpoint.ejected.map(|ejected| {
        json!({
            "cause": ejected.cause.label(),
            "times": ejected.times,
            "secondsLeft": ejected.left.as_secs(),
        })
    });
    json!({
        "address": endpoint.address.to_string(),
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "zone": endpoint.zone.as_deref(),
        "labels": endpoint.labels.iter().map(|(key, value)| (&**key, &**value)).collect::<BTreeMap<_, _>>(),
        // Why it is given no requests; empty: it is.
        "withheld": endpoint.availability.reasons().map(Withheld::label).collect::<Vec<_>>(),
        "inFlight": endpoint.in_flight,
        "connections": endpoint.connections,
        "idle": endpoint.idle,
        "health": endpoint.health.label(),
        "ejected": ejected,
    })
}

/// For the metrics.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(upstreams: &[Upstream], samples: &mut Samples) {
    for upstream in upstreams {
        let name = ("upstream", upstream.name());
        let endpoints = upstream.endpoints();
        samples.gauge("upstream_endpoints", "Endpoints that upstreams have", &[name], endpoints.len());
        for why in Withheld::ALL {
            let has =
                |endpoint: &&EndpointStatus| endpoint.availability.reasons().any(|reason| reason == *why);
            let help = "Endpoints that are given no requests, and why";
            let count = endpoints.iter().filter(has).count();
            samples.gauge("upstream_endpoints_withheld", help, &[name, ("reason", why.label())], count);
        }
        if let Some(ejections) = upstream.ejections() {
            for cause in Cause::ALL {
                let labels = [name, ("cause", cause.label())];
                let help = "How often endpoints were left out for what became of their requests";
                samples.counter("outlier_ejections", help, &labels, ejections.made(*cause));
                let help = "How often they would have been, but for the bound on how many, or in shadow";
                samples.counter("outlier_ejections_spared", help, &labels, ejections.spared(*cause));
            }
        }
        if let Some((good, bad)) = upstream.checks() {
            for (result, count) in [("pass", good), ("fail", bad)] {
                let help = "What endpoints answered when they were asked how they are";
                samples.counter("health_checks", help, &[name, ("result", result)], count);
            }
        }
        if let Some(discovery) = upstream.discovery() {
            let help = "Sets of endpoints that were taken from the source";
            samples.counter("discovery_updates", help, &[name], discovery.updates);
            let help = "How often the source could not tell which endpoints there are";
            samples.counter("discovery_failures", help, &[name], discovery.failures);
            let help = "Whether the endpoints may no longer be those that there are: 1 if so";
            samples.gauge("discovery_stale", help, &[name], discovery.stale.is_some());
        }
    }
}
