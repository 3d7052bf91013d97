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
        fault::Fault,
        timeout::{Timeout, TimeoutLayer},
    },
    stack::{
        calling::{Calling, Repeated, calling_setters},
        gateway::Attempted,
    },
    telemetry::{request_id::PropagateRequestId, trace::PropagateTrace},
};

/// Around the calls that a service makes: they carry the id of the request they are made for, are bounded by its time and
/// their own, which gRPC servers are told, and are counted.
///
/// It is a layer around any client, and what a [`Destination`](super::Destination) of a [`Client`](super::Client) has.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientLayer {
    counted: Option<Counter>,
    pub(super) calling: Calling,
    pub(super) concurrency: Vec<Concurrency>,
    success_rate: Option<SuccessRate>,
    #[cfg(feature = "jwt")]
    credentials: OutboundLayer,
}

#[cfg(feature = "jwt")]
pub(super) type Sender<S> = Outbound<S>;
#[cfg(not(feature = "jwt"))]
pub(super) type Sender<S> = S;
/// What stands around a call as a whole.
pub(super) type Calls<S> = Gated<Timeout<Fault<S>>, (Carried, (Option<Counter>, Deadlines))>;
/// What is carried to calls of the request that they are made for.
type Carried = (PropagateRequestId, PropagateTrace);
/// What bounds a call beside its timeout: its own word, and the request that it is made for.
type Deadlines = (ReadDeadline, InheritDeadline);
/// What stands around its attempts, and around each of them.
pub(super) type Tried<S> = Repeated<Timeout<Guarded<S>>>;

impl ClientLayer {
    /// Calls may take 15 s, those of gRPC to their last byte too, are made once, and nobody counts them.
    pub fn new() -> Self {
        Self::of(Calling::within(TimeoutLayer::default()))
    }

    pub(super) fn of(calling: Calling) -> Self {
        Self {
            counted: None,
            calling,
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

    calling_setters!();

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

    /// Counts calls, and of a [`Destination`](super::Destination) each [attempt](Metrics::attempts) at its upstreams too.
    #[cfg(feature = "prometheus")]
    pub fn metrics(self, metrics: &Metrics) -> Self {
        Self { counted: Some(metrics.clone()), ..self }
    }

    /// What counts attempts at this upstream.
    #[cfg(feature = "prometheus")]
    pub(super) fn attempted(&self, upstream: &str) -> Attempted {
        self.counted.as_ref().map(|metrics| metrics.attempts(upstream))
    }

    #[cfg(not(feature = "prometheus"))]
    pub(super) const fn attempted(&self, _: &str) -> Attempted {
        None
    }

    /// What stands around each call as a whole.
    pub(super) fn calls<S>(&self, inner: S) -> Calls<S> {
        let timeout = self.calling.timeout.tell_deadline(true);
        let carried = (PropagateRequestId::new(), PropagateTrace::new());
        let deadlines = (self.calling.read(), InheritDeadline::new());
        let gates = GateLayer::new((carried, (self.counted.clone(), deadlines)));
        gates.layer(timeout.layer(self.calling.faults().layer(inner)))
    }

    /// What stands around its attempts. `budget`: of what is called, if it has one of its own.
    pub(super) fn attempts<S>(&self, budget: Option<&Budget>, inner: S) -> Tried<S> {
        // Inside of retries: no place is held between two attempts, and each attempt is an outcome.
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        self.calling.repeated(budget, self.calling.attempt_timeout.layer(guards.layer(inner)))
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
        self.calling.warn_of_hedge(None);
        self.calls(self.attempts(None, GateLayer::new(self.calling.told()).layer(self.sender(inner))))
    }
}
