//! What routing costs: `cargo bench --features routing --bench routing`.

#![allow(clippy::unwrap_used, reason = "a bench that may stop")]

use divan::{AllocProfiler, Bencher, black_box};
use http::{HeaderName, Request, Response};
use portcullis::{
    body::Body,
    gate::Gate,
    head::Head,
    key::Key,
    matching::{HostPattern, Normalize, PathPolicy, RequestMatch},
    ratio::Ratio,
    routing::{
        canary::{self, Canary, Version},
        filter::{PathChange, Rewrite},
        mirror::{self, MirrorLayer},
        router::{Router, Rule},
        split::{Policy, Split},
    },
};
use tower::{Layer, ServiceExt, service_fn};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// As many rules, ten to a host: prefixes of three segments, every fifth an exact path.
fn router(rules: usize, host: impl Fn(usize) -> Option<String>) -> Router<usize> {
    let rules = (0..rules).map(|number| {
        let path = format!("/api/v1/service-{}", number % 10);
        let exact = number % 5 == 0;
        let request = if exact { RequestMatch::exact(&path) } else { RequestMatch::prefix(&path) };
        let rule = Rule::new(format!("rule-{number}"), number).when(request.unwrap());
        host(number).into_iter().fold(rule, |rule, host| rule.host(HostPattern::parse(&host).unwrap()))
    });
    Router::builder().rules(rules).build().unwrap()
}

fn request(host: &str, path: &str) -> Request<()> {
    Request::get(path).header("host", host).header("accept", "*/*").body(()).unwrap()
}

fn find(bencher: Bencher<'_, '_>, router: &Router<usize>, mut request: Request<()>) {
    let head = Head::of(&mut request);
    assert!(router.find(&head).is_some());
    bencher.bench_local(|| router.find(black_box(&head)).map(|matched| matched.index()));
}

#[divan::bench(args = [10, 100, 1_000, 10_000])]
fn exact_host(bencher: Bencher<'_, '_>, rules: usize) {
    let router = router(rules, |number| Some(format!("h{}.shop.example", number / 10)));
    find(
        bencher,
        &router,
        request(&format!("h{}.shop.example:8080", rules / 20), "/api/v1/service-3/orders/7"),
    );
}

#[divan::bench(args = [1_000])]
fn wildcard_host(bencher: Bencher<'_, '_>, rules: usize) {
    let router = router(rules, |number| Some(format!("*.h{}.shop.example", number / 10)));
    find(bencher, &router, request("a.b.h50.shop.example", "/api/v1/service-3/orders/7"));
}

/// All on one host: a thousand prefixes beside each other.
#[divan::bench(args = [1_000])]
fn one_host(bencher: Bencher<'_, '_>, rules: usize) {
    let rules = (0..rules).map(|number| {
        let request = RequestMatch::prefix(&format!("/api/v1/service-{number}")).unwrap();
        Rule::new(format!("rule-{number}"), number).when(request)
    });
    let router = Router::builder().rules(rules).build().unwrap();
    find(bencher, &router, request("shop.example", "/api/v1/service-777/orders/7"));
}

#[divan::bench]
fn no_rule(bencher: Bencher<'_, '_>) {
    let router = router(1_000, |number| Some(format!("h{}.shop.example", number / 10)));
    let mut request = request("h50.shop.example", "/api/v2/service-3");
    let head = Head::of(&mut request);
    bencher.bench_local(|| router.find(black_box(&head)).is_none());
}

#[divan::bench]
fn normalize_normal(bencher: Bencher<'_, '_>) {
    let mut request = request("shop.example", "/api/v1/orders/7/items?page=2");
    let mut head = Head::of(&mut request);
    bencher.bench_local(|| Normalize::new().check(black_box(&mut head)).is_ok());
}

#[divan::bench]
fn normalize_odd(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| PathPolicy::strict().normalize(black_box("/api/%76%31/./orders//7/../8")).is_ok());
}

#[divan::bench]
fn rewrite_prefix(bencher: Bencher<'_, '_>) {
    let gate = Rewrite::new().path(PathChange::prefix("/api", "/").unwrap());
    bencher
        .with_inputs(|| request("shop.example", "/api/v1/orders/7/items?page=2"))
        .bench_local_refs(|request| gate.check(&mut Head::of(request)).is_ok());
}

/// A request that is not drawn: what a mirror costs all others.
#[divan::bench]
fn mirror_not_drawn(bencher: Bencher<'_, '_>) {
    mirrored(bencher, Ratio::NEVER);
}

/// With the task of its shadow, run to its end.
#[divan::bench]
fn mirror_with_shadow(bencher: Bencher<'_, '_>) {
    mirrored(bencher, Ratio::ALWAYS);
}

fn mirrored(bencher: Bencher<'_, '_>, share: Ratio) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let says = || {
        service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        })
    };
    let service = MirrorLayer::new(mirror::Policy::new("bench").share(share), says()).layer(says());
    bencher.with_inputs(|| request("shop.example", "/").map(|()| Body::from("body"))).bench_local_values(
        |request| {
            runtime.block_on(async {
                let answered = service.clone().oneshot(request).await;
                if share == Ratio::ALWAYS {
                    tokio::task::yield_now().await;
                }
                answered.unwrap().status()
            })
        },
    );
}

/// A call that is watched, from the head of its request to the end of its response.
#[divan::bench]
fn canary_watched(bencher: Bencher<'_, '_>) {
    let canary = Canary::new("bench", canary::Policy::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let says = service_fn(|_: Request<Body>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let service = canary.watch(Version::New).layer(says);
    bencher.with_inputs(|| request("shop.example", "/").map(|()| Body::empty())).bench_local_values(
        |request| runtime.block_on(async { service.clone().oneshot(request).await.unwrap().status() }),
    );
}

#[divan::bench]
fn split_sticky(bencher: Bencher<'_, '_>) {
    let split = Split::builder().variant("stable", 98, 0).variant("canary", 2, 1).build().unwrap();
    let policy = Policy::sticky(Key::Header(HeaderName::from_static("x-tenant")), "orders");
    let mut request = request("shop.example", "/");
    request.headers_mut().insert("x-tenant", "acme".parse().unwrap());
    let mut head = Head::of(&mut request);
    bencher.bench_local(|| *policy.choose(&split, black_box(&mut head)).value());
}
