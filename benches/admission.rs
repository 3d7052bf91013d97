//! What a decision costs: `cargo bench --features admission --bench admission`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use divan::{Bencher, black_box, counter::ItemsCount};
use http::{Request, Response};
use portcullis::{
    admission::{
        Fields, Settle,
        address::AddressList,
        authz::{Authorization, Authorize, Operation, Policy, Rule, Source},
        concurrency::{Concurrency, ConcurrencyBuilder, Gradient, Partitions, Queue},
        rate_limit::{Algorithm, Charge, Limit, Rate, RateLimit, SyncRateLimit},
        shed::{Overload, Shed, SuccessRate},
    },
    body::Body,
    gate::{Gate, Pass},
    head::Head,
    identity::{ClientAddr, Principal},
    key::Key,
};
use tower::{Layer, Service};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// Never reached, and never whole again: every account stays.
fn limit(name: &'static str, keys: u32) -> Limit {
    Limit::builder(name, Rate::new(1, Duration::from_secs(1)).unwrap())
        .burst(NonZeroU32::new(3_000_000_000).unwrap())
        .max_keys(NonZeroU32::new(keys).unwrap())
        .build()
        .unwrap()
}

/// Addresses in a scattered order.
fn address(n: u32) -> ClientAddr {
    ClientAddr::new(n.wrapping_mul(0x9E37_79B1).to_be_bytes().into(), None)
}

fn request(n: u32) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(address(n));
    request
}

fn aim(request: &mut Request<()>, n: u32) {
    *request.extensions_mut().get_mut::<ClientAddr>().unwrap() = address(n);
}

fn filled(keys: u32) -> SyncRateLimit {
    let gate = RateLimit::new(limit("bench", keys.max(10_000) * 2)).sync().unwrap();
    let mut request = request(0);
    for key in 0..keys {
        aim(&mut request, key);
        assert!(gate.check(&mut Head::of(&mut request)).is_ok());
    }
    gate
}

#[divan::bench(args = [1, 1_000, 1_000_000], threads = [1, 2])]
fn known_key(bencher: Bencher<'_, '_>, keys: u32) {
    let gate = filled(keys);
    let turn = AtomicUsize::new(0);
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| request(0)).bench_refs(|request| {
        let start = turn.fetch_add(7919 * BATCH as usize, Ordering::Relaxed) as u32;
        for n in 0..BATCH {
            aim(request, start.wrapping_add(n.wrapping_mul(104_729)) % keys);
            assert!(black_box(&gate).check(&mut Head::of(request)).is_ok());
        }
    });
}

/// Of the above, what is not the limit's own: the bench's choice of a key, and each of what the gate asks for.
#[divan::bench(args = ["aim", "clock", "fingerprint"])]
fn floor(bencher: Bencher<'_, '_>, part: &str) {
    let seed = portcullis::key::KeySeed::new();
    let mut request = request(0);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            aim(&mut request, n.wrapping_mul(104_729) % 1000);
            let mut head = Head::of(&mut request);
            match part {
                "clock" => drop(black_box(head.now())),
                "fingerprint" => drop(black_box(Key::ClientAddr.fingerprint(&head, &seed))),
                _ => drop(black_box(&head)),
            }
        }
    });
}

#[divan::bench]
fn new_key(bencher: Bencher<'_, '_>) {
    newcomers(bencher, "new", 10_000_000);
}

#[divan::bench]
fn new_key_in_a_full_store(bencher: Bencher<'_, '_>) {
    newcomers(bencher, "full", 10_000);
}

fn newcomers(bencher: Bencher<'_, '_>, name: &'static str, keys: u32) {
    let gate = RateLimit::new(limit(name, keys)).sync().unwrap();
    let (mut request, mut n) = (request(0), 0_u32);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            n = n.wrapping_add(1);
            aim(&mut request, n);
            drop(black_box(gate.check(&mut Head::of(&mut request))));
        }
    });
}

/// A known key of a thousand, by each algorithm.
#[divan::bench(args = [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR])]
fn by_algorithm(bencher: Bencher<'_, '_>, algorithm: Algorithm) {
    let rate = Rate::new(3_000_000_000, Duration::from_secs(86_400)).unwrap();
    let limit = Limit::builder("bench", rate).algorithm(algorithm).build().unwrap();
    let gate = RateLimit::new(limit).sync().unwrap();
    let mut request = request(0);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for n in 0..BATCH {
            aim(&mut request, n.wrapping_mul(104_729) % 1000);
            assert!(black_box(&gate).check(&mut Head::of(&mut request)).is_ok());
        }
    });
}

/// With what is charged at the end, which is held until then.
#[divan::bench]
fn settled(bencher: Bencher<'_, '_>) {
    let settle = Settle::by_outcome(|_| Some(2));
    let service = RateLimit::new(Charge::from(limit("settled", 1000)).settle(settle)).sync().unwrap().layer();
    call(bencher, service.layer(tower::service_fn(ready)));
}

/// Ten million that were never seen: its memory stays under the cap of a megabyte.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn flood_of_ten_million(bencher: Bencher<'_, '_>) {
    let bytes = std::num::NonZeroU64::new(1 << 20).unwrap();
    let limit = Limit::builder("flood", "1/h".parse().unwrap()).max_bytes(bytes).build().unwrap();
    let (gate, mut request) = (RateLimit::new(limit.clone()).sync().unwrap(), request(0));
    bencher.counter(ItemsCount::new(10_000_000_u32)).bench_local(|| {
        for n in 0..10_000_000 {
            aim(&mut request, n);
            let _ = black_box(&gate).check(&mut Head::of(&mut request));
        }
    });
    let taken = limit.handle().bytes() as u64;
    assert!(taken <= bytes.get(), "{taken} bytes");
}

#[divan::bench]
fn three_limits(bencher: Bencher<'_, '_>) {
    let gate = RateLimit::from_iter(["a", "b", "c"].map(|name| limit(name, 1000))).sync().unwrap();
    let mut request = request(1);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        (0..BATCH).for_each(|_| assert!(black_box(&gate).check(&mut Head::of(&mut request)).is_ok()));
    });
}

#[divan::bench]
fn refusal(bencher: Bencher<'_, '_>) {
    let gate =
        RateLimit::new(Limit::builder("refusal", "1/h".parse().unwrap()).build().unwrap()).sync().unwrap();
    let mut request = request(1);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        (0..BATCH).for_each(|_| drop(black_box(black_box(&gate).check(&mut Head::of(&mut request)))));
    });
}

/// The layer around a ready service; compare with `without_layer`.
#[divan::bench(args = [Fields::OnRefusal, Fields::Always])]
fn layer(bencher: Bencher<'_, '_>, fields: Fields) {
    let service = RateLimit::new(limit("layer", 1000))
        .fields(fields)
        .sync()
        .unwrap()
        .layer()
        .layer(tower::service_fn(ready));
    call(bencher, service);
}

#[divan::bench]
fn without_layer(bencher: Bencher<'_, '_>) {
    call(bencher, tower::service_fn(ready));
}

async fn ready(_: Request<()>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

fn call<S: Service<Request<()>>>(bencher: Bencher<'_, '_>, mut service: S) {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    bencher.with_inputs(|| request(1)).bench_local_values(|request| {
        let mut future = std::pin::pin!(service.call(request));
        assert!(future.as_mut().poll(&mut cx).is_ready());
    });
}

/// How many decisions are one sample: a single one is too short for the clock.
const BATCH: u32 = 1000;

/// A rule for each of so many operations, as a shop with teams, hosts and versions has them.
fn policies(rules: usize) -> Authorization {
    let rule = |n: usize| {
        let team = Source::new().scopes([format!("team{}.write", n % 50)]).unwrap();
        let operation = Operation::new().hosts(["*.shop.example"]).unwrap().methods([http::Method::POST]);
        Rule::new().from(team).to(operation.paths([format!("/api/v1/thing{n}/{{id}}/items")]).unwrap())
    };
    let outside = Source::new().not_networks(["10.0.0.0/8".parse().unwrap()]);
    let admin = Operation::new().paths(["/admin/{**}"]).unwrap();
    let allows = (0..rules - 1).fold(Policy::allow("teams"), |policy, n| policy.rule(rule(n)));
    Authorization::new([Policy::deny("no-outsiders").rule(Rule::new().from(outside).to(admin)), allows])
        .unwrap()
}

fn of_team(path: &str) -> Request<()> {
    let mut request = Request::post(path).header("host", "www.shop.example").body(()).unwrap();
    request.extensions_mut().insert(Principal::new("staff", "", "alice").with_scopes(["openid team3.write"]));
    request.extensions_mut().insert(address(1));
    request
}

/// One rule allows it, and no other can.
#[divan::bench(args = [10, 1_000])]
fn authorization_allows(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = policies(rules);
    let mut request = of_team("/api/v1/thing3/7/items");
    let mut head = Head::of(&mut request);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        (0..BATCH).for_each(|_| assert!(black_box(&gate).check(&mut head).is_ok()));
    });
}

/// No rule means it.
#[divan::bench(args = [10, 1_000])]
fn authorization_denies(bencher: Bencher<'_, '_>, rules: usize) {
    let gate = policies(rules);
    let mut request = of_team("/api/v1/other/7/items");
    let mut head = Head::of(&mut request);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        (0..BATCH).for_each(|_| assert!(black_box(&gate).check(&mut head).is_err()));
    });
}

/// The layer around a ready service refuses who shows no credentials.
#[divan::bench]
fn refusal_without_credentials(bencher: Bencher<'_, '_>) {
    call(bencher, Authorize::new().all_scopes(["orders.read"]).layer().layer(tower::service_fn(ready)));
}

/// A list of so many networks, asked for addresses in a scattered order, of which it denies none: a refusal is no look-up.
#[divan::bench(args = [1_000, 100_000])]
fn address_list(bencher: Bencher<'_, '_>, networks: u32) {
    let network = |n: u32| {
        let ip = std::net::Ipv4Addr::from_bits(n.wrapping_mul(0x9E37_79B1));
        ipnet::Ipv4Net::new_assert(ip, 24).into()
    };
    let list = AddressList::builder().deny((0..networks).map(network)).build();
    let mut request = request(0);
    let mut passes = |n: &u32| {
        aim(&mut request, *n);
        list.check(&mut Head::of(&mut request)).is_ok()
    };
    let others: Vec<u32> = (networks..).filter(|n| passes(n)).take(100_000).collect();
    let mut turn = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for _ in 0..BATCH {
            turn = (turn + 1) % others.len();
            assert!(black_box(&mut passes)(&others[turn]));
        }
    });
}

fn most(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn places(kind: &str) -> ConcurrencyBuilder {
    let fixed = Concurrency::fixed("bench", most(1000));
    match kind {
        "queue" => fixed.queue(Queue::new(most(100))),
        "key" => fixed.by(Key::ClientAddr),
        "partitions" => {
            fixed.partitions(Partitions::by_plan().share("gold", portcullis::ratio::Ratio::percent(50)))
        }
        "adaptive" => Concurrency::adaptive("bench", Gradient::new()),
        _ => fixed,
    }
}

/// A place is taken and given back; of a limit that adapts, with its sample and the two looks at the clock.
#[divan::bench(args = ["fixed", "queue", "key", "partitions", "adaptive"], threads = [1, 2])]
fn concurrency(bencher: Bencher<'_, '_>, kind: &str) {
    let limit = places(kind).build().unwrap();
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| (request(1), Response::new(()).into_parts().0))
        .bench_refs(|(request, head)| {
            for _ in 0..BATCH {
                let mut held = Gate::check(black_box(&limit), &mut Head::of(request)).unwrap();
                if held.watches() {
                    held.on_head(head);
                }
                drop(black_box(held));
            }
        });
}

/// The layer around a ready service, as it stands in a stack; compare with `without_layer`.
#[divan::bench(args = ["fixed", "queue", "adaptive"])]
fn concurrency_layer(bencher: Bencher<'_, '_>, kind: &str) {
    call(bencher, places(kind).build().unwrap().layer().layer(tower::service_fn(ready)));
}

/// Nothing is overloaded, and nothing fails.
#[divan::bench(args = ["shed", "success rate"])]
fn overload(bencher: Bencher<'_, '_>, kind: &str) {
    let range = Duration::from_secs(1)..Duration::from_secs(2);
    let shed = Shed::new(&Overload::builder().event_loop(range).build().unwrap());
    let rate = SuccessRate::builder().build();
    let mut request = request(1);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let mut head = Head::of(&mut request);
        for _ in 0..BATCH {
            match kind {
                "shed" => assert!(black_box(&shed).check(&mut head).is_ok()),
                _ => drop(black_box(&rate).check(&mut head).is_ok()),
            }
        }
    });
}
