use std::time::Duration;

use http::HeaderName;
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
        budget::Budget,
        deadline::{InheritDeadline, ReadDeadline, TellDeadline},
        retry::{Policy, Retry, RetryLayer},
        timeout::{Timeout, TimeoutLayer},
    },
    telemetry::request_id::PropagateRequestId,
};

/// Around the calls that a service makes: they carry the id of the request they are made for, are bounded by its time and
/// their own, which gRPC servers are told, and are counted.
///
/// It is a layer around any client, and what a [`Destination`](super::Destination) of a [`Client`](super::Client) has.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientLayer {
    counted: GateLayer<Counter>,
    deadline_header: Option<HeaderName>,
    pub(super) timeout: TimeoutLayer,
    grpc_streams: Option<bool>,
    pub(super) retry: Option<Policy>,
    pub(super) attempt_timeout: TimeoutLayer,
    concurrency: Vec<Concurrency>,
    success_rate: Option<SuccessRate>,
    #[cfg(feature = "jwt")]
    credentials: OutboundLayer,
}

#[cfg(feature = "jwt")]
pub(super) type Sender<S> = Outbound<S>;
#[cfg(not(feature = "jwt"))]
pub(super) type Sender<S> = S;
/// What bounds a call beside its timeout: its own word, and the request that it is made for.
type Deadlines = (ReadDeadline, InheritDeadline);
/// What stands around a call as a whole.
pub(super) type Calls<S> = Gated<Gated<Gated<Timeout<S>, Deadlines>, Counter>, PropagateRequestId>;
/// What stands around its attempts, and around each of them.
pub(super) type Attempts<S> = Retry<Timeout<Guarded<S>>>;

impl ClientLayer {
    /// Calls may take 15 s, are made once, and nobody counts them.
    pub fn new() -> Self {
        Self {
            counted: GateLayer::disabled(),
            deadline_header: None,
            timeout: TimeoutLayer::default(),
            grpc_streams: None,
            retry: None,
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

    /// Whether gRPC calls may last once their head has come within the time: they may then be silent for 5 minutes and grow
    /// 2 hours old, and servers are told their caller's time only. `false` unless told.
    pub fn grpc_streams(self, streams: bool) -> Self {
        Self { grpc_streams: Some(streams), ..self }
    }

    /// The header in which servers are told how many milliseconds are left, and in which a call can say so itself. gRPC has
    /// `grpc-timeout`; other calls have none unless told.
    pub fn deadline_header(self, header: HeaderName) -> Self {
        Self { deadline_header: Some(header), ..self }
    }

    /// Tries calls again that failed.
    pub fn retry(self, policy: Policy) -> Self {
        Self { retry: Some(policy), ..self }
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

    /// What a gateway's rule says of calls.
    #[cfg(feature = "config")]
    pub(super) fn of_rule(
        timeout: TimeoutLayer,
        attempt_timeout: TimeoutLayer,
        deadline_header: Option<HeaderName>,
        retry: Option<Policy>,
    ) -> Self {
        Self { timeout, attempt_timeout, deadline_header, retry, ..Self::new() }
    }

    /// What stands around each call as a whole.
    pub(super) fn calls<S>(&self, inner: S) -> Calls<S> {
        let timeout = self.timeout.tell_deadline(true);
        let timeout = self.grpc_streams.into_iter().fold(timeout, TimeoutLayer::grpc_streams);
        let read = self.deadline_header.iter().cloned().fold(ReadDeadline::new(), ReadDeadline::header);
        let deadlines = GateLayer::new((read, InheritDeadline::new()));
        let called = self.counted.layer(deadlines.layer(timeout.layer(inner)));
        PropagateRequestId::new().layer().layer(called)
    }

    /// What stands around its attempts. `budget`: of what is called, if it has one of its own.
    pub(super) fn attempts<S>(&self, budget: Option<&Budget>, inner: S) -> Attempts<S> {
        // Inside of retries: no place is held between two attempts, and each attempt is an outcome.
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        let attempt = self.attempt_timeout.layer(guards.layer(inner));
        let retry = match self.retry.clone() {
            Some(policy) => RetryLayer::new(budget.cloned().into_iter().fold(policy, Policy::budget)),
            None => RetryLayer::disabled(),
        };
        retry.layer(attempt)
    }

    /// What tells a server how long it has: the last thing before it is sent its credentials.
    pub(super) fn told(&self) -> TellDeadline {
        self.deadline_header.iter().cloned().fold(TellDeadline::new(), TellDeadline::header)
    }

    /// What puts credentials on each attempt, if there are some.
    pub(super) fn sender<S>(&self, inner: S) -> Sender<S> {
        #[cfg(feature = "jwt")]
        return self.credentials.layer(inner);
        #[cfg(not(feature = "jwt"))]
        return inner;
    }
}

impl Default for ClientLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = Calls<Attempts<Gated<Sender<S>, TellDeadline>>>;

    fn layer(&self, inner: S) -> Self::Service {
        self.calls(self.attempts(None, GateLayer::new(self.told()).layer(self.sender(inner))))
    }
}
