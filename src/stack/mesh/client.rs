use std::time::Duration;

use tower_layer::Layer;

use super::parts::{Counter, Guarded, guards};
#[cfg(feature = "jwt")]
use crate::authn::outbound::{Outbound, OutboundLayer, TokenSource};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::{concurrency::Concurrency, shed::SuccessRate},
    gate::{AsyncGates, GateLayer, Gated},
    resilience::timeout::{Timeout, TimeoutLayer},
    telemetry::request_id::PropagateRequestId,
};

/// Around the calls that a service makes: they carry the id of the request they are made for, are bounded in time, and
/// are counted.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientLayer {
    counted: GateLayer<Counter>,
    timeout: TimeoutLayer,
    concurrency: Vec<Concurrency>,
    success_rate: Option<SuccessRate>,
    #[cfg(feature = "jwt")]
    credentials: OutboundLayer,
}

#[cfg(feature = "jwt")]
type Sender<S> = Outbound<S>;
#[cfg(not(feature = "jwt"))]
type Sender<S> = S;

impl ClientLayer {
    /// Calls may take 15 s, and nobody counts them.
    pub fn new() -> Self {
        Self {
            counted: GateLayer::disabled(),
            timeout: TimeoutLayer::default(),
            concurrency: Vec::new(),
            success_rate: None,
            #[cfg(feature = "jwt")]
            credentials: OutboundLayer::disabled(),
        }
    }

    /// Puts a token of this source on each call.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn credentials(self, source: TokenSource) -> Self {
        Self { credentials: OutboundLayer::new(source), ..self }
    }

    /// How long a call may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: TimeoutLayer::new(timeout), ..self }
    }

    /// Lets no more calls be in flight than this. One that waits for a place does so within its time. Several are asked
    /// [in one order](Concurrency::in_one_order). A [`ServerLayer`](super::ServerLayer) of the same process has others: who
    /// waits here may hold a place there.
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Calls less the more of the answers are failures.
    pub fn success_rate(self, rate: SuccessRate) -> Self {
        Self { success_rate: Some(rate), ..self }
    }

    /// Counts calls.
    #[cfg(feature = "prometheus")]
    pub fn metrics(self, metrics: &Metrics) -> Self {
        Self { counted: metrics.layer(), ..self }
    }
}

impl Default for ClientLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Gated<Gated<Timeout<Guarded<Sender<S>>>, Counter>, PropagateRequestId>;

    fn layer(&self, inner: S) -> Self::Service {
        #[cfg(feature = "jwt")]
        let inner = self.credentials.layer(inner);
        // Who tries again stands outside of these: no place is held between two attempts, and each attempt is an outcome.
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        let timed = self.timeout.layer(guards.layer(inner));
        PropagateRequestId::new().layer().layer(self.counted.layer(timed))
    }
}
