//! Every layer of the crate, and the matrix of laws by layer in `docs/contract.md`.

use std::{
    fmt::Write as _,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue, Request};
#[cfg(feature = "redis")]
use portcullis::{admission::rate_limit::Distribution, redis::Redis};
use portcullis::{
    admission::{
        Priorities, Priority, Settle,
        address::AddressList,
        authz::{self, Authorization, Authorize},
        concurrency::{Concurrency, ConcurrencyBuilder, ConcurrencyHandle, Gradient, Queue},
        ext_authz::ExternalAuth,
        quota::{Quota, QuotaStore, Quotas},
        rate_limit::{Algorithm, Charge, Limit, LimitBuilder, RateLimit, RateLimitHandle},
        shed::{Overload, Shed, SuccessRate},
    },
    authn::{
        Location, Providers,
        api_key::{ApiKey, ApiKeys, KeyTable, mint},
        certificate::Certificate,
        introspection::{Introspection, IntrospectionHandle},
        jwt::{Jwt, Key as TokenKey, KeySet},
        oauth::{Client, Endpoint},
        outbound::{OutboundLayer, TokenRequest, TokenSource},
    },
    body::{Body, ConvertLayer, TapLayer},
    chance::Chance,
    context::ContextLayer,
    fetch::Fetch,
    gate::{AsyncGate, AsyncGateLayer, AsyncGates, Check, Enforce, Gate, GateLayer, Gates},
    head::Head,
    identity::{CallerHeaders, PeerAddr, PeerIdentity, Principal, TlsSession},
    key::Key,
    matching::{Normalize, RequestMatch, Text},
    ratio::Ratio,
    reject::{Answer, RaiseLayer, RescueLayer},
    resilience::{
        breaker::{self, BreakerLayer},
        budget::Budget,
        deadline::{InheritDeadline, ReadDeadline, TellDeadline},
        fallback::{self, FallbackLayer, Stale},
        fault::{self, FaultLayer},
        hedge::{self, HedgeLayer},
        retry::{self, RetryLayer},
        timeout::TimeoutLayer,
    },
    routing::{
        canary::{self, Canary, Version},
        filter::{Cors, Csrf, HeaderChanges, PathChange, Rewrite},
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
    testing::{Contract, Finding, Law, Report, Subject},
    time::{ManualClock, Period},
    transport::{CertificateHosts, Connection, Drain},
    trip,
    upstream::HopByHop,
};

use tower::Service;

use super::allocations;

struct Open;

impl Gate for Open {
    type Pass = ();
    fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
        Ok(())
    }
}

impl AsyncGate for Open {
    type Pass = ();
    type Wait = std::future::Ready<()>;
    type Told = ();
    fn check(&self, head: &mut Head<'_>) -> Check<(), Self::Wait> {
        match head.headers().contains_key("x-caller") {
            true => Check::Now(Ok(())),
            false => Check::Wait(std::future::ready(())),
        }
    }
    fn resume(&self, _: &mut Head<'_>, (): ()) -> Check<(), Self::Wait> {
        Check::Now(Ok(()))
    }
}

fn reports() -> Vec<Report> {
    [
        vocabulary(),
        transport(),
        telemetry(),
        authn(),
        admission(),
        in_flight(),
        routing(),
        resilience(),
        stack(),
    ]
    .concat()
}

/// A gate that refuses nobody and remembers nothing; `allowed` allocations in a call.
fn plain<G: Gate>(name: &'static str, allowed: u64, make: impl Fn() -> GateLayer<G> + 'static) -> Report {
    Contract::new(name, make).allocations(allowed, allocations).check()
}

fn vocabulary() -> Vec<Report> {
    vec![
        plain("gate", 0, || GateLayer::new(Open)),
        plain("gate, disabled", 0, GateLayer::<Open>::disabled),
        plain("gates", 0, || GateLayer::new(Gates::new().with(Open).with(Open))),
        plain("gates, as a tuple", 0, || GateLayer::new((Open, Open))),
        Contract::new("async gates", || AsyncGateLayer::new(AsyncGates::new().with(Open).with_async(Open)))
            .allocations(0, allocations)
            .check(),
        // The copy of the head that is thrown away.
        plain("shadow", 8, || Enforce::shadow("open", Open).layer()),
        Contract::new("shadow, of an async gate", || Enforce::shadow("open", Open).async_layer())
            .allocations(8, allocations)
            .check(),
        plain("share", 8, || Enforce::share("open", Ratio::percent(50), Open).layer()),
        Contract::new("share, of an async gate", || {
            Enforce::share("open", Ratio::percent(50), Open).async_layer()
        })
        .allocations(8, allocations)
        .check(),
        plain("caller's headers", 0, || CallerHeaders::new().layer()),
        Contract::new("async gate", || AsyncGateLayer::new(Open)).allocations(0, allocations).check(),
        Contract::new("context", ContextLayer::new).allocations(3, allocations).check(),
        Contract::new("convert", ConvertLayer::<Body>::new).allocations(0, allocations).check(),
        Contract::new("tap", TapLayer::new).allocations(2, allocations).check(),
        Contract::new("rescue", RescueLayer::new)
            .other_error("its work is that no error is left")
            .allocations(0, allocations)
            .check(),
        Contract::new("raise", RaiseLayer::new)
            .other_error("its work is to make refusals errors")
            .allocations(0, allocations)
            .check(),
        Contract::new("normalize", || Normalize::default().layer())
            .request(|caller| {
                let request =
                    Request::get("/orders").header("host", "shop.example").header("x-caller", caller);
                request.body(Body::empty()).unwrap()
            })
            .allocations(2, allocations)
            .check(),
    ]
}

fn transport() -> Vec<Report> {
    vec![
        Contract::new("connection", || Connection::new().layer())
            .request(|caller| {
                let mut request = Request::get("/").header("x-caller", caller).body(Body::empty()).unwrap();
                request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
                request
            })
            .allocations(2, allocations)
            .check(),
        #[cfg(feature = "tls")]
        Contract::new("connection, told of a certificate", || {
            use portcullis::identity::{CertificateHeader, TrustedProxies};

            let proxies: TrustedProxies = "127.0.0.1".parse().unwrap();
            Connection::new().trusted_proxies(proxies.client_certificate(CertificateHeader::Xfcc)).layer()
        })
        .request(|caller| {
            let mut request = Request::get("/").header("x-caller", caller).body(Body::empty()).unwrap();
            let element = format!("Hash={};URI=spiffe://shop.example/{caller}", "07".repeat(32));
            request.headers_mut().insert("x-forwarded-client-cert", element.parse().unwrap());
            request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
            request
        })
        .allocations(16, allocations)
        .check(),
        Contract::new("certificate hosts", || CertificateHosts::new().layer())
            .request(|caller| {
                let request = Request::get("/").header("host", "shop.example").header("x-caller", caller);
                let mut request = request.body(Body::empty()).unwrap();
                let ours = PeerIdentity::new([7; 32]).with_dns_names(["shop.example"]);
                request.extensions_mut().insert(TlsSession::new(None, ours));
                request
            })
            .allocations(0, allocations)
            .check(),
        Contract::new("drain", || Drain::new().layer())
            .in_flight(|layer: &GateLayer<Drain>| layer.gate().map_or(0, |drain| drain.in_flight()))
            .allocations(0, allocations)
            .check(),
    ]
}

fn telemetry() -> Vec<Report> {
    vec![
        plain("request id", 4, || SetRequestId::new().layer()),
        plain("propagate request id", 0, || PropagateRequestId::new().layer()),
        plain("propagate trace", 0, || PropagateTrace::new().layer()),
        Contract::new("span", || RequestSpan.layer()).allocations(0, allocations).check(),
        plain("access log", 0, || AccessLog::new().layer()),
        Contract::new("metrics", || Metrics::new().layer())
            .in_flight(|layer: &GateLayer<Metrics>| {
                layer.gate().map_or(0, |metrics| usize::try_from(metrics.in_flight()).unwrap())
            })
            .ends(counted)
            .counts(counted)
            .allocations(4, allocations)
            .check(),
        plain("witness", 0, || Witness.layer()),
        Contract::new("usage", || UsageMeter::builder().build().layer())
            .ends(recorded)
            .counts(recorded)
            .allocations(4, allocations)
            .check(),
    ]
}

fn recorded(layer: &GateLayer<UsageMeter>) -> usize {
    layer.gate().map_or(0, |meter| usize::try_from(meter.counts().recorded).unwrap())
}

/// All requests that it has counted.
fn counted(layer: &GateLayer<Metrics>) -> usize {
    let text = layer.gate().map_or_else(String::new, |metrics| metrics.render());
    let lines = text.lines().filter(|line| line.starts_with("portcullis_requests_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

fn authn() -> Vec<Report> {
    let key = Arc::new(mint("test", "acme").unwrap());
    let header = HeaderName::from_static("x-api-key");
    let gate = {
        let (key, header) = (Arc::clone(&key), header.clone());
        move || {
            let table = KeyTable::new("partners", [key.entry().clone()]).unwrap();
            ApiKey::new(ApiKeys::from(table)).locations([Location::header(header.clone())])
        }
    };
    let with_key = move |caller: u32| {
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(header.clone(), key.reveal().parse().unwrap());
        request.headers_mut().insert("x-caller", caller.into());
        request
    };
    let (one, request) = (gate.clone(), with_key.clone());
    vec![
        Contract::new("api key", move || one().layer()).request(request).allocations(4, allocations).check(),
        Contract::new("providers", move || Providers::new().with(gate()).layer())
            .request(with_key)
            .allocations(8, allocations)
            .check(),
        Contract::new("certificate", || Certificate::new().layer())
            .request(|_| {
                let mut request = Request::new(Body::empty());
                request.extensions_mut().insert(PeerIdentity::new([7; 32]).with_dns_names(["orders.svc"]));
                request
            })
            .allocations(4, allocations)
            .check(),
        remembered_token(),
        introspected_token(),
        Contract::new("outbound", outbound).allocations(8, allocations).check(),
        plain_outbound(),
        Contract::new("authorize", || Authorize::new().all_scopes(["orders.read"]).layer())
            .request(|_| {
                let mut request = Request::new(Body::empty());
                let principal = Principal::new("p", "", "s").with_scopes(["orders.read"]);
                request.extensions_mut().insert(principal);
                request
            })
            .allocations(0, allocations)
            .check(),
    ]
}

/// Each caller has a token of its own, that is good for some months.
fn remembered_token() -> Report {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let told = clock.clone();
    let make = move || {
        told.set(SystemTime::UNIX_EPOCH);
        let key = TokenKey::secret(SECRET).unwrap();
        Jwt::new(KeySet::new([key]).unwrap()).clock(told.clock()).memory(64 << 10).layer()
    };
    Contract::new("jwt", make)
        .request(|caller| {
            let mut request = Request::new(Body::empty());
            request
                .headers_mut()
                .insert("authorization", format!("Bearer {}", token(caller)).parse().unwrap());
            request.headers_mut().insert("x-caller", caller.into());
            request
        })
        .allocations(16, allocations)
        .by_wall_clock(YEAR, move |time| clock.advance(time))
        .filled_by(400)
        .check()
}

fn introspected_token() -> Report {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let told = clock.clone();
    let newest = Arc::new(Mutex::new(None::<IntrospectionHandle>));
    let remembered = Arc::clone(&newest);
    let make = move || {
        told.set(SystemTime::UNIX_EPOCH);
        let endpoint = provider("introspect", r#"{"active":true,"sub":"alice","exp":20000000}"#);
        let gate = Introspection::builder(endpoint).clock(told.clock()).max_entries(100).build();
        *newest.lock().unwrap() = Some(gate.handle());
        gate.layer()
    };
    let hits = move |_: &_| {
        let handle = remembered.lock().unwrap();
        handle.as_ref().map_or(0, |handle| usize::try_from(handle.hits()).unwrap())
    };
    Contract::new("introspection", make)
        .request(|caller| {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert("authorization", format!("Bearer opaque-{caller}").parse().unwrap());
            request.headers_mut().insert("x-caller", caller.into());
            request
        })
        .by_wall_clock(YEAR, move |time| clock.advance(time))
        .counts(hits)
        .filled_by(400)
        .allocations(8, allocations)
        .check()
}

const YEAR: Duration = Duration::from_secs(365 * 86_400);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Of somebody, for some months from the beginning of time.
fn token(caller: u32) -> String {
    let claims = format!(r#"{{"sub":"{caller:010}","exp":20000000}}"#);
    let signed =
        [r#"{"alg":"HS256","typ":"JWT"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A provider that answers everything with this.
fn provider(path: &str, answer: &'static str) -> Endpoint {
    let http = tower::service_fn(move |_: Request<Body>| async move {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(answer)))
    });
    let client = Client::secret_basic("gateway", "s3cret");
    Endpoint::new(&format!("https://id.example/{path}"), client, Fetch::new(http)).unwrap()
}

fn outbound() -> OutboundLayer {
    let endpoint = provider("token", r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#);
    OutboundLayer::new(TokenSource::client_credentials(TokenRequest::new(endpoint)))
}

fn plain_outbound() -> Report {
    Contract::new("outbound, disabled", OutboundLayer::disabled).allocations(0, allocations).check()
}

/// A limit of 256 callers, and how many it remembers.
fn limited<L: Subject>(
    name: &'static str,
    limit: impl Fn() -> LimitBuilder + 'static,
    layer: impl Fn(Limit) -> L + 'static,
) -> Contract<L> {
    let newest = Arc::new(Mutex::new(None::<RateLimitHandle>));
    let told = Arc::clone(&newest);
    let make = move || {
        let limit = limit().by(Key::ClientAddr).max_keys(NonZeroU32::new(256).unwrap()).build().unwrap();
        *told.lock().unwrap() = Some(limit.handle());
        layer(limit)
    };
    Contract::new(name, make)
        .keys(256, move |_: &L| newest.lock().unwrap().as_ref().map_or(0, |limit| limit.len()))
}

/// Who comes again is refused, or waits if it comes after four minutes and before five.
fn shaping() -> Report {
    let algorithm = Algorithm::LeakyBucket { max_wait: Duration::from_secs(60) };
    let limit = move || Limit::builder("shape", "12/h".parse().unwrap()).algorithm(algorithm);
    limited("rate limit, shaping", limit, |limit| RateLimit::new(limit).layer())
        .limit(1)
        .recovers_after(Duration::from_secs(250))
        .allocations(8, allocations)
        .check()
}

/// The kit has no network: what is asked there costs nothing, and is not asked. What refuses is the one beside it.
#[cfg(feature = "redis")]
fn on_redis() -> Report {
    let layer = |here| {
        let nowhere = Redis::builder("redis://127.0.0.1:1").unwrap().build();
        let there = Limit::builder("there", "12/h".parse().unwrap()).distributed(Distribution::on(nowhere));
        RateLimit::new(there.build().unwrap().costing(0)).and(here).layer()
    };
    limited("rate limit, beside one on Redis", || Limit::builder("here", "12/h".parse().unwrap()), layer)
        .limit(12)
        .recovers_after(Duration::from_secs(300))
        .allocations(4, allocations)
        .check()
}

fn admission() -> Vec<Report> {
    let newest = Arc::new(Mutex::new(None));
    let told = Arc::clone(&newest);
    let make = move || {
        let limit = Limit::builder("contract", "1/s".parse().unwrap())
            .by(Key::ClientAddr)
            .burst(NonZeroU32::new(12).unwrap())
            .max_keys(NonZeroU32::new(256).unwrap())
            .build()
            .unwrap();
        *told.lock().unwrap() = Some(limit.handle());
        RateLimit::new(limit).layer()
    };
    let remembered =
        move |_: &AsyncGateLayer<RateLimit>| newest.lock().unwrap().as_ref().map_or(0, |h| h.len());
    vec![
        Contract::new("rate limit", make)
            .limit(12)
            .recovers_after(Duration::from_secs(1))
            .keys(256, remembered)
            .allocations(0, allocations)
            .check(),
        quota(),
        Contract::new("address list", || {
            AddressList::builder().deny(["10.0.0.0/8".parse().unwrap()]).build().layer()
        })
        .request(|caller| {
            let mut request = Request::get("/").header("x-caller", caller).body(Body::empty()).unwrap();
            request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
            request
        })
        .allocations(0, allocations)
        .check(),
        settled(),
        #[cfg(feature = "redis")]
        on_redis(),
        shaping(),
        plain("policies", 0, || policies().layer()),
        plain("policies, told", 4, || policies().told_in(HeaderName::from_static("x-decision")).layer()),
        Contract::new("external authorization", authorizer).allocations(40, allocations).check(),
    ]
}

/// Each request comes to two, of 120.
fn settled() -> Report {
    let layer = |limit| {
        RateLimit::new(Charge::from(limit).settle(Settle::by_outcome(|_| Some(2)))).sync().unwrap().layer()
    };
    limited("rate limit, settled at the end", || Limit::builder("settled", "120/h".parse().unwrap()), layer)
        .limit(60)
        .recovers_after(Duration::from_secs(30))
        .allocations(2, allocations)
        .check()
}

/// Twelve a minute for each account.
fn quota() -> Report {
    let newest = Arc::new(Mutex::new(None));
    let told = Arc::clone(&newest);
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let set = clock.clone();
    let make = move || {
        set.set(SystemTime::UNIX_EPOCH);
        let store = QuotaStore::memory().max_keys(NonZeroU32::new(256).unwrap());
        let quota = Quota::builder("contract", 12, Period::Week).by(Key::ClientAddr).store(store);
        let quota = quota.clock(set.clock()).build().unwrap();
        *told.lock().unwrap() = Some(quota.handle());
        quota.layer()
    };
    let accounts = move |_: &AsyncGateLayer<Quotas>| {
        newest.lock().unwrap().as_ref().and_then(|handle| handle.accounts()).unwrap_or(0)
    };
    Contract::new("quota", make)
        .limit(12)
        .keys(256, accounts)
        .by_wall_clock(Duration::from_secs(7 * 86_400), move |time| clock.advance(time))
        .allocations(1, allocations)
        .check()
}

fn in_flight() -> Vec<Report> {
    let some = |n| NonZeroU32::new(n).unwrap();
    let queue = move || Queue::new(some(10));
    let overload =
        || Overload::builder().event_loop(Duration::from_secs(1)..Duration::from_secs(2)).build().unwrap();
    vec![
        places("concurrency", || Concurrency::fixed("contract", NonZeroU32::new(100).unwrap())),
        places("concurrency, with a queue", move || Concurrency::fixed("contract", some(100)).queue(queue())),
        places("concurrency, by key", move || {
            Concurrency::fixed("contract", some(100)).by(Key::ClientAddr).max_keys(some(256))
        }),
        places("concurrency, adaptive", || Concurrency::adaptive("contract", Gradient::new())),
        Contract::new("shed", move || Shed::new(&overload()).layer())
            .unseen(Law::SharedState, PRESSED)
            .unseen(Law::Time, LATE)
            .allocations(0, allocations)
            .check(),
        plain("priorities", 1, || GateLayer::new(Priorities::new(Priority::High))),
        success_rate(),
    ]
}

const PRESSED: &str =
    "nothing presses here; that its services refuse together `it_refuses_in_each_protocol` shows";
const LATE: &str =
    "nothing presses here; that pressure comes and goes `a_late_event_loop_presses_and_recovers` shows";

/// After twenty failures of twenty it refuses all, which it looks at from time to time, until they are out of its window.
fn success_rate() -> Report {
    let refuses_all = || SuccessRate::builder().fewest(20).aggression(1e9).max(Ratio::ALWAYS).build().layer();
    Contract::new("success rate", refuses_all)
        .spoiled_after(20)
        .notices_after(Duration::from_millis(50))
        .recovers_after(Duration::from_secs(31))
        .allocations(0, allocations)
        .check()
}

/// A limit on what is in flight, and how much it says is.
fn places(name: &'static str, builder: impl Fn() -> ConcurrencyBuilder + 'static) -> Report {
    let newest = Arc::new(Mutex::new(None::<ConcurrencyHandle>));
    let (told, told_keys) = (Arc::clone(&newest), Arc::clone(&newest));
    let make = move || {
        let limit = builder().build().unwrap();
        *newest.lock().unwrap() = Some(limit.handle());
        limit.layer()
    };
    let contract = Contract::new(name, make)
        .in_flight(move |_: &AsyncGateLayer<Concurrency>| {
            told.lock().unwrap().as_ref().map_or(0, |handle| handle.in_flight() as usize)
        })
        .holds(if name.ends_with("adaptive") { 20 } else { 100 })
        .allocations(0, allocations);
    let contract = match name.ends_with("queue") {
        true => contract.answers_after(Duration::from_secs(1)),
        false => contract,
    };
    if !name.ends_with("key") {
        return contract.check();
    }
    let keys = move |_: &AsyncGateLayer<Concurrency>| {
        let handle = told_keys.lock().unwrap().clone();
        handle.and_then(|handle| handle.keys()).map_or(0, |(keys, _)| keys)
    };
    contract.keys(256, keys).check()
}

const ANSWERS: &str = "its work is to answer where there is an error";

/// The key, the answer's head, field by field, its body, and its place.
fn old_answers() -> Report {
    let make = || {
        let caller = Key::Header(HeaderName::from_static("x-caller"));
        FallbackLayer::new(fallback::Policy::cases().stale(Stale::new().key(caller).max_entries(256)))
    };
    let entries = |layer: &FallbackLayer| {
        layer.handle().and_then(|handle| handle.stale().map(Stale::entries)).unwrap_or(0)
    };
    Contract::new("fallback, old answers", make)
        .request(|n| {
            let request = Request::get(format!("http://shop.example/{n}")).header("x-caller", n);
            request.body(Body::empty()).unwrap()
        })
        .other_error(ANSWERS)
        .keys(256, entries)
        .answers_again_for(Duration::from_secs(3_600))
        .allocations(20, allocations)
        .check()
}

fn policies() -> Authorization {
    let everything = authz::Policy::allow("everything").rule(authz::Rule::new());
    let none = authz::Operation::new().paths(["/admin/{**}"]).unwrap();
    let denied = authz::Policy::deny("admin").rule(authz::Rule::new().to(none));
    Authorization::new([everything, denied]).unwrap()
}

/// Asks somebody who lets everything pass.
fn authorizer() -> AsyncGateLayer<ExternalAuth> {
    let fetch = Fetch::new(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
    }));
    ExternalAuth::new("iam", "http://iam.internal/check", fetch).unwrap().layer()
}

fn routing() -> Vec<Report> {
    let changes = || {
        let name = HeaderName::from_static("x-served-by");
        HeaderChanges::new().set(name, HeaderValue::from_static("portcullis")).unwrap()
    };
    let rewrite = || Rewrite::new().path(PathChange::prefix("/", "/").unwrap()).layer();
    let router =
        move || RouterLayer::new(Router::builder().rule(Rule::new("all", rewrite())).build().unwrap());
    let split = move || {
        let variants = Split::builder().variant("stable", 1, rewrite()).variant("canary", 1, rewrite());
        SplitLayer::new(variants.build().unwrap(), Policy::random(Chance::seeded(1)))
    };
    vec![
        plain("hop by hop", 0, || HopByHop.layer()),
        plain("request headers", 1, move || changes().for_requests().layer()),
        plain("response headers", 3, move || changes().for_responses().layer()),
        plain("rewrite", 0, rewrite),
        plain("csrf", 0, || Csrf::new().layer()),
        plain("cors", 0, || Cors::new().allow_origin("*").unwrap().layer()),
        Contract::new("router", router).allocations(3, allocations).check(),
        Contract::new("split", split).allocations(3, allocations).check(),
        watched(),
        Contract::new("mirror", || mirror(Ratio::ALWAYS))
            .exempt(Law::InFlight, COPIES)
            .allocations(MIRRORED, allocations)
            .check(),
        Contract::new("mirror, not drawn", || mirror(Ratio::NEVER)).allocations(0, allocations).check(),
    ]
}

/// What it finds out of the new version's calls moves it, and that is all that shows of it here.
fn watched() -> Report {
    let newest = Arc::new(Mutex::new(None));
    let told = Arc::clone(&newest);
    let make = move || {
        let canary = Canary::new("contract", canary::Policy::default());
        *told.lock().unwrap() = Some(canary.handle());
        canary.watch(Version::New)
    };
    let calls = move |_: &_| {
        let newest = newest.lock().unwrap();
        newest.as_ref().map_or(0, |handle| usize::try_from(handle.status().new.calls).unwrap())
    };
    Contract::new("canary", make).counts(calls).unseen(Law::Time, STEPS).allocations(0, allocations).check()
}

const STEPS: &str =
    "it is moved by many calls; that its steps have their time `a_step_has_its_time_and_its_calls` shows";

const COPIES: &str = "what it counts are its copies, which nobody waits for, and no requests";

/// A task and what it holds, a list of them, and a copy of the head with what it tells.
const MIRRORED: u64 = 16;

fn mirror(
    share: Ratio,
) -> MirrorLayer<
    impl Clone + Service<Request<Body>, Response = http::Response<Body>, Error: Send, Future: Send> + Send + Sync,
> {
    let read = tower::service_fn(|request: Request<Body>| async move {
        Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
    });
    MirrorLayer::new(mirror::Policy::new("contract").share(share), read)
}

/// The stacks as a whole.
fn stack() -> Vec<Report> {
    let from_somewhere = |caller: u32| {
        let mut request = Request::get("/").header("x-caller", caller).body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
        request
    };
    vec![
        Contract::new("mesh server", mesh::ServerLayer::new)
            .request(from_somewhere)
            .other_error("its work is that no error is left")
            .answers_after(Duration::from_secs(15))
            .allocations(16, allocations)
            .check(),
        Contract::new("mesh client", mesh::ClientLayer::new)
            .answers_after(Duration::from_secs(15))
            .allocations(1, allocations)
            .check(),
    ]
}

/// It waits 5 ms at least, and at first 25 ms more at most.
const BACKOFF: Duration = Duration::from_millis(50);

fn retry() -> RetryLayer {
    RetryLayer::new(retry::Policy::new(1).least_wait(Duration::from_millis(5)).budget(three()))
}

/// Second attempts in an hour.
fn three() -> Budget {
    let hour = Duration::from_secs(3_600);
    Budget::new(Ratio::NEVER).window(hour).floor(3, hour)
}

/// Opens after five failures, for ten seconds.
fn spoiled() -> breaker::Policy {
    breaker::Policy::new(trip::Policy::new().consecutive(NonZeroU32::new(5)))
}

/// Two for header fields, and two and one for each extension.
const RETRY_COPY: u64 = 8;

fn resilience() -> Vec<Report> {
    let time = Duration::from_secs(15);
    vec![
        Contract::new("timeout", TimeoutLayer::default)
            .answers_after(time)
            .allocations(0, allocations)
            .check(),
        Contract::new("read deadline", || GateLayer::new(ReadDeadline::new()))
            .allocations(0, allocations)
            .check(),
        Contract::new("inherit deadline", || GateLayer::new(InheritDeadline::new()))
            .allocations(0, allocations)
            .check(),
        Contract::new("tell deadline", || GateLayer::new(TellDeadline::new()))
            .allocations(0, allocations)
            .check(),
        Contract::new("retry, of a bare request", retry)
            .request(|_| Request::new(Body::empty()))
            .tries_again_within(BACKOFF)
            .second_attempts(3)
            .allocations(0, allocations)
            .check(),
        Contract::new("circuit breaker", || BreakerLayer::new(spoiled()))
            .spoiled_after(5)
            .recovers_after(time)
            .allocations(0, allocations)
            .check(),
        breaker_by_key(),
        Contract::new("fallback", || {
            FallbackLayer::new(fallback::Policy::answer(http::Response::new(bytes::Bytes::new())))
        })
        .other_error(ANSWERS)
        .allocations(0, allocations)
        .check(),
        old_answers(),
        Contract::new("circuit breaker, disabled", BreakerLayer::disabled)
            .allocations(0, allocations)
            .check(),
        // The head is copied, so that it can be sent again: its fields and what layers have told.
        Contract::new("retry", retry)
            .tries_again_within(BACKOFF)
            .second_attempts(3)
            .allocations(RETRY_COPY, allocations)
            .check(),
        // A trail beside it, to know which endpoint is late, and a box for what a race needs.
        Contract::new("hedge", move || HedgeLayer::new(hedge::Policy::after(time).budget(three())))
            .asks_again_after(time)
            .second_attempts(3)
            .allocations(RETRY_COPY + 4, allocations)
            .check(),
        Contract::new("hedge, disabled", HedgeLayer::disabled).allocations(0, allocations).check(),
        Contract::new("fault", || FaultLayer::new(held_back()))
            .holds_back(HELD, time)
            .allocations(0, allocations)
            .check(),
        Contract::new("fault, disabled", FaultLayer::disabled).allocations(0, allocations).check(),
    ]
}

/// Of a new key a machine is made, and of one that is known nothing.
fn breaker_by_key() -> Report {
    let policy = || {
        let policy = spoiled().by(Key::ClientAddr);
        BreakerLayer::new(policy.max_keys(NonZeroU32::new(256).unwrap()))
    };
    Contract::new("circuit breaker, by key", policy)
        .keys(256, |layer: &BreakerLayer| {
            layer.handle().and_then(|handle| handle.keys()).map_or(0, |(keys, _)| keys)
        })
        .spoiled_after(5)
        .recovers_after(Duration::from_secs(15))
        .allocations(0, allocations)
        .check()
}

/// A caller to whom the others do not come.
const HELD: u32 = 1_000_000;

fn held_back() -> fault::Policy {
    let caller = HeaderName::from_static("x-caller");
    let held = RequestMatch::default().header(caller, Text::exact(HELD.to_string()));
    fault::Policy::new().delay(Duration::from_secs(15), Ratio::ALWAYS).when(held)
}

fn matrix(reports: &[Report]) -> String {
    let mut text = String::from(
        "# The contract matrix\n\n\
         Which layer keeps which law (see [architecture.md](architecture.md)), as the contract kit finds. Written by the test run\n\
         (`BLESS=1 tests/run.sh`) and checked by it. A gap: the layer has nothing that the law speaks of, or the kit does not see it\n\
         in this subject. What it has looked at, or what shows the law, stands below. For law 9 stands how many allocations a\n\
         call that passes may make: those of what it tells, and none to decide.\n\n| layer |",
    );
    for law in Law::ALL {
        let _ = write!(text, " {} |", law.number());
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(Law::ALL.len()));
    let mut gaps = std::collections::BTreeMap::<&str, Vec<String>>::new();
    for report in reports {
        let _ = write!(text, "| {} |", report.name());
        for (law, finding) in report.findings() {
            let cell = match finding {
                Finding::Kept if law == Law::Allocation => {
                    format!("≤ {}", report.allowed_allocations().unwrap_or_default())
                }
                Finding::Kept => "kept".into(),
                Finding::NotApplicable(why) => {
                    gaps.entry(why).or_default().push(format!("{} ({})", report.name(), law.number()));
                    "–".into()
                }
                _ => "BROKEN".into(),
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push_str("\n| number | law |\n|---|---|\n");
    for law in Law::ALL {
        let _ = writeln!(text, "| {} | {law} |", law.number());
    }
    text.push_str("\n| gap: the layer | layers (laws) |\n|---|---|\n");
    for (why, layers) in gaps {
        let _ = writeln!(text, "| {why} | {} |", layers.join(", "));
    }
    text
}

#[test]
fn every_layer_keeps_every_law() {
    let reports = reports();
    let matrix = matrix(&reports);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &matrix).unwrap();
    }
    reports.iter().for_each(Report::assert_kept);
    let published = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(matrix, published, "docs/contract.md is stale: BLESS=1 tests/run.sh writes it");
}
