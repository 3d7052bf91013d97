//! A mesh without a second process: the layers around a service's calls, and around its own handlers.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::{body::Body, identity::PeerAddr, stack::mesh::{ClientLayer, ServerLayer}};
//! use std::time::Duration;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stock = service_fn(|_: Request<Body>| async { Ok::<_, std::convert::Infallible>(Response::new(Body::empty())) });
//! let stock = ClientLayer::new().timeout(Duration::from_millis(500)).layer(stock);
//!
//! // A handler that calls another service: the call carries the id of the request it is made for.
//! let handler = service_fn(move |_: Request<Body>| stock.clone().oneshot(Request::new(Body::empty())));
//! let service = ServerLayer::new().timeout(Duration::from_secs(2)).layer(handler);
//!
//! let mut request = Request::get("/").body(Body::empty())?;
//! request.extensions_mut().insert(PeerAddr::new("127.0.0.1:4000".parse()?)); // the server does this
//! assert_eq!(service.oneshot(request).await?.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Example, customised
//!
//! Who may call is asked, and how often; the numbers of both sides are one set.
//!
//! ```
//! use portcullis::{
//!     admission::{authz::Authorize, rate_limit::Limit},
//!     authn::{Providers, api_key::{ApiKey, KeyTable, mint}},
//!     key::Key,
//!     resilience::retry::Policy,
//!     stack::mesh::{ClientLayer, ServerLayer},
//! };
//! use std::time::Duration;
//!
//! let key = mint("shop", "orders")?.with(|entry| entry.scopes(["stock.read"])); // given to the service that calls
//! let keys = ApiKey::new(KeyTable::new("services", [key.entry().clone()])?);
//! let server = ServerLayer::new()
//!     .trusted_peers("10.0.0.0/8".parse()?)
//!     .authenticate(Providers::new().with(keys))
//!     .authorize(Authorize::new().all_scopes(["stock.read"]))
//!     .limit(Limit::builder("per-service", "100/s".parse()?).by(Key::Principal).build()?);
//! let client = ClientLayer::new().retry(Policy::new(2)).attempt_timeout(Duration::from_secs(2));
//! # #[cfg(feature = "prometheus")] {
//! let metrics = portcullis::telemetry::metrics::Metrics::new();
//! let (server, client) = (server.metrics(&metrics), client.metrics(&metrics));
//! # let _ = (server, client); }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Both sides can be kept from having too much to do: what is least important is shed, no more than so many are in flight,
//! and a service that fails is asked less.
//!
//! ```
//! use portcullis::{
//!     admission::{
//!         concurrency::{Concurrency, Gradient},
//!         shed::{Overload, Priorities, SuccessRate},
//!     },
//!     stack::mesh::{ClientLayer, ServerLayer},
//! };
//! use std::{num::NonZeroU32, time::Duration};
//!
//! let overload = Overload::builder().event_loop(Duration::from_millis(50)..Duration::from_millis(500)).build()?;
//! let reports = Concurrency::fixed("reports", NonZeroU32::new(20).unwrap()).build()?;
//! let server = ServerLayer::new().overload(&overload, Priorities::default()).concurrency(reports);
//! let stock = Concurrency::adaptive("stock", Gradient::new()).build()?;
//! let client = ClientLayer::new().concurrency(stock).success_rate(SuccessRate::builder().build());
//! # let _ = (server, client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Answers
//!
//! Those of the layers in them: overload, authentication, authorization, rate limit, requests in flight, success rate,
//! timeout, and the rescue for what fails. A client's errors stay errors.
//!
//! # Position
//!
//! [`order`](super::order) has both orders with their reasons. Breakers and mutual TLS take their places in them as their
//! rooms are built. A client's inner service takes [`Body`](crate::body::Body), and is cloned for each attempt;
//! [`ConvertLayer`](crate::body::ConvertLayer) stands in front of one that takes another body.
//!
//! # Shared state
//!
//! A layer owns its limits and numbers: its clones, and the services made from them, share them.
//!
//! # Compared with tower
//!
//! A `ServiceBuilder` has the order in which its methods are called; these have the one that works.
//!
//! # Metrics
//!
//! Those of `telemetry::metrics`, if the layers are given some (feature `prometheus`).
use std::{fmt, time::Duration};

use tower_layer::Layer;

#[cfg(feature = "jwt")]
use crate::authn::outbound::{Outbound, OutboundLayer, TokenSource};
#[cfg(feature = "prometheus")]
use crate::telemetry::metrics::Metrics;
use crate::{
    admission::{
        authz::{Authorization, Authorize},
        concurrency::Concurrency,
        rate_limit::{Charge, RateLimit},
        shed::{Overload, Priorities, Shed, SuccessRate},
    },
    authn::Providers,
    context::{ContextLayer, Contextual},
    gate::{AsyncGateLayer, AsyncGated, AsyncGates, GateLayer, Gated},
    identity::TrustedProxies,
    reject::{Rescue, RescueLayer},
    resilience::{
        deadline::{InheritDeadline, ReadDeadline, TellDeadline},
        retry::{Policy, Retry, RetryLayer},
        timeout::{Timeout, TimeoutLayer},
    },
    stack::guards::guarded,
    telemetry::{
        Witness,
        access_log::AccessLog,
        request_id::{PropagateRequestId, SetRequestId, Trust},
        span::RequestSpan,
    },
    transport::Connection,
};

#[cfg(feature = "prometheus")]
type Counter = Metrics;
#[cfg(not(feature = "prometheus"))]
type Counter = Witness;

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
/// Behind limits, if there are any.
type Guarded<S> = AsyncGated<S, AsyncGates>;
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
    /// [in one order](Concurrency::in_one_order). A [`ServerLayer`] of the same process has others: who waits here may hold a
    /// place there.
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
        let guards = guards(AsyncGates::new(), &self.concurrency, self.success_rate.as_ref());
        let attempts = self.retry.layer(self.attempt_timeout.layer(guards.layer(told)));
        // Who tries again has to know until when that makes sense.
        let timeout = self.timeout.tell_deadline(self.retry.handle().is_some());
        let deadlines = GateLayer::new((ReadDeadline::new(), InheritDeadline::new()));
        let called = self.counted.layer(deadlines.layer(timeout.layer(attempts)));
        PropagateRequestId::new().layer().layer(called)
    }
}

/// The limits inside of these gates, if there are any.
fn guards(
    outside: AsyncGates,
    concurrency: &[Concurrency],
    success_rate: Option<&SuccessRate>,
) -> AsyncGateLayer<AsyncGates> {
    match guarded(outside, concurrency, success_rate) {
        gates if gates.is_empty() => AsyncGateLayer::disabled(),
        gates => AsyncGateLayer::new(gates),
    }
}

/// Around the handlers of a service: who calls, under what id, whether they may, and what became of it.
#[derive(Clone)]
#[must_use]
pub struct ServerLayer {
    trusted: TrustedProxies,
    counted: GateLayer<Counter>,
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
type Identified = (Connection, (SetRequestId, RequestSpan));
type Answered<S> = Gated<Rescue<Gated<Timeout<Authenticated<Guarded<Contextual<S>>>>, ReadDeadline>>, Shed>;

impl ServerLayer {
    /// Whoever reaches the service may call it, and may take 15 s.
    pub fn new() -> Self {
        Self {
            trusted: TrustedProxies::none(),
            counted: GateLayer::disabled(),
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

    /// How long a request may take. Unless told 15 s, and streams may last.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: TimeoutLayer::new(timeout), ..self }
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
        Self { counted: metrics.layer(), ..self }
    }

    fn gates(&self, shed: Option<Shed>) -> GateLayer<Policies> {
        GateLayer::new((Witness, (shed, (self.authorize.clone(), self.authorization.clone()))))
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

    fn identified(&self) -> GateLayer<Identified> {
        let trust = if self.trusted.is_empty() { Trust::Never } else { Trust::Peers(self.trusted.clone()) };
        let connection = Connection::new().trusted_proxies(self.trusted.clone());
        GateLayer::new((connection, (SetRequestId::new().trust(trust), RequestSpan)))
    }
}

impl Default for ServerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = Rescue<Gated<Gated<Gated<Answered<S>, Counter>, AccessLog>, Identified>>;

    fn layer(&self, inner: S) -> Self::Service {
        let (early, late) = self.shed();
        let guarded = self.guards().layer(ContextLayer::new().layer(inner));
        let handled = self.gates(late).layer(self.limits().layer(guarded));
        let handled = self.authentication().layer(handled);
        // Calls that the handler makes have to know how long they have.
        let bounded = self.timeout.tell_deadline(true).layer(handled);
        let answered = RescueLayer::new().layer(GateLayer::new(ReadDeadline::new()).layer(bounded));
        let answered = early.map_or_else(GateLayer::disabled, Shed::layer).layer(answered);
        let watched = AccessLog::new().layer().layer(self.counted.layer(answered));
        RescueLayer::new().layer(self.identified().layer(watched))
    }
}

impl fmt::Debug for ServerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::{Request, Response};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        admission::{
            concurrency::{Order, Queue},
            rate_limit::Limit,
            shed::Priority,
        },
        body::{Body, BoxError},
        context::{Context, Deadline},
        identity::PeerAddr,
        ratio::Ratio,
    };

    fn request() -> Request<Body> {
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(PeerAddr::new("192.0.2.1:4000".parse().unwrap()));
        request
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_before_a_leaky_bucket() {
        let max_wait = Duration::from_secs(9);
        let shape = Limit::builder("shape", "1/s".parse().unwrap())
            .algorithm(crate::admission::rate_limit::Algorithm::LeakyBucket { max_wait })
            .build()
            .unwrap();
        let service = ServerLayer::new()
            .limit(shape)
            .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
        let begin = tokio::time::Instant::now();
        for seconds in 0..3 {
            assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 200);
            assert_eq!(begin.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test]
    async fn a_call_carries_the_id_of_the_request_it_is_made_for() {
        let stock = ClientLayer::new().layer(service_fn(|call: Request<Body>| async move {
            let mut response = Response::new(Body::empty());
            response.headers_mut().insert("x-called-as", call.headers()["x-request-id"].clone());
            Ok::<_, BoxError>(response)
        }));
        let handler = service_fn(move |_: Request<Body>| {
            assert!(Context::current().and_then(|context| context.request_id().cloned()).is_some());
            stock.clone().oneshot(Request::new(Body::empty()))
        });
        let response = ServerLayer::new().layer(handler).oneshot(request()).await.unwrap();
        assert_eq!(response.headers()["x-called-as"], response.headers()["x-request-id"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_is_tried_again_in_the_time_of_the_call() {
        use std::sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        };

        let calls = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&calls);
        let stock = service_fn(move |call: Request<Body>| {
            let failed = count.fetch_add(1, Ordering::Relaxed) < 2;
            assert!(
                call.headers().contains_key("x-request-id") && call.extensions().get::<Deadline>().is_some()
            );
            async move {
                if failed {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                Ok::<_, BoxError>(Response::new(Body::empty()))
            }
        });
        let layer = ClientLayer::new()
            .retry(Policy::new(2))
            .timeout(Duration::from_secs(4))
            .attempt_timeout(Duration::from_secs(1));
        let mut call = Request::new(Body::empty());
        call.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
        let response = layer.layer(stock).oneshot(call).await.unwrap();
        assert_eq!((response.status().as_u16(), calls.load(Ordering::Relaxed)), (200, 3));
    }

    /// What a caller gave the first service bounds what that one asks of the second.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_request_is_that_of_the_calls_made_for_it() {
        let stock = ClientLayer::new().layer(service_fn(|call: Request<Body>| async move {
            let left = call.headers()["grpc-timeout"].to_str().unwrap().to_owned();
            Ok::<_, BoxError>(Response::builder().header("x-left", left).body(Body::empty()).unwrap())
        }));
        let handler = service_fn(move |_: Request<Body>| {
            let stock = stock.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let mut call = Request::post("/").body(Body::empty()).unwrap();
                call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                stock.oneshot(call).await
            }
        });
        let layer = ServerLayer::new().timeout(Duration::from_secs(2));
        for (given, left) in [(Some("1S"), "795000u"), (Some("9S"), "1795000u"), (None, "1795000u")] {
            let mut request = request();
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            let timeout = http::HeaderName::from_static("grpc-timeout");
            request.headers_mut().extend(given.map(|given| (timeout, given.parse().unwrap())));
            let response = layer.layer(handler.clone()).oneshot(request).await.unwrap();
            assert_eq!(response.headers()["x-left"], left, "{given:?}");
        }
    }

    /// Refusals and failures alike come back as answers, with the id of the request.
    #[tokio::test(start_paused = true)]
    async fn what_fails_is_an_answer_with_its_id() {
        let once = Limit::builder("once", "1/h".parse().unwrap()).build().unwrap();
        let layer = ServerLayer::new().timeout(Duration::from_secs(2)).limit(once);
        let service = layer.layer(service_fn(|request: Request<Body>| async move {
            match request.uri().path() {
                "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
                _ => return Err(BoxError::from("broken")),
            }
            Ok(Response::new(Body::empty()))
        }));
        for (path, status) in [("/slow", 504), ("/slow", 429)] {
            let mut request = request();
            *request.uri_mut() = path.parse().unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert!(response.headers().contains_key("x-request-id"));
        }
        let broken = ServerLayer::new().layer(service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(BoxError::from("broken"))
        }));
        let response = broken.oneshot(request()).await.unwrap();
        assert_eq!(response.status(), 500);
        assert!(response.headers().contains_key("x-request-id"));
        let nobody = ServerLayer::new()
            .authorize(Authorize::new())
            .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
        assert_eq!(nobody.oneshot(request()).await.unwrap().status(), 401);
        let nothing = Authorization::new([crate::admission::authz::Policy::allow("nothing")]).unwrap();
        let denied = ServerLayer::new()
            .policies(nothing)
            .layer(service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::empty())) }));
        assert_eq!(denied.oneshot(request()).await.unwrap().status(), 403);
    }

    async fn status<S>(service: S, request: Request<Body>) -> u16
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error: fmt::Debug>,
    {
        service.oneshot(request).await.unwrap().status().as_u16()
    }

    fn hello(_: Request<Body>) -> std::future::Ready<Result<Response<Body>, BoxError>> {
        std::future::ready(Ok(Response::new(Body::from("hello"))))
    }

    /// Each side has no more in flight than it may, until the answer's body has ended.
    #[tokio::test(start_paused = true)]
    async fn both_sides_bound_what_is_in_flight() {
        let one = |name| Concurrency::fixed(name, NonZeroU32::MIN).build().unwrap();
        let (server, client) = (one("server"), one("client"));
        let handlers = ServerLayer::new().concurrency(server.clone()).layer(service_fn(hello));
        let calls = ClientLayer::new().concurrency(client.clone()).layer(service_fn(hello));
        let first = handlers.clone().oneshot(request()).await.unwrap();
        let refused = handlers.clone().oneshot(request()).await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        assert!(refused.headers().contains_key("x-request-id"));
        drop(first);
        let grpc = |mut request: Request<Body>| {
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            request
        };
        let _first = calls.clone().oneshot(request()).await.unwrap();
        let refused = calls.clone().oneshot(grpc(request())).await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["grpc-status"]),
            (200, &"14".parse().unwrap())
        );
        assert_eq!((server.handle().in_flight(), client.handle().in_flight()), (0, 1));
        assert_eq!(status(handlers.map_response(|answer| answer.map(Body::new)), request()).await, 200);
    }

    /// What is least important is refused first: by the header of a trusted peer, or by the plan of who was authenticated.
    #[tokio::test(start_paused = true)]
    async fn the_least_important_is_shed() {
        use crate::authn::api_key::{ApiKey, KeyTable, mint};

        let half = || Overload::builder().source("test", 0.0..1.0, |_| Some(0.5)).build().unwrap();
        let (overload, name) = (half(), http::HeaderName::from_static("x-priority"));
        overload.start();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let trusted = "192.0.2.0/24".parse().unwrap();
        let priorities = Priorities::new(Priority::High).header(name, "0.0.0.0/0".parse().unwrap());
        let layer = ServerLayer::new().overload(&overload, priorities);
        let says = |priority: &str| {
            let mut request = request();
            request.headers_mut().insert("x-priority", priority.parse().unwrap());
            request
        };
        let strange = layer.clone().layer(service_fn(hello)).map_response(|answer| answer.map(Body::new));
        let known = layer.trusted_peers(trusted).layer(service_fn(hello));
        let known = known.map_response(|answer| answer.map(Body::new));
        assert_eq!(status(strange, says("low")).await, 200, "strangers are not heard");
        assert_eq!((status(known.clone(), says("low")).await, status(known, says("high")).await), (503, 200));

        let [gold, free] =
            ["gold", "free"].map(|plan| mint("t", plan).unwrap().with(|entry| entry.plan(plan)));
        let table = KeyTable::new("keys", [gold.entry().clone(), free.entry().clone()]).unwrap();
        let plans = Priorities::new(Priority::Low).plan("gold", Priority::High);
        let service = ServerLayer::new()
            .overload(&overload, plans)
            .authenticate(Providers::new().with(ApiKey::new(table)))
            .layer(service_fn(hello));
        let service = service.map_response(|answer| answer.map(Body::new));
        for (key, expected) in [(Some(gold.reveal()), 200), (Some(free.reveal()), 503), (None, 401)] {
            let mut request = request();
            if let Some(key) = key {
                request.headers_mut().insert("x-api-key", key.parse().unwrap());
            }
            assert_eq!(status(service.clone(), request).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_is_asked_less_on_both_sides() {
        let fails =
            || service_fn(|_: Request<Body>| async { Err::<Response<Body>, _>(BoxError::from("broken")) });
        let rate = || SuccessRate::builder().fewest(10).max(Ratio::ALWAYS).build();
        let (handled, called) = (rate(), rate());
        let server = ServerLayer::new().success_rate(handled.clone()).layer(fails());
        let client = ClientLayer::new().success_rate(called.clone()).layer(fails());
        for _ in 0..100 {
            let answer = server.clone().oneshot(request()).await.unwrap();
            assert!([500, 503].contains(&answer.status().as_u16()));
            // Its error stays an error.
            match client.clone().oneshot(request()).await {
                Ok(answer) => assert_eq!(answer.status().as_u16(), 503),
                Err(error) => assert_eq!(error.to_string(), "broken"),
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        assert!(handled.refused() > 10 && called.refused() > 10);
    }

    /// The queue asks the priorities, and limits are taken in one order whichever is named first.
    #[tokio::test(start_paused = true)]
    async fn the_important_waits_less() {
        let limit = Concurrency::fixed("one", NonZeroU32::MIN)
            .queue(Queue::new(NonZeroU32::new(5).unwrap()).order(Order::Priority))
            .build()
            .unwrap();
        let slow = service_fn(|_: Request<Body>| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        });
        let service = ServerLayer::new()
            .overload(&Overload::builder().build().unwrap(), Priorities::new(Priority::Normal))
            .concurrency(limit)
            .layer(slow);
        let order = std::sync::Mutex::new(Vec::new());
        let call = async |priority: Priority| {
            let mut request = request();
            request.extensions_mut().insert(priority);
            let answer = service.clone().oneshot(request).await.unwrap();
            order.lock().unwrap().push((priority, answer.status().as_u16()));
        };
        tokio::join!(call(Priority::Normal), call(Priority::Low), call(Priority::High));
        let order = order.into_inner().unwrap();
        assert_eq!(order, [(Priority::Normal, 200), (Priority::High, 200), (Priority::Low, 200)]);
    }
}
