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
    resilience::{
        deadline::{InheritDeadline, ReadDeadline, TellDeadline},
        retry::{Policy, Retry, RetryLayer},
        timeout::{Timeout, TimeoutLayer},
    },
    telemetry::request_id::PropagateRequestId,
};

/// Around the calls that a service makes: they carry the id of the request they are made for, are bounded by its time and
/// their own, which gRPC servers are told, and are counted.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientLayer {
    counted: GateLayer<Counter>,
    timeout: TimeoutLayer,
    retry: RetryLayer,
    attempt_timeout: TimeoutLayer,
    concurrency: Vec<Concurrency>,
    success_rate: Option<SuccessRate>,
    #[cfg(feature = "jwt")]
    credentials: OutboundLayer,
}

#[cfg(feature = "jwt")]
type Sender<S> = Outbound<S>;
#[cfg(not(feature = "jwt"))]
type Sender<S> = S;
type Called<S> = Gated<Timeout<Retry<Timeout<Guarded<Gated<Sender<S>, TellDeadline>>>>>, Deadlines>;
/// What bounds a call beside its timeout: its own word, and the request that it is made for.
type Deadlines = (ReadDeadline, InheritDeadline);

impl ClientLayer {
    /// Calls may take 15 s, are made once, and nobody counts them.
    pub fn new() -> Self {
        Self {
            counted: GateLayer::disabled(),
            timeout: TimeoutLayer::default(),
            retry: RetryLayer::disabled(),
            attempt_timeout: TimeoutLayer::disabled(),
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

    /// How long a call may take, with all its attempts.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: TimeoutLayer::new(timeout), ..self }
    }

    /// Tries calls again that failed.
    pub fn retry(self, policy: Policy) -> Self {
        Self { retry: RetryLayer::new(policy), ..self }
    }

    /// How long each attempt may take. No limit of its own unless told.
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        Self { attempt_timeout: TimeoutLayer::new(timeout).per_attempt(), ..self }
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
    type Service = Gated<Gated<Called<S>, Counter>, PropagateRequestId>;

    fn layer(&self, inner: S) -> Self::Service {
        #[cfg(feature = "jwt")]
        let inner = self.credentials.layer(inner);
        let told = GateLayer::new(TellDeadline::new()).layer(inner);
        // Inside of retries: no place is held between two attempts, and each attempt is an outcome.
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        let attempts = self.retry.layer(self.attempt_timeout.layer(guards.layer(told)));
        let timeout = self.timeout.tell_deadline(true);
        let deadlines = GateLayer::new((ReadDeadline::new(), InheritDeadline::new()));
        let called = self.counted.layer(deadlines.layer(timeout.layer(attempts)));
        PropagateRequestId::new().layer().layer(called)
    }
}
