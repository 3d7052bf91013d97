//! The numbers as text.

use super::{
    Metrics,
    attempts::Upstream,
    labels::OTHER,
    samples::{Family, Number},
    series::{Series, Table},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

type Pair<'a> = (&'static str, Cow<'a, str>);

impl Metrics {
    /// The media type of what [`render`](Self::render) gives.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All numbers in the OpenMetrics text format, which Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix(&*self.0.namespace);
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::with_capacity(4096);
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// For an application that has a registry of its own: register a clone of [`Metrics`] with it. The registry's
/// prefix then takes the place of the namespace.
impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        requests(&mut encoder, &self.0.table)?;
        durations(&mut encoder, &self.0.table)?;
        faults(&mut encoder, &self.0.table)?;
        attempts(&mut encoder, &self.0.upstreams.lock(), self.0.table.bounds())?;
        let in_flight = [("requests_in_flight", "Requests being served", self.in_flight())];
        for (name, help, value) in in_flight.into_iter().chain(self.process().gauges()) {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        for (name, help, value) in self.process().counters() {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter(&value, NO_EXEMPLAR)?;
        }
        let mut heads = encoder.encode_descriptor(
            "heads_refused",
            "Heads that became no request",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in self.process().heads_refused() {
            let labels: [Pair<'_>; 1] = [("reason", reason.into())];
            heads.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)?;
        }
        self.0.others.families().iter().try_for_each(|family| sampled(&mut encoder, family))
    }
}

fn sampled(encoder: &mut DescriptorEncoder<'_>, family: &Family) -> fmt::Result {
    let kind = if family.counts { MetricType::Counter } else { MetricType::Gauge };
    let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
    for (labels, value) in &family.values {
        let labels: Vec<Pair<'_>> = labels.iter().map(|(name, value)| (*name, (&**value).into())).collect();
        let mut line = metric.encode_family(&labels)?;
        match value {
            Number::Whole(count) if family.counts => line.encode_counter(count, NO_EXEMPLAR)?,
            Number::Measured(sum) if family.counts => line.encode_counter(sum, NO_EXEMPLAR)?,
            Number::Whole(count) => line.encode_gauge(count)?,
            Number::Measured(value) => line.encode_gauge(value)?,
        }
    }
    Ok(())
}

fn requests(encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
    let help = "Requests that have ended, at the end of the response body";
    let mut metric = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for series in table.all() {
        let mut line = |labels: Vec<Pair<'_>>, count| {
            let labels: Vec<Pair<'_>> = names(series).chain(labels).collect();
            metric.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)
        };
        for (labels, count) in series.requests() {
            line(labels.pairs().collect(), count)?;
        }
        if series.beyond() > 0 {
            line(vec![("status", OTHER.into())], series.beyond())?;
        }
    }
    Ok(())
}

fn durations(encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
    let help = "From the request's head to the end of the response body";
    let unit = Unit::Seconds;
    let mut metric =
        encoder.encode_descriptor("request_duration", help, Some(&unit), MetricType::Histogram)?;
    for series in table.all() {
        let labels: Vec<Pair<'_>> = names(series).collect();
        buckets(metric.encode_family(&labels)?, table.bounds(), series.durations())?;
    }
    Ok(())
}

fn buckets(mut line: MetricEncoder<'_>, bounds: &[Duration], (counts, sum): (Vec<u64>, f64)) -> fmt::Result {
    let bounds = bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
    let exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
    line.encode_histogram(sum, counts.iter().sum(), &buckets, exemplars)
}

fn attempts(encoder: &mut DescriptorEncoder<'_>, all: &[Arc<Upstream>], bounds: &[Duration]) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    let name = |upstream: &Upstream| ("upstream", Cow::from(upstream.name.to_string()));
    let help = "Attempts at upstreams that have ended, those that were tried again too";
    let mut metric = encoder.encode_descriptor("upstream_attempts", help, None, MetricType::Counter)?;
    for upstream in all {
        for (verdict, count) in upstream.verdicts() {
            let labels: Vec<Pair<'_>> = vec![name(upstream), ("verdict", verdict.into())];
            metric.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)?;
        }
    }
    let (help, unit) = ("From an attempt's head to the end of the response body", Unit::Seconds);
    let mut metric =
        encoder.encode_descriptor("upstream_attempt_duration", help, Some(&unit), MetricType::Histogram)?;
    for upstream in all {
        let labels: Vec<Pair<'_>> = vec![name(upstream)];
        buckets(metric.encode_family(&labels)?, bounds, upstream.took().read())?;
    }
    Ok(())
}

fn faults(encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
    if table.all().all(|series| series.faults().next().is_none()) {
        return Ok(());
    }
    let help = "Requests that were made to fail or to be late on purpose";
    let mut metric = encoder.encode_descriptor("faults_injected", help, None, MetricType::Counter)?;
    for series in table.all() {
        for (kind, count) in series.faults() {
            let labels: Vec<Pair<'_>> = names(series).chain([("kind", kind.into())]).collect();
            metric.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)?;
        }
    }
    Ok(())
}

fn names(series: &Series) -> impl Iterator<Item = Pair<'_>> {
    let variant = series.variant.as_deref().map(|variant| ("variant", variant.into()));
    [("route", (&*series.route).into())].into_iter().chain(variant)
}
