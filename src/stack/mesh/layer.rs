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
        fault::{self, Fault},
        hedge, retry,
        timeout::{Timeout, TimeoutLayer},
    },
    stack::calling::{Attempts, Calling},
    telemetry::{request_id::PropagateRequestId, trace::PropagateTrace},
};

/// Around the calls that a service makes: they carry the id of the request they are made for, are bounded by its time and
/// their own, which gRPC servers are told, and are counted.
///
/// It is a layer around any client, and what a [`Destination`](super::Destination) of a [`Client`](super::Client) has.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientLayer {
    counted: GateLayer<Counter>,
    pub(super) calling: Calling,
    grpc_streams: Option<bool>,
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
pub(super) type Calls<S> = Gated<Gated<Gated<Timeout<Fault<S>>, Deadlines>, Counter>, Carried>;
/// What is carried to calls of the request that they are made for.
type Carried = (PropagateRequestId, PropagateTrace);
/// What stands around its attempts, and around each of them.
pub(super) type Tried<S> = Attempts<Timeout<Guarded<S>>>;

impl ClientLayer {
    /// Calls may take 15 s, are made once, and nobody counts them.
    pub fn new() -> Self {
        Self::of(Calling::within(TimeoutLayer::default()))
    }

    pub(super) fn of(calling: Calling) -> Self {
        Self {
            counted: GateLayer::disabled(),
            calling,
            grpc_streams: None,
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
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.calling.timeout = TimeoutLayer::new(timeout);
        self
    }

    /// Whether gRPC calls may last once their head has come within the time: they may then be silent for 5 minutes and grow
    /// 2 hours old, and servers are told their caller's time only. `false` unless told.
    pub fn grpc_streams(self, streams: bool) -> Self {
        Self { grpc_streams: Some(streams), ..self }
    }

    /// The header in which servers are told how many milliseconds are left, and in which a call can say so itself. gRPC has
    /// `grpc-timeout`; other calls have none unless told.
    pub fn deadline_header(mut self, header: HeaderName) -> Self {
        self.calling.deadline_header = Some(header);
        self
    }

    /// How much less than is left servers are told. Nothing unless told.
    pub fn deadline_margin(mut self, margin: Duration) -> Self {
        self.calling.deadline_margin = margin;
        self
    }

    /// Tries calls again that failed.
    pub fn retry(mut self, policy: retry::Policy) -> Self {
        self.calling.retry = Some(policy);
        self
    }

    /// Sends a second attempt beside a late one, within the budget of the retries if there are some. None unless told.
    pub fn hedge(mut self, policy: hedge::Policy) -> Self {
        self.calling.hedge = Some(policy);
        self
    }

    /// Makes some calls fail on purpose, or be late, before anything is sent: to see what their callers do. None unless told.
    pub fn fault(mut self, policy: fault::Policy) -> Self {
        self.calling.fault = Some(policy);
        self
    }

    /// How long each attempt may take. No limit of its own unless told.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.calling.attempt_timeout = TimeoutLayer::new(timeout).per_attempt();
        self
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

    /// What stands around each call as a whole.
    pub(super) fn calls<S>(&self, inner: S) -> Calls<S> {
        let timeout = self.calling.timeout.tell_deadline(true);
        let timeout = self.grpc_streams.into_iter().fold(timeout, TimeoutLayer::grpc_streams);
        let deadlines = GateLayer::new((self.calling.read(), InheritDeadline::new()));
        let called = self.counted.layer(deadlines.layer(timeout.layer(self.calling.faults().layer(inner))));
        GateLayer::new((PropagateRequestId::new(), PropagateTrace::new())).layer(called)
    }

    /// What stands around its attempts. `budget`: of what is called, if it has one of its own.
    pub(super) fn attempts<S>(&self, budget: Option<&Budget>, inner: S) -> Tried<S> {
        // Inside of retries: no place is held between two attempts, and each attempt is an outcome.
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        self.calling.attempts(budget, self.calling.attempt_timeout.layer(guards.layer(inner)))
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
    type Service = Calls<Tried<Gated<Sender<S>, TellDeadline>>>;

    /// What contradicts itself is warned of in the log: there is nobody to refuse it.
    fn layer(&self, inner: S) -> Self::Service {
        if let Err(contradiction) = self.calling.check([None]) {
            tracing::warn!(%contradiction, "what is said of calls contradicts itself");
        }
        self.calls(self.attempts(None, GateLayer::new(self.calling.told()).layer(self.sender(inner))))
    }
}
