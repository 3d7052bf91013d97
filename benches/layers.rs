//! What each layer of the contract matrix (`docs/contract.md`) costs where it lets pass, around a service that is ready and
//! answers at once: `cargo bench --features full --bench layers`.
//!
//! A row is a call up to the end of its response's body; a layer's cost is the difference to `bare`. Requests are made
//! outside of what is measured. Rows that say so measure another way through the layer than the matrix does.

#![allow(clippy::unwrap_used, reason = "a bench that may stop")]

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    num::NonZeroU32,
    pin::pin,
    sync::LazyLock,
    time::Duration,
};

use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use portcullis::{
    admission::{
        Priorities, Priority, Settle,
        address::AddressList,
        authz::{self, Authorization, Authorize},
        concurrency::{Concurrency, Gradient, Queue},
        ext_authz::ExternalAuth,
        quota::Quota,
        rate_limit::{Algorithm, Charge, Limit, RateLimit},
        shed::{Overload, Shed, SuccessRate},
    },
    authn::{
        Location, Providers,
        api_key::{ApiKey, ApiKeys, KeyTable, Minted, mint},
        certificate::Certificate,
        introspection::Introspection,
        jwt::{Jwt, Key as TokenKey, KeySet},
        oauth::{Client, Endpoint},
        outbound::{OutboundLayer, TokenRequest, TokenSource},
    },
    body::{Body, ConvertLayer, TapLayer},
    chance::Chance,
    context::{ContextLayer, Deadline},
    fetch::Fetch,
    gate::{AsyncGate, AsyncGateLayer, AsyncGates, Check, Enforce, Gate, GateLayer, Gates},
    head::Head,
    identity::{
        CallerHeaders, CertificateHeader, ClientAddr, PeerAddr, PeerIdentity, Principal, TlsSession,
        TrustedProxies,
    },
    key::{Key, RouteName},
    matching::Normalize,
    ratio::Ratio,
    reject::{Answer, RaiseLayer, RescueLayer},
    resilience::{
        breaker::{self, BreakerLayer},
        deadline::{InheritDeadline, ReadDeadline, TellDeadline},
        fallback::{self, FallbackLayer, Stale},
        fault::{self, FaultLayer},
        hedge::{self, HedgeLayer},
        retry::RetryLayer,
        timeout::TimeoutLayer,
    },
    routing::{
        canary::{self, Canary, Version},
        filter::{Cors, Csrf, HeaderChanges, PathChange, Redirect, Rewrite, Scheme},
        mirror::{self, MirrorLayer},
        router::{Router, RouterLayer, Rule},
        split::{Policy, Split, SplitLayer},
    },
    stack::mesh,
    telemetry::{
        Witness,
        access_log::AccessLog,
        metrics::Metrics,
        request_id::{PropagateRequestId, SetRequestId},
        span::RequestSpan,
        trace::PropagateTrace,
        usage::UsageMeter,
    },
    time::Period,
    transport::{CertificateHosts, Connection, Drain},
    trip,
    upstream::HopByHop,
};
use tokio::{runtime, time::Instant};
use tower::{Layer, Service, layer::util::Identity, service_fn, util::ServiceFn};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A single call is too short for the clock.
const BATCH: u32 = 1000;

type Inner = ServiceFn<fn(Request<Body>) -> Ready<Result<Response<Body>, Infallible>>>;

fn inner() -> Inner {
    service_fn(|_| ready(Ok(Response::new(Body::from("hello")))))
}

/// One call, up to the end of its body.
async fn exchange<S, B>(service: &mut S, request: Request<Body>)
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug>,
    B: http_body::Body<Error: Debug>,
{
    std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let mut body = pin!(service.call(request).await.unwrap().into_body());
    while let Some(frame) = body.as_mut().frame().await {
        divan::black_box_drop(frame.unwrap());
    }
}

fn time<L, S, B>(bencher: Bencher<'_, '_>, request: fn() -> Request<Body>, layer: fn() -> L)
where
    L: Layer<Inner, Service = S>,
    S: Service<Request<Body>, Response = Response<B>, Error: Debug>,
    B: http_body::Body<Error: Debug>,
{
    let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let within = runtime.enter();
    let mut service = layer().layer(inner());
    drop(within);
    // What is asked for once is asked for now.
    runtime.block_on(exchange(&mut service, request()));
    let requests = || {
        let _within = runtime.enter();
        (0..BATCH).map(|_| request()).collect::<Vec<_>>()
    };
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(requests).bench_local_values(|requests| {
        runtime.block_on(async {
            for request in requests {
                exchange(&mut service, request).await;
            }
        });
    });
}

macro_rules! rows {
    ($($name:ident: $request:expr, $layer:expr;)*) => {$(
        #[divan::bench]
        fn $name(bencher: Bencher<'_, '_>) {
            time(bencher, $request, || $layer);
        }
    )*};
}

rows! {
    bare: plain, Identity::new();

    gate: plain, GateLayer::new(Open);
    gate_disabled: plain, GateLayer::<Open>::disabled();
    gates: plain, GateLayer::new(Gates::new().with(Open).with(Open));
    gates_as_a_tuple: plain, GateLayer::new((Open, Open));
    async_gate: plain, AsyncGateLayer::new(Open);
    async_gates: plain, AsyncGateLayer::new(AsyncGates::new().with(Open).with_async(Open));
    shadow: plain, Enforce::shadow("open", Open).layer();
    shadow_of_an_async_gate: plain, Enforce::shadow("open", Open).async_layer();
    share: plain, Enforce::share("open", Ratio::percent(50), Open).layer();
    share_of_an_async_gate: plain, Enforce::share("open", Ratio::percent(50), Open).async_layer();
    callers_headers: plain, CallerHeaders::new().layer();
    context: plain, ContextLayer::new();
    convert: plain, ConvertLayer::<Body>::new();
    tap: plain, TapLayer::new();
    rescue: plain, RescueLayer::new();
    raise: plain, RaiseLayer::new();
    normalize: plain, Normalize::default().layer();

    connection: plain, Connection::new().layer();
    connection_told_of_a_certificate: told_of_a_certificate, Connection::new().trusted_proxies(proxies()).layer();
    certificate_hosts: within_tls, CertificateHosts::new().layer();
    // What a handler takes out of the extensions, where the connection had a certificate.
    identity_in_the_handler: with_certificate, GateLayer::new(Handler);
    drain: plain, Drain::new().layer();

    request_id: plain, SetRequestId::new().layer();
    propagate_request_id: plain, PropagateRequestId::new().layer();
    propagate_trace: plain, PropagateTrace::new().layer();
    // Nobody wants to see them.
    span: plain, RequestSpan.layer();
    access_log: plain, AccessLog::new().layer();
    metrics: plain, Metrics::new().layer();
    witness: plain, Witness.layer();
    usage: plain, UsageMeter::builder().build().layer();

    api_key: with_key, api_key_gate().layer();
    providers: with_key, Providers::new().with(api_key_gate()).layer();
    certificate: with_certificate, Certificate::new().layer();
    // Seen before.
    jwt: with_token, Jwt::new(KeySet::new([token_key()]).unwrap()).layer();
    introspection: with_token, Introspection::builder(provider(ACTIVE)).build().layer();
    outbound: plain, OutboundLayer::new(TokenSource::client_credentials(TokenRequest::new(provider(GIVEN))));
    outbound_disabled: plain, OutboundLayer::disabled();

    authorize: plain, Authorize::new().all_scopes(["orders.read"]).layer();
    rate_limit: plain, RateLimit::new(limit()).layer();
    rate_limit_settled_at_the_end: plain, settled();
    rate_limit_shaping: plain, shaping();
    quota: plain, Quota::builder("bench", u64::MAX >> 16, Period::Week).by(Key::ClientAddr).build().unwrap().layer();
    address_list: plain, AddressList::builder().deny(["10.0.0.0/8".parse().unwrap()]).build().layer();
    policies: plain, policy().layer();
    policies_told: plain, policy().told_in(HeaderName::from_static("x-decision")).layer();
    external_authorization: plain, ExternalAuth::new("iam", "http://iam.internal/check", asked("")).unwrap().layer();
    external_authorization_remembering: plain, remembering().layer();
    concurrency: plain, Concurrency::fixed("bench", some(100)).build().unwrap().layer();
    concurrency_with_a_queue: plain, queued();
    concurrency_by_key: plain, Concurrency::fixed("bench", some(100)).by(Key::ClientAddr).build().unwrap().layer();
    concurrency_adaptive: plain, Concurrency::adaptive("bench", Gradient::new()).build().unwrap().layer();
    shed: plain, Shed::new(&overload()).layer();
    priorities: plain, GateLayer::new(Priorities::new(Priority::High));
    success_rate: plain, SuccessRate::builder().build().layer();

    hop_by_hop: plain, HopByHop.layer();
    // With a field that `Connection` names.
    hop_by_hop_named: with_hops, HopByHop.layer();
    request_headers: plain, changes().for_requests().layer();
    response_headers: plain, changes().for_responses().layer();
    rewrite: plain, Rewrite::new().path(PathChange::prefix("/", "/v2").unwrap()).layer();
    // Which is an answer.
    redirect: plain, Redirect::new().scheme(Scheme::Https).layer();
    csrf: from_a_page, Csrf::new().layer();
    cors: from_a_page, Cors::new().allow_origin("https://shop.example").unwrap().layer();
    cors_of_nobody: plain, Cors::new().allow_origin("https://shop.example").unwrap().layer();
    // Which is an answer.
    cors_preflight: preflight, Cors::new().allow_origin("https://shop.example").unwrap().layer();
    router: plain, RouterLayer::new(Router::builder().rule(Rule::new("all", Identity::new())).build().unwrap());
    split: plain, split_between(Policy::random(Chance::seeded(1)));
    split_sticky: plain, split_between(Policy::sticky(Key::ClientAddr, "bench"));
    canary: plain, Canary::new("bench", canary::Policy::default()).watch(Version::New);
    mirror_not_drawn: plain, MirrorLayer::new(mirror::Policy::new("bench").share(Ratio::NEVER), inner());

    timeout: plain, TimeoutLayer::default();
    read_deadline: with_deadline, GateLayer::new(ReadDeadline::new());
    inherit_deadline: plain, GateLayer::new(InheritDeadline::new());
    tell_deadline: within_a_deadline, GateLayer::new(TellDeadline::new());
    // A copy of the head is kept.
    retry: plain, RetryLayer::default();
    retry_of_a_bare_request: bare_request, RetryLayer::default();
    circuit_breaker: plain, BreakerLayer::new(breaks());
    circuit_breaker_by_key: plain, BreakerLayer::new(breaks().by(Key::ClientAddr));
    circuit_breaker_disabled: plain, BreakerLayer::disabled();
    fallback: plain, FallbackLayer::new(fallback::Policy::answer(Response::new(bytes::Bytes::new())));
    // The answer is copied.
    fallback_old_answers: bare_request, FallbackLayer::new(fallback::Policy::cases().stale(Stale::new()));
    hedge: plain, HedgeLayer::new(hedge::Policy::after(Duration::from_secs(15)));
    hedge_disabled: plain, HedgeLayer::disabled();
    fault: plain, FaultLayer::new(fault::Policy::new());
    fault_disabled: plain, FaultLayer::disabled();

    mesh_server: plain, mesh::ServerLayer::new();
    mesh_client: plain, mesh::ClientLayer::new();
}

/// One that believes who is at the other end.
fn proxies() -> TrustedProxies {
    "127.0.0.1".parse::<TrustedProxies>().unwrap().client_certificate(CertificateHeader::Xfcc)
}

fn told_of_a_certificate() -> Request<Body> {
    let mut request = plain();
    let element =
        format!("By=spiffe://shop.example/edge;Hash={};URI=spiffe://shop.example/orders", "07".repeat(32));
    request.headers_mut().insert("x-forwarded-client-cert", element.parse().unwrap());
    request
}

/// Looks at whose certificate it is.
struct Handler;

impl Gate for Handler {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let peer = head.extensions().get::<PeerIdentity>().cloned();
        divan::black_box(peer.as_ref().and_then(PeerIdentity::spiffe_id));
        Ok(())
    }
}

/// As it comes from a server: some headers, and what the connection, authentication and the router told.
fn plain() -> Request<Body> {
    let mut request = Request::get("/api/v1/items?page=2")
        .header(header::HOST, "shop.example")
        .header(header::USER_AGENT, "bench/1")
        .header(header::ACCEPT, "*/*")
        .body(Body::empty())
        .unwrap();
    let peer = PeerAddr::new(([127, 0, 0, 1], 4000).into());
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(ClientAddr::from(peer));
    request.extensions_mut().insert(RouteName("items".into()));
    request.extensions_mut().insert(ALICE.clone());
    request
}

static ALICE: LazyLock<Principal> =
    LazyLock::new(|| Principal::new("staff", "", "alice").with_scopes(["orders.read"]));

fn bare_request() -> Request<Body> {
    Request::new(Body::empty())
}

fn with(name: HeaderName, value: &'static str) -> Request<Body> {
    let mut request = plain();
    request.headers_mut().insert(name, HeaderValue::from_static(value));
    request
}

fn with_hops() -> Request<Body> {
    let mut request = with(header::CONNECTION, "x-hop, keep-alive");
    request.headers_mut().insert("x-hop", HeaderValue::from_static("1"));
    request
}

fn from_a_page() -> Request<Body> {
    let mut request = with(header::ORIGIN, "https://shop.example");
    *request.method_mut() = Method::POST;
    request
}

fn preflight() -> Request<Body> {
    let mut request = from_a_page();
    *request.method_mut() = Method::OPTIONS;
    request.headers_mut().insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
    request
}

fn with_deadline() -> Request<Body> {
    let mut request = with(header::CONTENT_TYPE, "application/grpc");
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1500m"));
    request
}

fn within_a_deadline() -> Request<Body> {
    let mut request = with(header::CONTENT_TYPE, "application/grpc");
    request.extensions_mut().insert(Deadline::after(Instant::now(), Duration::from_secs(3600)));
    request
}

static KEY: LazyLock<Minted> = LazyLock::new(|| mint("test", "acme").unwrap());

fn with_key() -> Request<Body> {
    let mut request = plain();
    request.headers_mut().insert("x-api-key", KEY.reveal().parse().unwrap());
    request
}

fn api_key_gate() -> ApiKey {
    let table = KeyTable::new("partners", [KEY.entry().clone()]).unwrap();
    ApiKey::new(ApiKeys::from(table)).locations([Location::header(HeaderName::from_static("x-api-key"))])
}

fn with_certificate() -> Request<Body> {
    static PEER: LazyLock<PeerIdentity> =
        LazyLock::new(|| PeerIdentity::new([7; 32]).with_dns_names(["orders.svc"]));
    let mut request = plain();
    request.extensions_mut().insert(PEER.clone());
    request
}

fn within_tls() -> Request<Body> {
    static OURS: LazyLock<PeerIdentity> =
        LazyLock::new(|| PeerIdentity::new([7; 32]).with_dns_names(["shop.example", "*.api.example"]));
    let mut request = plain();
    request.headers_mut().insert(header::HOST, "orders.api.example".parse().unwrap());
    request.extensions_mut().insert(TlsSession::new(None, OURS.clone()));
    request
}

/// `{"sub":"alice","exp":4102444800}`, signed with [`token_key`].
fn with_token() -> Request<Body> {
    let token = "Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.\
                 DvdDttFvdgTOXtC2L5P1zfs2bIMtiEwN3al4EAHYyf8";
    with(header::AUTHORIZATION, token)
}

fn token_key() -> TokenKey {
    TokenKey::secret(b"0123456789abcdef0123456789abcdef").unwrap()
}

const ACTIVE: &str = r#"{"active":true,"sub":"alice"}"#;
const GIVEN: &str = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;

/// Who answers everything with this.
fn asked(answer: &'static str) -> Fetch {
    Fetch::new(service_fn(move |_: Request<Body>| {
        ready(Ok::<_, Infallible>(Response::new(Body::from(answer))))
    }))
}

/// What was told of the first is remembered.
fn remembering() -> ExternalAuth {
    let authorizer = ExternalAuth::new("iam", "http://iam.internal/check", asked("")).unwrap();
    authorizer.cache(Duration::from_secs(60), 100)
}

fn provider(answer: &'static str) -> Endpoint {
    Endpoint::new("https://id.example/", Client::secret_basic("gateway", "s3cret"), asked(answer)).unwrap()
}

fn some(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// Never reached.
fn limit() -> Limit {
    let limit = Limit::builder("bench", "1/s".parse().unwrap()).by(Key::ClientAddr);
    limit.burst(some(3_000_000_000)).build().unwrap()
}

fn settled() -> impl Layer<
    Inner,
    Service: Service<Request<Body>, Response = Response<impl http_body::Body<Error: Debug>>, Error: Debug>,
> {
    RateLimit::new(Charge::from(limit()).settle(Settle::by_outcome(|_| Some(2)))).sync().unwrap().layer()
}

/// So fast that nobody waits.
fn shaping() -> AsyncGateLayer<RateLimit> {
    let algorithm = Algorithm::LeakyBucket { max_wait: Duration::from_secs(60) };
    let limit = Limit::builder("shape", "10000000/s".parse().unwrap()).algorithm(algorithm);
    RateLimit::new(limit.build().unwrap()).layer()
}

fn queued() -> AsyncGateLayer<Concurrency> {
    Concurrency::fixed("bench", some(100)).queue(Queue::new(some(10))).build().unwrap().layer()
}

fn policy() -> Authorization {
    let everything = authz::Policy::allow("everything").rule(authz::Rule::new());
    let none = authz::Operation::new().paths(["/admin/{**}"]).unwrap();
    Authorization::new([everything, authz::Policy::deny("admin").rule(authz::Rule::new().to(none))]).unwrap()
}

fn overload() -> Overload {
    Overload::builder().event_loop(Duration::from_secs(1)..Duration::from_secs(2)).build().unwrap()
}

fn changes() -> HeaderChanges {
    let name = HeaderName::from_static("x-served-by");
    HeaderChanges::new().set(name, HeaderValue::from_static("portcullis")).unwrap()
}

fn split_between(policy: Policy) -> SplitLayer<Identity> {
    let variants =
        Split::builder().variant("stable", 98, Identity::new()).variant("canary", 2, Identity::new());
    SplitLayer::new(variants.build().unwrap(), policy)
}

fn breaks() -> breaker::Policy {
    breaker::Policy::new(trip::Policy::new().consecutive(NonZeroU32::new(5)))
}

/// Lets everybody pass.
struct Open;

impl Gate for Open {
    type Pass = ();
    fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
        Ok(())
    }
}

impl AsyncGate for Open {
    type Pass = ();
    type Wait = Ready<()>;
    type Told = ();
    fn check(&self, _: &mut Head<'_>) -> Check<(), Self::Wait> {
        Check::Wait(ready(()))
    }
    fn resume(&self, _: &mut Head<'_>, (): ()) -> Check<(), Self::Wait> {
        Check::Now(Ok(()))
    }
}
