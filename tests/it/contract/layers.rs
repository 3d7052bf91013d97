//! Every layer of the crate, and the matrix of laws by layer in `docs/contract.md`.

use std::{
    fmt::Write as _,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
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
        concurrency::{
            Concurrency, ConcurrencyBuilder, ConcurrencyHandle, Gradient, LimitAlgorithm, Queue, Seen,
        },
        ext_authz::ExternalAuth,
        quota::{Quota, QuotaStore, Quotas},
        rate_limit::{Algorithm, Charge, Limit, LimitBuilder, RateLimit, RateLimitHandle},
        shed::{Overload, Shed, SuccessRate},
    },
    authn::{
        Providers,
        api_key::{ApiKey, ApiKeys, KeyTable, mint},
        certificate::Certificate,
        introspection::{Introspection, IntrospectionHandle},
        jwt::{Jwt, Key as TokenKey, KeySet, Keys},
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
    reject::{Answer, RaiseLayer, Reason, Rejection, RescueLayer},
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
        usage::{Delivering, UsageBatch, UsageMeter, UsageSink},
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

/// Refuses everybody.
struct Shut;

impl Gate for Shut {
    type Pass = ();
    fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
        Err(Rejection::new(Reason::Forbidden).into())
    }
}

impl AsyncGate for Shut {
    type Pass = ();
    type Wait = std::future::Ready<()>;
    type Told = ();
    fn check(&self, _: &mut Head<'_>) -> Check<(), Self::Wait> {
        Check::Wait(std::future::ready(()))
    }
    fn resume(&self, head: &mut Head<'_>, (): ()) -> Check<(), Self::Wait> {
        Check::Now(Gate::check(self, head).map_err(Into::into))
    }
}

/// A share that chance does not strike in this test.
fn hardly_ever() -> Ratio {
    "0.0001%".parse().unwrap()
}

/// Those that were to be refused and were not.
fn spared<G>(gate: Option<&Arc<Enforce<G>>>) -> usize {
    gate.map_or(0, |gate| count(gate.handle().spared()))
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap()
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
        // The copy of the head that is thrown away, and the refusal.
        Contract::new("shadow", || Enforce::shadow("shut", Shut).layer())
            .counts(|layer: &GateLayer<_>| spared(layer.gate()))
            .allocations(9, allocations)
            .check(),
        Contract::new("shadow, of an async gate", || Enforce::shadow("shut", Shut).async_layer())
            .counts(|layer: &AsyncGateLayer<_>| spared(layer.gate()))
            .allocations(13, allocations)
            .check(),
        Contract::new("share", || {
            Enforce::share("shut", hardly_ever(), Shut).chance(Chance::seeded(1)).layer()
        })
        .counts(|layer: &GateLayer<_>| spared(layer.gate()))
        .allocations(9, allocations)
        .check(),
        Contract::new("share, of an async gate", || {
            Enforce::share("shut", hardly_ever(), Shut).chance(Chance::seeded(1)).async_layer()
        })
        .counts(|layer: &AsyncGateLayer<_>| spared(layer.gate()))
        .allocations(13, allocations)
        .check(),
        plain("caller's headers", 0, || CallerHeaders::new().layer()),
        Contract::new("async gate", || AsyncGateLayer::new(Open)).allocations(0, allocations).check(),
        Contract::new("context", ContextLayer::new).allocations(3, allocations).check(),
        Contract::new("convert", ConvertLayer::<Body>::new).allocations(0, allocations).check(),
        Contract::new("tap", TapLayer::new).allocations(2, allocations).check(),
        Contract::new("rescue", RescueLayer::new).other_error(NO_ERROR).allocations(0, allocations).check(),
        Contract::new("raise", RaiseLayer::new).other_error(ERRORS).allocations(0, allocations).check(),
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
            .refuses_once(|layer| layer.gate().iter().for_each(|drain| drain.cut()))
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
            .tells_time(taken)
            .allocations(4, allocations)
            .check(),
        plain("witness", 0, || Witness.layer()),
        Contract::new("usage", || UsageMeter::builder().interval(INTERVAL).sink(Nowhere).build().layer())
            .ends(recorded)
            .counts(recorded)
            .turns_after(INTERVAL, |layer| {
                layer.gate().map_or(0, |meter| count(meter.counts().sinks[0].delivered))
            })
            .allocations(4, allocations)
            .check(),
    ]
}

const INTERVAL: Duration = Duration::from_secs(10);

/// Takes all usage.
#[derive(Debug)]
struct Nowhere;

impl UsageSink for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }
    fn deliver<'a>(&'a self, _: &'a UsageBatch) -> Delivering<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn recorded(layer: &GateLayer<UsageMeter>) -> usize {
    layer.gate().map_or(0, |meter| count(meter.counts().recorded))
}

/// How long all requests took that it has counted.
fn taken(layer: &GateLayer<Metrics>) -> Duration {
    let text = layer.gate().map_or_else(String::new, |metrics| metrics.render());
    let lines = text.lines().filter(|line| line.starts_with("portcullis_request_duration_seconds_sum"));
    lines.map(|line| Duration::from_secs_f64(line.rsplit(' ').next().unwrap().parse().unwrap())).sum()
}

/// All requests that it has counted.
fn counted(layer: &GateLayer<Metrics>) -> usize {
    layer.gate().map_or(0, |metrics| in_all(metrics))
}

fn in_all(metrics: &Metrics) -> usize {
    let text = metrics.render();
    let lines = text.lines().filter(|line| line.starts_with("portcullis_requests_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

fn authn() -> Vec<Report> {
    vec![
        with_a_key("api key", |gate: ApiKey| gate.layer(), 4),
        with_a_key("providers", |gate: ApiKey| Providers::new().with(gate).layer(), 8),
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
        Contract::new("outbound", outbound)
            .counts(|layer: &OutboundLayer| layer.source().map_or(0, |source| count(source.handle().kept())))
            .allocations(8, allocations)
            .check(),
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

/// A key that ends after a year, and is revoked.
fn with_a_key<L: Subject>(name: &'static str, layer: impl Fn(ApiKey) -> L + 'static, allowed: u64) -> Report {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let told = clock.clone();
    let key = mint("test", "acme").unwrap().with(|entry| entry.expires(SystemTime::UNIX_EPOCH + YEAR));
    let (entry, shown) = (key.entry().clone(), key.reveal().to_owned());
    let newest = Arc::new(Mutex::new(ApiKeys::pending()));
    let keys = Arc::clone(&newest);
    let make = move || {
        told.set(SystemTime::UNIX_EPOCH);
        let known = ApiKeys::from(KeyTable::new("partners", [entry.clone()]).unwrap());
        *keys.lock().unwrap() = known.clone();
        layer(ApiKey::new(known).clock(told.clock()))
    };
    Contract::new(name, make)
        .request(move |caller| {
            let request = Request::get("/").header("x-api-key", &shown).header("x-caller", caller);
            request.body(Body::empty()).unwrap()
        })
        .refuses_once(move |_| newest.lock().unwrap().replace(KeyTable::new("partners", []).unwrap()))
        .by_wall_clock(YEAR, move |time| clock.advance(time))
        .allocations(allowed, allocations)
        .check()
}

/// Each caller has a token of its own, that is good for some months; and then its key is another one.
fn remembered_token() -> Report {
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH);
    let told = clock.clone();
    let set = |secret| KeySet::new([TokenKey::secret(secret).unwrap()]).unwrap();
    let newest = Arc::new(Mutex::new(Keys::unknown()));
    let known = Arc::clone(&newest);
    let make = move || {
        told.set(SystemTime::UNIX_EPOCH);
        let keys = Keys::from(set(SECRET));
        *known.lock().unwrap() = keys.clone();
        Jwt::new(keys).clock(told.clock()).memory(64 << 10).layer()
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
        .refuses_once(move |_| newest.lock().unwrap().replace(set(&[7; 32])))
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
        Contract::new("external authorization", || authorizer().layer())
            .counts(passed)
            .allocations(40, allocations)
            .check(),
        remembering(),
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
        adaptive(),
        // The kit lets time pass in which nothing runs: the event loop is late.
        Contract::new("shed", move || Shed::new(&overload()).layer())
            .refuses_once(|_| ())
            .notices_after(Duration::from_secs(3))
            .recovers_after(Duration::from_secs(10))
            .allocations(0, allocations)
            .check(),
        plain("priorities", 1, || GateLayer::new(Priorities::new(Priority::High))),
        success_rate(),
    ]
}

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

/// A step for each window of 100 ms.
fn adaptive() -> Report {
    let newest = Arc::new(Mutex::new(Arc::<AtomicUsize>::default()));
    let steps = Arc::clone(&newest);
    let make = move || {
        let taken = Arc::default();
        *newest.lock().unwrap() = Arc::clone(&taken);
        Concurrency::adaptive("contract", Steps(Gradient::new(), taken))
    };
    let steps = move |_: &_| steps.lock().unwrap().load(Ordering::Relaxed);
    held("concurrency, adaptive", make, 20).turns_after(Duration::from_millis(100), steps).check()
}

/// Counts the steps.
#[derive(Debug)]
struct Steps(Gradient, Arc<AtomicUsize>);

impl LimitAlgorithm for Steps {
    fn limit(&self) -> u32 {
        self.0.limit()
    }
    fn step(&mut self, seen: &Seen) -> u32 {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.step(seen)
    }
    fn resume(&mut self, limit: u32) {
        self.0.resume(limit);
    }
}

fn places(name: &'static str, builder: impl Fn() -> ConcurrencyBuilder + 'static) -> Report {
    held(name, builder, 100).check()
}

/// A limit on what is in flight, and how much it says is.
fn held(
    name: &'static str,
    builder: impl Fn() -> ConcurrencyBuilder + 'static,
    most: u32,
) -> Contract<AsyncGateLayer<Concurrency>> {
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
        .holds(most)
        .allocations(0, allocations);
    let contract = match name.ends_with("queue") {
        true => contract.answers_after(Duration::from_secs(1)),
        false => contract,
    };
    if !name.ends_with("key") {
        return contract;
    }
    let keys = move |_: &AsyncGateLayer<Concurrency>| {
        let handle = told_keys.lock().unwrap().clone();
        handle.and_then(|handle| handle.keys()).map_or(0, |(keys, _)| keys)
    };
    contract.keys(256, keys)
}

const ANSWERS: &str = "no error to leave as it is: its work is to answer where there is one";

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
fn authorizer() -> ExternalAuth {
    let fetch = Fetch::new(tower::service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
    }));
    ExternalAuth::new("iam", "http://iam.internal/check", fetch).unwrap()
}

fn passed(layer: &AsyncGateLayer<ExternalAuth>) -> usize {
    layer.gate().map_or(0, |gate| count(gate.handle().passed()))
}

/// One that remembers for a minute what it was told, of 100 callers.
fn remembering() -> Report {
    let asked = |layer: &AsyncGateLayer<ExternalAuth>| {
        layer.gate().map_or(0, |gate| passed(layer) - count(gate.handle().remembered()))
    };
    let caller = HeaderName::from_static("x-caller");
    let make = move || authorizer().request_headers([caller.clone()]).unwrap().cache(MINUTE, 100).layer();
    Contract::new("external authorization, remembering", make)
        .counts(passed)
        .turns_after(MINUTE, asked)
        .filled_by(400)
        .allocations(40, allocations)
        .check()
}

const MINUTE: Duration = Duration::from_secs(60);

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
            .counts(|layer| count(layer.handles()[0].begun()))
            .exempt(Law::InFlight, COPIES)
            .allocations(MIRRORED, allocations)
            .check(),
        silent_mirror(),
        Contract::new("mirror, not drawn", || mirror(Ratio::NEVER)).allocations(0, allocations).check(),
    ]
}

/// Each call is one of both versions, of which neither is the worse one: it goes on after its time.
fn watched() -> Report {
    let newest = Arc::new(Mutex::new(None));
    let (told, step) = (Arc::clone(&newest), Arc::clone(&newest));
    let make = move || {
        let policy = canary::Policy::new([Ratio::percent(50)]).unwrap().slow(canary::Slow::Never);
        let policy = policy.margin(Ratio::percent(90)).unwrap().least_calls(1).least_time(STEP);
        let canary = Canary::new("contract", policy);
        *told.lock().unwrap() = Some(canary.handle());
        (canary.watch(Version::Old), canary.watch(Version::New))
    };
    let status =
        |newest: &Mutex<Option<canary::CanaryHandle>>| newest.lock().unwrap().as_ref().unwrap().status();
    Contract::new("canary", make)
        .counts(move |_: &_| count(status(&newest).new.calls))
        .turns_after(STEP, move |_| status(&step).step)
        .allocations(0, allocations)
        .check()
}

const STEP: Duration = Duration::from_secs(300);

const COPIES: &str = "no places for requests: what it counts are its copies, for which nobody waits";

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

/// Copies for somebody who says nothing are given up after their time.
fn silent_mirror() -> Report {
    let make = || {
        let silent = tower::service_fn(|_: Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
        });
        MirrorLayer::new(mirror::Policy::new("contract").timeout(MINUTE), silent)
    };
    Contract::new("mirror, to nobody", make)
        .exempt(Law::InFlight, COPIES)
        .turns_after(MINUTE, |layer| count(layer.handles()[0].dropped(mirror::Dropped::Deadline)))
        .counts(|layer| count(layer.handles()[0].begun()))
        .allocations(MIRRORED, allocations)
        .check()
}

/// The stacks as a whole.
fn stack() -> Vec<Report> {
    let from_somewhere = |caller: u32| {
        let mut request = Request::get("/").header("x-caller", caller).body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr::new(([127, 0, 0, 1], 4000).into()));
        request
    };
    let (server, served) = metered(|metrics| mesh::ServerLayer::new().metrics(metrics));
    let (client, called) = metered(|metrics| mesh::ClientLayer::new().metrics(metrics));
    vec![
        Contract::new("mesh server", server)
            .request(from_somewhere)
            .other_error(NO_ERROR)
            .counts(served)
            .answers_after(Duration::from_secs(15))
            .allocations(20, allocations)
            .check(),
        Contract::new("mesh client", client)
            .counts(called)
            .answers_after(Duration::from_secs(15))
            .allocations(5, allocations)
            .check(),
    ]
}

/// Layers that count, and what the newest of them has counted.
fn metered<L>(make: impl Fn(&Metrics) -> L) -> (impl Fn() -> L, impl Fn(&L) -> usize) {
    let newest = Arc::new(Mutex::new(Metrics::new()));
    let told = Arc::clone(&newest);
    let make = move || {
        let metrics = Metrics::new();
        let layer = make(&metrics);
        *told.lock().unwrap() = metrics;
        layer
    };
    (make, move |_: &L| in_all(&newest.lock().unwrap()))
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
            .probes(1)
            .allocations(0, allocations)
            .check(),
        breaker_by_key(),
        Contract::new("fallback", || {
            FallbackLayer::new(fallback::Policy::answer(http::Response::new(bytes::Bytes::new())))
        })
        .other_error(ANSWERS)
        .counts_failures(|layer| layer.handle().map_or(0, |handle| count(handle.given())))
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
            .counts(|layer: &FaultLayer| layer.handle().map_or(0, |handle| count(handle.delayed())))
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
        .probes(1)
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

const NO_ERROR: &str = "no error to leave as it is: its work is that there is none";
const ERRORS: &str = "an error type of its own: its work is to make refusals errors";

/// Why a law may not speak of a layer of a type: what it has not, or has.
const BY_TYPE: [&str; 8] = [
    NO_ERROR,
    ERRORS,
    ANSWERS,
    COPIES,
    "no state for its services to share, and it refuses nobody for what came before, nor beside 64 others",
    "nothing that lives as long as a body: the type of its bodies has no room for it",
    "no places: what lives as long as a body is told of its end, and beside 64 bodies as many pass as after them",
    "no time to wait for: it answers after an hour of silence, and after a failure, as before",
];

fn matrix(reports: &[Report]) -> String {
    let mut text = String::from(
        "# The contract matrix\n\n\
         Which layer keeps which law (see [architecture.md](architecture.md)), as the contract kit finds. Written by the test run\n\
         (`BLESS=1 tests/run.sh`) and checked by it. A gap says that the law is not applicable, by the type of the layer: which has\n\
         nothing that the law speaks of, as stands below, with what the kit has looked at. For law 9 stands how many allocations\n\
         a call that passes may make: those of what it tells, and none to decide.\n\n| layer |",
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
                    assert!(
                        BY_TYPE.contains(why),
                        "{}, law {}: {why:?} is nothing of its type",
                        report.name(),
                        law.number()
                    );
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
    text.push_str("\n| gap: the type has | layers (laws) |\n|---|---|\n");
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
