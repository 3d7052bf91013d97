//! What is told of the tokens that providers are asked about, and of those that we ask for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::authn::{introspection::IntrospectionHandle, outbound::TokenSourceHandle};
#[cfg(feature = "prometheus")]
use crate::{stack::gateway::snapshot::Snapshot, telemetry::metrics::Samples};

/// For the status.
pub(super) fn introspection((provider, handle): &(Arc<str>, IntrospectionHandle)) -> Value {
    json!({
        "provider": **provider,
        "calls": { "active": handle.active(), "inactive": handle.inactive(), "failed": handle.failed() },
        "remembered": handle.hits(),
        "unasked": handle.unasked(),
    })
}

/// For the status.
pub(super) fn source((upstream, handle): &(Arc<str>, TokenSourceHandle)) -> Value {
    json!({
        "upstream": **upstream,
        "fetched": handle.fetched(),
        "failed": handle.failed(),
        "refused": handle.refused(),
        "ageSeconds": handle.age().map(|age| age.as_secs()),
    })
}

/// For the metrics: the numbers of what is in force.
#[cfg(feature = "prometheus")]
pub(super) fn numbers(snapshot: &Snapshot, samples: &mut Samples) {
    for (provider, handle) in &snapshot.introspections {
        let mut result = |result, count| {
            let labels = [("provider", &**provider), ("result", result)];
            samples.counter(
                "introspections",
                "Tokens that were asked about, or needed not be",
                &labels,
                count,
            );
        };
        result("active", handle.active());
        result("inactive", handle.inactive());
        result("failed", handle.failed());
        result("remembered", handle.hits());
        result("unasked", handle.unasked());
    }
    numbers_of_sources(&snapshot.token_sources, samples);
}

/// By the names of the upstreams.
#[cfg(feature = "prometheus")]
pub(super) fn numbers_of_sources(sources: &[(Arc<str>, TokenSourceHandle)], samples: &mut Samples) {
    for (upstream, handle) in sources {
        let upstream = ("upstream", &**upstream);
        let mut result = |result, count| {
            let labels = [upstream, ("result", result)];
            samples.counter("outbound_tokens", "Tokens for calls to upstreams", &labels, count);
        };
        result("kept", handle.kept());
        result("fetched", handle.fetched());
        result("failed", handle.failed());
        result("refused", handle.refused());
        if let Some(age) = handle.age() {
            let help = "Time since a token was had";
            samples.gauge("outbound_token_age_seconds", help, &[upstream], age);
        }
    }
}
