//! The gate that counts.

use super::{
    attempts::Upstreams,
    labels::{self, Labels, UNMATCHED},
    process::ProcessMetrics,
    samples::{Others, Samples},
    series::Table,
};
use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    outcome::Outcome,
    reject::Answer,
    telemetry::findings::Findings,
};
use http::response;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The numbers, the gate that counts them, and the handle that shows them; see the [module docs](super). Clones
/// share the numbers.
#[derive(Clone)]
pub struct Metrics(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) namespace: Box<str>,
    pub(super) table: Table,
    in_flight: AtomicI64,
    process: ProcessMetrics,
    pub(super) upstreams: Upstreams,
    pub(super) others: Others,
}

/// What the numbers are called and how many there may be.
#[derive(Clone, Debug)]
#[must_use]
pub struct MetricsBuilder {
    namespace: Box<str>,
    bounds: Vec<Duration>,
    max_series: usize,
}

impl Metrics {
    /// Numbers under the namespace `portcullis`.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Numbers as you want them.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder {
            namespace: "portcullis".into(),
            bounds: BOUNDS_MICROS.iter().copied().map(Duration::from_micros).collect(),
            max_series: 1000,
        }
    }

    /// The layer that counts into these numbers.
    #[must_use]
    pub fn layer(&self) -> GateLayer<Self> {
        GateLayer::new(self.clone())
    }

    /// The numbers about the process.
    #[must_use]
    pub fn process(&self) -> &ProcessMetrics {
        &self.0.process
    }

    /// Shows what this function writes, too, each time the numbers are shown. It must not block, and its labels must be of a
    /// bounded number of values.
    pub fn also(&self, write: impl Fn(&mut Samples) + Send + Sync + 'static) {
        self.0.others.add(Box::new(write));
    }

    /// How many requests are being served, their bodies included.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.0.in_flight.load(Relaxed)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("namespace", &self.0.namespace).finish_non_exhaustive()
    }
}

/// From what a gateway adds to what people wait for.
const BOUNDS_MICROS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

impl MetricsBuilder {
    /// The word before each name. Default: `portcullis`.
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The upper bounds of the buckets of the duration histogram. Default: 14 bounds from 0.5 ms to 10 s.
    pub fn buckets(mut self, bounds: impl IntoIterator<Item = Duration>) -> Self {
        self.bounds = bounds.into_iter().collect();
        self
    }

    /// How many routes, each with its variants, are counted under their own names. The others are counted as
    /// `_other`. Default: 1,000.
    pub fn max_routes(mut self, max: usize) -> Self {
        self.max_series = max;
        self
    }

    /// The numbers, all zero.
    #[must_use]
    pub fn build(mut self) -> Metrics {
        self.bounds.sort_unstable();
        self.bounds.dedup();
        Metrics(Arc::new(Shared {
            namespace: self.namespace,
            table: Table::new(self.max_series, self.bounds.into()),
            in_flight: AtomicI64::new(0),
            process: ProcessMetrics::default(),
            upstreams: Upstreams::default(),
            others: Others::default(),
        }))
    }
}

impl Gate for Metrics {
    type Pass = Counting;

    fn check(&self, head: &mut Head<'_>) -> Result<Counting, Answer> {
        self.0.in_flight.fetch_add(1, Relaxed);
        Ok(Counting {
            shared: Arc::clone(&self.0),
            since: head.now(),
            method: labels::method(head.method()),
            findings: Findings::start_lean(head),
        })
    }
}

/// A request that is being counted.
pub struct Counting {
    shared: Arc<Shared>,
    since: Instant,
    method: u8,
    findings: Findings,
}

impl Pass for Counting {
    fn on_head(&mut self, head: &mut response::Parts) {
        self.findings.see(head);
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let table = &self.shared.table;
        let route = self.findings.route().unwrap_or(UNMATCHED);
        let series = table.series(route, self.findings.variant());
        series.record(Labels::of(self.method, outcome), table.bounds(), self.since.elapsed());
        if let Some(fault) = self.findings.fault() {
            series.fault(fault);
        }
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").field("findings", &self.findings).finish_non_exhaustive()
    }
}
