//! Attempts at upstreams, each for itself.

use super::{
    Metrics,
    labels::{OTHER, VERDICTS},
    series::Durations,
};
use crate::{
    gate::{Gate, Pass},
    head::Head,
    outcome::Outcome,
    reject::Answer,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// A gate that counts attempts at one upstream, directly in front of it; see [`Metrics::attempts`]. Clones share the numbers.
#[derive(Clone)]
pub struct Attempts(Arc<Upstream>);

/// The numbers of one upstream.
pub(super) struct Upstream {
    pub(super) name: Box<str>,
    bounds: Box<[Duration]>,
    /// By their numbers.
    verdicts: [AtomicU64; VERDICTS.len()],
    took: Durations,
}

/// Those of all of them. Names stay, as those of routes do.
#[derive(Default)]
pub(super) struct Upstreams(Mutex<Vec<Arc<Upstream>>>);

impl Metrics {
    /// Counts attempts at the upstream of this name: each for itself and by its own outcome, whatever retries and hedges
    /// outside make of them. The same name gives the same numbers. Beyond as many names as there may be
    /// [routes](super::MetricsBuilder::max_routes) all are counted as `_other`.
    #[must_use]
    pub fn attempts(&self, upstream: &str) -> Attempts {
        let mut known = self.0.upstreams.lock();
        let of = |name: &str| known.iter().find(|one| *one.name == *name).map(Arc::clone);
        if let Some(known) = of(upstream) {
            return Attempts(known);
        }
        let name = if known.len() < self.0.table.cap() { upstream } else { OTHER };
        if let Some(other) = of(name) {
            return Attempts(other);
        }
        let new = Arc::new(Upstream::new(name, self.0.table.bounds()));
        known.push(Arc::clone(&new));
        Attempts(new)
    }
}

impl Upstreams {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Upstream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    fn new(name: &str, bounds: &[Duration]) -> Self {
        let (verdicts, took) = (Default::default(), Durations::new(bounds));
        Self { name: name.into(), bounds: bounds.into(), verdicts, took }
    }

    /// The verdicts that there were, and how often.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = VERDICTS.iter().zip(&self.verdicts);
        let counts = counts.map(|(verdict, count)| (verdict.label(), count.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(super) fn took(&self) -> &Durations {
        &self.took
    }
}

impl Gate for Attempts {
    type Pass = Attempt;

    fn check(&self, head: &mut Head<'_>) -> Result<Attempt, Answer> {
        Ok(Attempt { upstream: Arc::clone(&self.0), since: head.now() })
    }
}

/// An attempt that is being counted.
pub struct Attempt {
    upstream: Arc<Upstream>,
    since: Instant,
}

impl Pass for Attempt {
    fn on_end(&mut self, outcome: &Outcome) {
        let Upstream { bounds, verdicts, took, .. } = &*self.upstream;
        if let Some(count) = verdicts.get(outcome.verdict() as usize) {
            count.fetch_add(1, Relaxed);
        }
        took.observe(bounds, self.since.elapsed());
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("upstream", &self.0.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").field("upstream", &self.upstream.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{body::Body, gate::GateLayer, telemetry::metrics::Metrics};
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use tower::{Layer, ServiceExt, service_fn};

    async fn attempt(metrics: &Metrics, upstream: &str, status: Option<u16>) {
        let server = service_fn(move |_: Request<Body>| async move {
            match status {
                Some(status) => Ok(Response::builder().status(status).body(Body::from("ok")).unwrap()),
                None => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
            }
        });
        let service = GateLayer::new(metrics.attempts(upstream)).layer(server);
        if let Ok(response) = service.oneshot(Request::new(Body::empty())).await {
            drop(response.into_body().collect().await.unwrap());
        }
    }

    #[tokio::test]
    async fn each_attempt_counts_by_upstream_and_verdict() {
        let metrics = Metrics::builder().max_routes(2).build();
        assert!(!metrics.render().contains("attempt"), "there are none");
        for (upstream, status) in [
            ("a", Some(200)),
            ("a", Some(503)),
            ("a", None),
            ("a", Some(404)),
            ("b", Some(200)),
            ("c", Some(200)),
            ("d", Some(200)),
        ] {
            attempt(&metrics, upstream, status).await;
        }
        let told = metrics.render();
        for line in [
            r#"portcullis_upstream_attempts_total{upstream="a",verdict="success"} 1"#,
            r#"portcullis_upstream_attempts_total{upstream="a",verdict="server_fault"} 2"#,
            r#"portcullis_upstream_attempts_total{upstream="a",verdict="caller_fault"} 1"#,
            r#"portcullis_upstream_attempts_total{upstream="b",verdict="success"} 1"#,
            r#"portcullis_upstream_attempts_total{upstream="_other",verdict="success"} 2"#,
            r#"portcullis_upstream_attempt_duration_seconds_count{upstream="a"} 4"#,
        ] {
            assert!(told.contains(line), "{line} is not in {told}");
        }
        assert!(!told.contains(r#"upstream="c""#) && !told.contains("cancelled"), "{told}");
    }

    #[tokio::test]
    async fn an_attempt_allocates_nothing() {
        let metrics = Metrics::new();
        let gate = metrics.attempts("a");
        let cost = allocation_counter::measure(|| {
            let mut request = Request::new(());
            let pass = crate::gate::Gate::check(&gate, &mut crate::head::Head::of(&mut request));
            let mut call = crate::outcome::Completion::new(pass.unwrap());
            call.complete();
        });
        assert_eq!(cost.count_total, 0);
        assert!(metrics.render().contains(r#"upstream_attempts_total{upstream="a""#));
    }
}
