use std::fmt;

use tower_layer::Layer;

use super::parts::{Counter, Guarded, guards};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::{
        Priorities,
        authz::{Authorization, Authorize},
        concurrency::Concurrency,
        rate_limit::{Charge, RateLimit},
        shed::{Overload, Shed, SuccessRate},
    },
    authn::Providers,
    context::{ContextLayer, Contextual},
    gate::{AsyncGateLayer, AsyncGated, AsyncGates, GateLayer, Gated},
    identity::TrustedProxies,
    reject::{Rescue, RescueLayer},
    resilience::{
        deadline::ReadDeadline,
        timeout::{Timeout, TimeoutLayer},
    },
    stack::guards::authorizing,
    telemetry::{
        Witness,
        access_log::AccessLog,
        request_id::{SetRequestId, Trust},
        span::RequestSpan,
    },
    transport::Connection,
};

/// Around the handlers of a service: who calls, under what id, whether they may, and what became of it.
#[derive(Clone)]
#[must_use]
pub struct ServerLayer {
    trusted: TrustedProxies,
    counted: Option<Counter>,
    timeout: TimeoutLayer,
    providers: Option<Providers>,
    authorize: Option<Authorize>,
    authorization: Option<Authorization>,
    charges: Vec<Charge>,
    overload: Option<(Overload, Priorities)>,
    concurrency: Vec<Concurrency>,
    success_rate: Option<SuccessRate>,
}

type Policies = (Witness, (Option<Shed>, (Option<Authorize>, Option<Authorization>)));
type Authenticated<S> = AsyncGated<Gated<AsyncGated<S, RateLimit>, Policies>, Providers>;
/// What sees each answer.
type Outside = (Connection, (SetRequestId, (RequestSpan, (AccessLog, (Option<Counter>, Option<Shed>)))));
type Answered<S> = Rescue<Gated<Timeout<Authenticated<Guarded<Contextual<S>>>>, ReadDeadline>>;

impl ServerLayer {
    /// Whoever reaches the service may call it, and may take 15 s.
    pub fn new() -> Self {
        Self {
            trusted: TrustedProxies::none(),
            counted: None,
            timeout: TimeoutLayer::default().grpc_streams(true),
            providers: None,
            authorize: None,
            authorization: None,
            charges: Vec::new(),
            overload: None,
            concurrency: Vec::new(),
            success_rate: None,
        }
    }

    /// Believes what these peers say of whom they speak for, and the request ids that they bring.
    pub fn trusted_peers(self, trusted: TrustedProxies) -> Self {
        Self { trusted, ..self }
    }

    /// How long a request may take: a time, or a [`TimeoutLayer`] that says more. Unless told 15 s, and gRPC calls
    /// [may last](TimeoutLayer::grpc_streams): then only a caller's own deadline is told to the calls made for them. Who
    /// says a time means it, to the last byte of gRPC calls too, and calls that the handler makes have what is left of it.
    pub fn timeout(self, timeout: impl Into<TimeoutLayer>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// Asks who is calling.
    pub fn authenticate(self, providers: Providers) -> Self {
        Self { providers: Some(providers), ..self }
    }

    /// Asks for scopes and roles.
    pub fn authorize(self, authorize: Authorize) -> Self {
        Self { authorize: Some(authorize), ..self }
    }

    /// Asks these policies, inside of scopes and roles.
    pub fn policies(self, authorization: Authorization) -> Self {
        Self { authorization: Some(authorization), ..self }
    }

    /// Adds a limit. All of them are one decision.
    pub fn limit(mut self, limit: impl Into<Charge>) -> Self {
        self.charges.push(limit.into());
        self
    }

    /// Refuses the least important when there is too much to do: before anything else is done for it, or inside of
    /// authentication if it is the caller's plan that says how important a request is. The header of the priorities is believed
    /// of [trusted peers](Self::trusted_peers) only.
    pub fn overload(self, overload: &Overload, priorities: Priorities) -> Self {
        Self { overload: Some((overload.clone(), priorities)), ..self }
    }

    /// Lets no more requests be in flight than this, inside of everything that may refuse for another reason. Several are
    /// asked [in one order](Concurrency::in_one_order).
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Handles less the more of the answers are failures, such as those of a database that is away.
    pub fn success_rate(self, rate: SuccessRate) -> Self {
        Self { success_rate: Some(rate), ..self }
    }

    /// Counts requests.
    #[cfg(feature = "prometheus")]
    pub fn metrics(self, metrics: &Metrics) -> Self {
        Self { counted: Some(metrics.clone()), ..self }
    }

    fn gates(&self, shed: Option<Shed>) -> GateLayer<Policies> {
        let authorize = authorizing(self.authorize.as_ref(), self.providers.as_ref());
        GateLayer::new((Witness, (shed, (authorize, self.authorization.clone()))))
    }

    fn limits(&self) -> AsyncGateLayer<RateLimit> {
        if self.charges.is_empty() {
            return AsyncGateLayer::disabled();
        }
        self.charges.iter().cloned().collect::<RateLimit>().layer()
    }

    fn priorities(&self) -> Priorities {
        let told = self.overload.as_ref().map(|(_, priorities)| priorities.clone());
        told.unwrap_or_default().believing(self.trusted.clone())
    }

    /// What refuses by overload: before the caller is known, or after.
    fn shed(&self) -> (Option<Shed>, Option<Shed>) {
        let Some((overload, _)) = &self.overload else { return (None, None) };
        let priorities = self.priorities();
        let late = priorities.need_identity() && self.providers.is_some();
        let shed = Some(Shed::new(overload).priorities(priorities));
        if late { (None, shed) } else { (shed, None) }
    }

    fn guards(&self) -> AsyncGateLayer<AsyncGates> {
        let ask = self.concurrency.iter().any(Concurrency::asks_priority);
        let outside = AsyncGates::new();
        let outside = if ask { outside.with(self.priorities()) } else { outside };
        guards(outside, &self.concurrency, self.success_rate.as_ref())
    }

    fn authentication(&self) -> AsyncGateLayer<Providers> {
        self.providers.clone().map_or_else(AsyncGateLayer::disabled, Providers::layer)
    }

    fn outside(&self, shed: Option<Shed>) -> GateLayer<Outside> {
        let trust = if self.trusted.is_empty() { Trust::Never } else { Trust::Peers(self.trusted.clone()) };
        let connection = Connection::new().trusted_proxies(self.trusted.clone());
        let watching = (AccessLog::new(), (self.counted.clone(), shed));
        GateLayer::new((connection, (SetRequestId::new().trust(trust), (RequestSpan, watching))))
    }
}

impl Default for ServerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = Rescue<Gated<Answered<S>, Outside>>;

    fn layer(&self, inner: S) -> Self::Service {
        let (early, late) = self.shed();
        let guarded = self.guards().layer(ContextLayer::new().layer(inner));
        let handled = self.gates(late).layer(self.limits().layer(guarded));
        let handled = self.authentication().layer(handled);
        // Calls that the handler makes have to know how long they have.
        let bounded = self.timeout.tell_deadline(true).layer(handled);
        let answered = RescueLayer::new().layer(GateLayer::new(ReadDeadline::new()).layer(bounded));
        RescueLayer::new().layer(self.outside(early).layer(answered))
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}
