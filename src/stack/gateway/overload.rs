//! What is told of limits on what is in flight, and of overload.

use std::sync::Arc;

use serde_json::{Value, json};

use super::rule::Rule;
use crate::{
    admission::{
        Priorities,
        concurrency::Concurrency,
        shed::{Overload, SuccessRate},
    },
    stack::gateway::Listen,
};
#[cfg(feature = "prometheus")]
use crate::{
    admission::{Priority, concurrency::ConcurrencyHandle},
    telemetry::metrics::Samples,
};

/// What bounds the load of a gateway.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) overload: Option<(Overload, Priorities)>,
    limits: Vec<Concurrency>,
    /// By the names of the upstreams.
    rates: Vec<(Arc<str>, SuccessRate)>,
}

impl Load {
    pub(super) fn of(overload: Option<(Overload, Priorities)>, listeners: &[Listen], rules: &[Rule]) -> Self {
        let mut limits: Vec<Concurrency> = Vec::new();
        let mut rates: Vec<(Arc<str>, SuccessRate)> = Vec::new();
        let backends = || rules.iter().flat_map(Rule::upstreams);
        let of_listeners = listeners.iter().flat_map(|listen| &listen.concurrency);
        let of_rules = rules.iter().flat_map(|rule| &rule.concurrency);
        let of_upstreams = backends().flat_map(|backend| &backend.guards.concurrency);
        for limit in of_listeners.chain(of_rules).chain(of_upstreams) {
            if !limits.iter().any(|known| known.is_same(limit)) {
                limits.push(limit.clone());
            }
        }
        for backend in backends() {
            let name = backend.proxy.upstream().name();
            if let Some(rate) = &backend.guards.success_rate
                && rates.iter().all(|(known, _)| **known != *name)
            {
                rates.push((name.into(), rate.clone()));
            }
        }
        Self { overload, limits, rates }
    }

    /// Watches, and takes the terms of limits into force that were there before.
    pub(super) fn start(&self) {
        if let Some((overload, _)) = &self.overload {
            overload.start();
        }
        self.limits.iter().for_each(Concurrency::start);
    }

    /// For the status.
    pub(super) fn status(&self) -> Value {
        let limit = |limit: &Concurrency| {
            let handle = limit.handle();
            json!({
                "name": handle.name(),
                "limit": handle.limit(),
                "inFlight": handle.in_flight(),
                "waiting": handle.waiting(),
                "keys": handle.keys().map(|(keys, _)| keys),
            })
        };
        let overload = self.overload.as_ref().map(|(overload, _)| {
            let readings = overload.readings().into_iter().map(|reading| {
                json!({ "source": *reading.source, "value": reading.value, "pressure": reading.pressure })
            });
            json!({ "pressure": overload.pressure(), "sources": readings.collect::<Vec<_>>() })
        });
        let rate = |(upstream, rate): &(Arc<str>, SuccessRate)| json!({ "upstream": **upstream, "refusing": rate.refusing(), "refused": rate.refused() });
        json!({
            "overload": overload,
            "concurrency": self.limits.iter().map(limit).collect::<Vec<_>>(),
            "successRates": self.rates.iter().map(rate).collect::<Vec<_>>(),
        })
    }

    /// For the metrics.
    #[cfg(feature = "prometheus")]
    pub(super) fn numbers(&self, samples: &mut Samples) {
        self.limits.iter().for_each(|one| limit(&one.handle(), samples));
        if let Some((overload, _)) = &self.overload {
            pressure(overload, samples);
        }
        for (upstream, rate) in &self.rates {
            let labels = [("upstream", &**upstream)];
            let help = "Requests refused because those before them failed";
            samples.counter("success_rate_refusals", help, &labels, rate.refused());
            let help = "The share of requests that is refused because those before them failed";
            samples.gauge("success_rate_refusing_ratio", help, &labels, rate.refusing());
        }
    }
}

#[cfg(feature = "prometheus")]
fn limit(handle: &ConcurrencyHandle, samples: &mut Samples) {
    let labels = [("limit", handle.name())];
    let help = "Requests that may be in flight, of one key if each has its own";
    samples.gauge("concurrency_limit", help, &labels, handle.limit());
    let help = "Requests that hold a place of a limit";
    samples.gauge("concurrency_in_flight", help, &labels, handle.in_flight());
    samples.gauge("concurrency_waiting", "Requests that wait for a place", &labels, handle.waiting());
    let help = "How long the first of those has waited";
    samples.gauge("concurrency_queue_delay_seconds", help, &labels, handle.queue_delay());
    if let Some((keys, _)) = handle.keys() {
        samples.gauge("concurrency_keys", "Keys that have requests in flight", &labels, keys);
    }
    samples.counter("concurrency_queued", "Requests that had to wait for a place", &labels, handle.queued());
    let help = "Requests that passed only because the limit is in shadow";
    samples.counter("concurrency_spared", help, &labels, handle.spared());
    for (reason, count) in
        [("full", handle.refused()), ("timeout", handle.timed_out()), ("dropped", handle.dropped())]
    {
        let labels = [labels[0], ("reason", reason)];
        samples.counter("concurrency_refusals", "Requests that were given no place", &labels, count);
    }
    for (partition, in_flight, places) in handle.partitions() {
        let labels = [labels[0], ("partition", &*partition)];
        samples.gauge("concurrency_partition_in_flight", "Requests of a partition", &labels, in_flight);
        samples.gauge("concurrency_partition_places", "Places that are a partition's own", &labels, places);
    }
}

#[cfg(feature = "prometheus")]
fn pressure(overload: &Overload, samples: &mut Samples) {
    for reading in overload.readings() {
        let labels = [("source", &*reading.source)];
        let help = "How much a source of overload presses: 1 is to refuse everything";
        samples.gauge("overload_pressure_ratio", help, &labels, reading.pressure);
        if let Some(value) = reading.value {
            let help = "What a source of overload reads: seconds of delay, the share of memory";
            samples.gauge("overload_reading", help, &labels, value);
        }
    }
    for priority in Priority::ALL {
        let labels = [("priority", priority.label())];
        samples.counter(
            "overload_refusals",
            "Requests refused by overload",
            &labels,
            overload.shed(priority),
        );
    }
}
