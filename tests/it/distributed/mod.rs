//! Limits on real Redis servers, as several instances of a gateway keep them together.
#![cfg(feature = "config")]

mod script;

use std::{
    convert::Infallible,
    net::SocketAddr,
    slice,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use portcullis::{
    admission::rate_limit::{
        Algorithm, Charge, Distribution, DistributionHandle, Fallback, Fields, Limit, LimitBuilder,
        LimitError, RateLimit, Settle,
    },
    config::Config,
    key::Key,
    ratio::Ratio,
    redis::Redis,
    trip::State,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    gateway::world::{Directory, Gateway, PATIENCE, file, upstream},
    support::redis::{Nodes, Server, Trio},
};

const ACCOUNT: HeaderName = HeaderName::from_static("x-account");

type Gate = BoxCloneSyncService<Request<String>, Response<()>, Infallible>;

/// An instance of a gateway: a connection of its own, and no state but that on Redis.
fn instance(server: &Server) -> Distribution {
    Distribution::on(Redis::builder(&server.url()).unwrap().build()).deadline(PATIENCE)
}

fn limit(name: &str, rate: &str) -> LimitBuilder {
    Limit::builder(name, rate.parse().unwrap()).by(Key::Header(ACCOUNT))
}

fn gate(limits: impl IntoIterator<Item = Charge>) -> Gate {
    behind(RateLimit::from_iter(limits))
}

fn behind(limits: RateLimit) -> Gate {
    let app = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    BoxCloneSyncService::new(
        limits.distributed().layer().layer(app).map_response(|response| response.map(drop)),
    )
}

fn of(account: &[u8]) -> Request<String> {
    let mut request = Request::new(String::new());
    request.headers_mut().insert(ACCOUNT, HeaderValue::from_bytes(account).unwrap());
    request
}

async fn answer(gate: &Gate, account: &str) -> Response<()> {
    gate.clone().oneshot(of(account.as_bytes())).await.unwrap()
}

async fn passes(gate: &Gate, account: &str) -> bool {
    match answer(gate, account).await.status() {
        StatusCode::OK => true,
        StatusCode::TOO_MANY_REQUESTS => false,
        status => panic!("{status}"),
    }
}

/// How many of so many requests at once pass, each through the next gate.
async fn passing(gates: &[Gate], account: &str, requests: usize) -> usize {
    let all = (0..requests).map(|at| {
        let (gate, account) = (gates[at % gates.len()].clone(), account.to_owned());
        tokio::spawn(async move { passes(&gate, &account).await })
    });
    let mut passing = 0;
    for one in all.collect::<Vec<_>>() {
        passing += usize::from(one.await.unwrap());
    }
    passing
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "in vain waited until: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_instances_hold_a_limit_as_one_would() {
    let server = Server::start();
    for (name, algorithm, rate) in [
        ("bucket", Algorithm::TokenBucket, "20/year"),
        ("sliding", Algorithm::SlidingWindow, "20/year"),
        ("fixed", Algorithm::CALENDAR, "20/300d"),
        ("month", Algorithm::CALENDAR, "20/year"),
        ("week", Algorithm::CALENDAR, "20/52week"),
    ] {
        let gates: Vec<_> = (0..2)
            .map(|_| {
                gate([limit(name, rate)
                    .algorithm(algorithm)
                    .distributed(instance(&server))
                    .build()
                    .unwrap()
                    .into()])
            })
            .collect();
        assert_eq!(passing(&gates, "a", 60).await, 20, "{name}");
        assert_eq!(passing(&gates, "b", 30).await, 20, "{name}: accounts are apart");
        let refused = answer(&gates[0], "a").await;
        assert_ne!(refused.headers()["retry-after"], "0");
        assert!(refused.headers()["ratelimit"].to_str().unwrap().starts_with(&format!("{name:?};r=0;t=")));
    }
    // Every key goes by itself.
    for key in server.ask("KEYS *").lines().filter(|line| line.starts_with("portcullis")) {
        let left = server.ask(&format!("PTTL {}", key.trim()));
        assert!(left.trim_start_matches(':').trim().parse::<i64>().unwrap() > 0, "{key}: {left}");
    }
}

#[tokio::test]
async fn what_was_spent_comes_back() {
    let server = Server::start();
    for (name, algorithm, rate) in [
        ("bucket", Algorithm::TokenBucket, "2/s"),
        ("sliding", Algorithm::SlidingWindow, "2/s"),
        ("fixed", Algorithm::CALENDAR, "2/s"),
        ("fast", Algorithm::TokenBucket, "10000000/s"),
    ] {
        let gate = gate([limit(name, rate)
            .algorithm(algorithm)
            .distributed(instance(&server))
            .build()
            .unwrap()
            .into()]);
        for _ in 0..4 {
            until(name, async || passes(&gate, "a").await).await;
        }
    }
}

#[tokio::test]
async fn a_list_is_one_decision_here_and_there() {
    let server = Server::start();
    let there = instance(&server);
    let wide = limit("wide", "5/year").distributed(there.clone()).build().unwrap();
    let narrow = limit("narrow", "3/year").distributed(there.clone()).build().unwrap();
    let here = limit("here", "4/year").build().unwrap();
    let all = gate([wide.clone().into(), narrow.clone().into(), here.clone().into()]);
    assert_eq!(passing(slice::from_ref(&all), "a", 10).await, 3);
    // What was refused has spent nothing, neither there nor here.
    assert_eq!(passing(&[gate([wide.clone().into()])], "a", 10).await, 2);
    assert_eq!(passing(&[gate([here.clone().into()])], "a", 10).await, 1);
    let refused = answer(&all, "a").await;
    let policy = refused.headers()["ratelimit-policy"].to_str().unwrap();
    assert!(!policy.is_empty());

    // Whom a limit of this process refuses, nobody is asked about.
    let asked = wide.distribution().unwrap().by_redis();
    let first = gate([wide.clone().into(), limit("none", "1/year").build().unwrap().costing(2)]);
    assert!(!passes(&first, "b").await);
    assert_eq!(wide.distribution().unwrap().by_redis(), asked);

    // What can never pass is told so; a limit in shadow refuses nobody; who goes on too fast pays.
    let never = gate([wide.clone().costing(6)]);
    let told = answer(&never, "c").await;
    assert_eq!((told.status(), told.headers().get("retry-after")), (StatusCode::TOO_MANY_REQUESTS, None));
    let shadow = gate([Charge::from(narrow.clone()).in_shadow(true)]);
    assert_eq!(passing(&[shadow], "d", 6).await, 6);
    let penalty = gate([wide.clone().costing(4).spend_on_denial(true)]);
    assert_eq!(passing(&[penalty], "e", 2).await, 1);
    assert!(!passes(&gate([wide.clone().into()]), "e").await, "the second was charged what was left");
    assert!(format!("{:?}", wide.distribution()).contains("by_redis"));
}

#[tokio::test]
async fn no_byte_of_a_stranger_reaches_redis_and_an_identity_is_in_one_slot() {
    let server = Server::start();
    let there = instance(&server);
    let limits = ["a", "b {x} \"y\""]
        .map(|name| limit(name, "5/year").distributed(there.clone()).build().unwrap().into());
    let gate = gate(limits);
    let long = "x".repeat(20_000);
    for account in [&b"TELLTALE"[..], b"}{TELLTALE", b"TELLTALE *3 SET a b", b"\xffTELLTALE", long.as_bytes()]
    {
        assert_eq!(gate.clone().oneshot(of(account)).await.unwrap().status(), StatusCode::OK);
    }
    let keys = server.ask("KEYS *");
    assert!(!keys.contains("TELLTALE") && !keys.contains("xx"), "{keys}");
    let mut tags: Vec<_> =
        keys.lines().filter_map(|key| key.strip_prefix("portcullis:{")?.split('}').next()).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.iter().filter(|tag| tag.len() == 32).count(), 5, "{keys}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_starves_nobody_and_frees_nobody() {
    let server = Server::start();
    let state = |name: &str| {
        let keys = server.ask("KEYS *");
        let key = keys.lines().find(|key| key.contains(&format!("}}:{name}:"))).unwrap().trim().to_owned();
        (server.ask(&format!("GET {key}")).lines().nth(1).unwrap().trim().to_owned(), key)
    };
    let there = instance(&server);
    let bucket = gate([limit("bucket", "2/s").distributed(there.clone()).build().unwrap().into()]);
    let sliding = limit("sliding", "2/s").algorithm(Algorithm::SlidingWindow).distributed(there.clone());
    let sliding = gate([sliding.build().unwrap().into()]);
    for (name, gate, shift) in [("bucket", &bucket, 3_600_000_000_u64), ("sliding", &sliding, 3600)] {
        assert_eq!(passing(slice::from_ref(gate), "a", 2).await, 2);
        // As if it had been written an hour later than now.
        let (value, key) = state(name);
        let (at, rest) = value.split_once(' ').unwrap();
        let later = at.parse::<u64>().unwrap() + shift;
        server.ask(&format!("SET {key} \"{later} {rest}\" PX 100000"));
        until("it comes back", async || passes(gate, "a").await).await;
        let (value, _) = state(name);
        assert!(value.split_once(' ').unwrap().0.parse::<u64>().unwrap() < later, "{value}");
    }
}

#[tokio::test]
async fn a_server_that_forgets_the_script_is_told_it() {
    let server = Server::start();
    let gate = gate([limit("a", "20/year").distributed(instance(&server)).build().unwrap().into()]);
    assert_eq!(passing(slice::from_ref(&gate), "a", 10).await, 10);
    server.ask("SCRIPT FLUSH");
    assert_eq!(passing(&[gate], "a", 20).await, 10);
}

/// A limit with each fallback, on a server that will fail.
fn with_fallbacks(server: &Server) -> ([Gate; 3], DistributionHandle) {
    let redis = Redis::builder(&server.url()).unwrap().build();
    let there = Distribution::on(redis).deadline(Duration::from_millis(100));
    let with = |name: &str, fallback| {
        limit(name, "6/year").distributed(there.clone().fallback(fallback)).build().unwrap()
    };
    let share = with("share", Fallback::LocalShare);
    let handle = share.distribution().unwrap();
    let gates = [with("allow", Fallback::Allow), with("deny", Fallback::Deny), share];
    (gates.map(|limit| gate([limit.into()])), handle)
}

/// Asks until the breaker is open, and then sees what each fallback does. Nobody waits then: nobody is asked.
async fn falls_back([allow, deny, share]: &[Gate; 3], handle: &DistributionHandle, account: &str) {
    until("the breaker is open", async || {
        passes(allow, account).await;
        handle.redis() == State::Open
    })
    .await;
    let errors = handle.errors();
    assert!(passes(allow, account).await);
    let denied = answer(deny, account).await;
    assert_eq!(
        (denied.status(), &denied.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("1"))
    );
    assert_eq!(passing(slice::from_ref(share), account, 10).await, 6, "one instance was seen");
    assert_eq!(handle.errors(), errors);
    assert!(handle.by_fallback() >= 10);
}

async fn returns(gates: &[Gate; 3], handle: &DistributionHandle, account: &str) {
    until("Redis decides again", async || {
        passes(&gates[0], account).await;
        handle.redis() == State::Closed
    })
    .await;
    let before = handle.by_redis();
    passes(&gates[2], account).await;
    assert_eq!(handle.by_redis(), before + 1);
}

#[tokio::test]
async fn a_server_that_fails_is_not_waited_for() {
    let mut server = Server::start();
    let (gates, handle) = with_fallbacks(&server);
    assert!(passes(&gates[2], "first").await);
    until("an instance is seen", async || handle.instances() == 1).await;

    server.signal("STOP");
    falls_back(&gates, &handle, "stopped").await;
    server.signal("CONT");
    returns(&gates, &handle, "continued").await;

    server.ask("CONFIG SET maxmemory 1");
    falls_back(&gates, &handle, "full").await;
    server.ask("CONFIG SET maxmemory 0");
    returns(&gates, &handle, "emptied").await;

    server.ask("CONFIG SET min-replicas-to-write 1");
    falls_back(&gates, &handle, "readonly").await;
    server.ask("CONFIG SET min-replicas-to-write 0");
    returns(&gates, &handle, "writable").await;

    server.ask("REPLICAOF 127.0.0.1 1");
    falls_back(&gates, &handle, "replica").await;
    server.ask("REPLICAOF NO ONE");
    returns(&gates, &handle, "master").await;

    server.kill();
    falls_back(&gates, &handle, "killed").await;
    server.again();
    returns(&gates, &handle, "back").await;
}

#[tokio::test]
async fn who_is_refused_is_not_asked_about_again() {
    let server = Server::start();
    let limit = limit("a", "5/year").distributed(instance(&server)).build().unwrap();
    let gate = gate([limit.clone().into()]);
    assert_eq!(passing(slice::from_ref(&gate), "a", 5).await, 5);
    assert!(!passes(&gate, "a").await);
    let handle = limit.distribution().unwrap();
    let asked = handle.by_redis();
    assert_eq!(passing(slice::from_ref(&gate), "a", 20).await, 0);
    assert_eq!((handle.by_redis(), handle.by_deny_cache()), (asked, 20));
    let refused = answer(&gate, "a").await;
    assert_ne!(refused.headers()["retry-after"], "0");
    assert!(passes(&gate, "b").await);
}

#[tokio::test]
async fn a_refusal_of_redis_undoes_here_what_was_paid_here() {
    let server = Server::start();
    let there = limit("there", "1/year").distributed(instance(&server)).build().unwrap();
    let here = limit("here", "4/year").build().unwrap();
    let penalty = gate([there.clone().into(), Charge::from(here.clone()).spend_on_denial(true)]);
    assert_eq!(passing(&[penalty], "a", 2).await, 1);
    assert_eq!(passing(&[gate([here.into()])], "a", 10).await, 2, "who was refused has paid");

    let here = limit("shadow", "1/year").build().unwrap();
    let shadow = gate([there.clone().into(), Charge::from(here.clone()).in_shadow(true)]);
    assert!(passes(&shadow, "b").await);
    assert!(!passes(&shadow, "b").await);
    assert!(!passes(&gate([here.into()]), "b").await, "who did not pay is given nothing back");
}

#[tokio::test]
async fn a_refusal_here_is_a_penalty_there() {
    let server = Server::start();
    let there = limit("there", "1000/year").distributed(instance(&server)).build().unwrap();
    let none = limit("none", "1/year").build().unwrap().costing(2);
    assert!(!passes(&gate([there.clone().costing(1000).spend_on_denial(true), none]), "a").await);
    let there = gate([there.into()]);
    until("the penalty is paid", async || !passes(&there, "a").await).await;
}

#[tokio::test]
async fn who_goes_away_while_redis_is_asked_spends_nothing() {
    let server = Server::start();
    let there = limit("there", "5/year").distributed(instance(&server)).build().unwrap();
    let here = limit("here", "1/year").build().unwrap();
    let both = gate([there.into(), here.clone().into()]);
    tokio::select! {
        biased;
        _ = answer(&both, "a") => panic!("Redis was not asked"),
        () = std::future::ready(()) => {}
    }
    let here = gate([here.into()]);
    until("what was paid is given back", async || passes(&here, "a").await).await;
}

#[tokio::test]
async fn clients_are_told_of_limits_here_and_there() {
    let server = Server::start();
    let there = limit("there", "5/year").distributed(instance(&server)).build().unwrap();
    let here = limit("here", "4/year").build().unwrap();
    let both = behind(RateLimit::new(there).and(here).fields(Fields::Always));
    let told = answer(&both, "a").await.headers()["ratelimit"].to_str().unwrap().to_owned();
    assert!(told.contains("\"there\";r=4") && told.contains("\"here\";r=3"), "{told}");
}

#[tokio::test]
async fn a_limit_on_redis_is_not_counted_here_in_silence() {
    let server = Server::start();
    let there = limit("there", "5/year").distributed(instance(&server)).build().unwrap();
    let app = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let told = RateLimit::new(there.clone()).sync().unwrap_err().to_string();
    assert_eq!(told, "the limit `there` is kept on Redis, which is asked by `RateLimit::layer`");
    let passed = RateLimit::new(there.clone()).layer().layer(app).oneshot(of(b"a")).await.unwrap();
    assert_eq!((passed.status(), there.distribution().unwrap().by_redis()), (StatusCode::OK, 1));
    let settled = Charge::from(there).settle(Settle::by_outcome(|_| Some(2)));
    assert_eq!(answer(&gate([settled]), "a").await.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// Port 1 answers nobody.
#[tokio::test]
async fn who_has_seen_no_other_instance_knows_how_many_there_are_at_least() {
    let redis = Redis::builder("redis://127.0.0.1:1").unwrap().build();
    let alone = Distribution::on(redis).deadline(PATIENCE).at_least(4.try_into().unwrap());
    let gate = gate([limit("a", "8/year").distributed(alone).build().unwrap().into()]);
    assert_eq!(passing(&[gate], "a", 20).await, 2);
}

/// Eight instances that know of each other.
async fn eight(server: &Server, name: &str, rate: &str, share: Ratio) -> Vec<(Gate, Limit)> {
    let all: Vec<_> = (0..8)
        .map(|_| {
            let limit = limit(name, rate).distributed(instance(server).lease(share)).build().unwrap();
            (gate([limit.clone().into()]), limit)
        })
        .collect();
    for (gate, _) in &all {
        passes(gate, "first").await;
    }
    for (at, (gate, limit)) in all.iter().enumerate() {
        let handle = limit.distribution().unwrap();
        until("leases are taken", async || {
            passes(gate, &format!("warm-{name}-{at}")).await;
            handle.instances() == 8 && handle.by_lease() > 0
        })
        .await;
    }
    all
}

/// Which instance a request comes to.
fn target(load: &str, at: usize) -> usize {
    match load {
        "even" => at % 8,
        // One instance has most of it.
        "skewed" => {
            if at % 10 < 7 {
                0
            } else {
                at % 8
            }
        }
        // One after the other has all of it for a while.
        _ => at / 100 % 8,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_exceed_a_limit_by_a_twentieth_at_most() {
    let server = Server::start();
    for load in ["even", "skewed", "bursty"] {
        // What refills in an hour hardly matters, so that all that passes is what an account holds.
        let all = eight(&server, load, "1000/h", Ratio::percent(5)).await;
        let sum = |of: fn(&DistributionHandle) -> u64| {
            all.iter().map(|(_, limit)| of(&limit.distribution().unwrap())).sum::<u64>()
        };
        let (asked, leased) = (sum(DistributionHandle::by_redis), sum(DistributionHandle::by_lease));
        let (mut admitted, began) = (0, Instant::now());
        for at in 0..3000 {
            admitted += usize::from(passes(&all[target(load, at)].0, "a").await);
        }
        let most = 1000.0 + began.elapsed().as_secs_f64() * 1000.0 / 3600.0;
        assert!((admitted as f64) <= most * 1.05, "{load}: {admitted}");
        assert!(admitted >= 950, "{load}: {admitted}");
        let (asked, leased) =
            (sum(DistributionHandle::by_redis) - asked, sum(DistributionHandle::by_lease) - leased);
        println!("{load}: {admitted} of 1000 admitted, {leased} by lease, {asked} asked");
        assert!(leased > 100, "{load}: {leased} by lease, {asked} asked");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_a_fast_limit_stay_within_it() {
    let server = Server::start();
    for (load, algorithm) in [
        ("even", Algorithm::TokenBucket),
        ("skewed", Algorithm::SlidingWindow),
        ("bursty", Algorithm::CALENDAR),
    ] {
        let name = format!("fast-{load}");
        let all: Vec<_> = (0..8)
            .map(|_| {
                let there = instance(&server).lease(Ratio::percent(5));
                let limit = limit(&name, "500/s").algorithm(algorithm).distributed(there).build().unwrap();
                (gate([limit.clone().into()]), limit)
            })
            .collect();
        for (at, (gate, limit)) in all.iter().enumerate() {
            let handle = limit.distribution().unwrap();
            until("leases are taken", async || {
                passes(gate, &format!("warm-{at}")).await;
                handle.by_lease() > 0
            })
            .await;
        }
        let (admitted, began) = (AtomicU64::new(0), Instant::now());
        let mut at = 0;
        while began.elapsed() < Duration::from_secs(3) {
            let passing = passes(&all[target(load, at)].0, "a").await;
            admitted.fetch_add(passing.into(), Relaxed);
            at += 1;
            if at % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
        // A bucket that is full at first; of windows as many as were touched.
        let seconds = began.elapsed().as_secs_f64();
        let windows = if algorithm == Algorithm::TokenBucket { 1.0 + seconds } else { seconds.ceil() + 1.0 };
        let admitted = admitted.into_inner();
        println!("{load}: {admitted} of {} admitted, {at} asked for", windows * 500.0);
        assert!((admitted as f64) <= windows * 500.0 * 1.05, "{load}: {admitted} in {seconds}");
    }
}

#[tokio::test]
async fn what_was_taken_ahead_is_given_back() {
    let server = Server::start();
    let all = eight(&server, "idle", "1000/h", Ratio::percent(5)).await;
    for _ in 0..20 {
        assert!(passes(&all[0].0, "a").await);
    }
    let handle = all[0].1.distribution().unwrap();
    until("it is idle", async || handle.known() == 0).await;
    let exact = limit("idle", "1000/h").distributed(instance(&server)).build().unwrap();
    let told = answer(&behind(RateLimit::new(exact).fields(Fields::Always)), "a").await;
    let left = told.headers()["ratelimit"].to_str().unwrap().to_owned();
    let left: u32 = left.split(";r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    // 20 were spent before, and one now; some came back since.
    assert!((979..1000).contains(&left), "{left}");
}

#[tokio::test]
async fn sentinels_fail_over_and_the_limit_goes_on() {
    let mut trio = tokio::task::spawn_blocking(Trio::start).await.unwrap();
    let urls = trio.urls();
    let redis = Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap().build();
    let there = Distribution::on(redis).deadline(Duration::from_millis(300)).fallback(Fallback::Deny);
    let limit = limit("a", "20/year").distributed(there).build().unwrap();
    let gate = gate([limit.clone().into()]);
    until("the master is found", async || answer(&gate, "a").await.status() == StatusCode::OK).await;
    assert_eq!(passing(slice::from_ref(&gate), "b", 10).await, 10);
    until("the replica has it", async || trio.replica.ask("KEYS *").matches("portcullis:{").count() >= 2)
        .await;
    trio.master.kill();
    let refused = answer(&gate, "b").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    until("the replica is the master", async || answer(&gate, "c").await.status() == StatusCode::OK).await;
    assert!(passing(&[gate], "b", 20).await <= 10, "it has kept what was spent");
}

#[tokio::test]
async fn a_cluster_decides_limits_of_several_slots_at_once() {
    let nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    let urls = nodes.urls();
    let there = || {
        Distribution::on(Redis::cluster(urls.iter().map(String::as_str)).unwrap().build()).deadline(PATIENCE)
    };
    let gates: Vec<_> = (0..2)
        .map(|_| {
            let there = there();
            let by = |name: &str, rate: &str, key: Key| {
                Charge::from(limit(name, rate).by(key).distributed(there.clone()).build().unwrap())
            };
            let tenant = Key::Header(HeaderName::from_static("x-tenant"));
            let all = [
                by("account", "20/year", Key::Header(ACCOUNT)),
                by("account-too", "30/year", Key::Header(ACCOUNT)),
                by("tenant", "40/year", Key::tuple([tenant, Key::Header(ACCOUNT)])),
                by("all", "50/year", Key::tuple([])),
            ];
            (gate(all.clone()), gate([all[3].clone()]))
        })
        .collect();
    let lists: Vec<_> = gates.iter().map(|(list, _)| list.clone()).collect();
    let mut admitted = 0;
    for account in ["a", "b", "c"] {
        let mut of_this = 0;
        // One after the other: who comes while something is given back may be refused.
        for at in 0..30 {
            of_this += usize::from(passes(&lists[at % 2], account).await);
            sleep(Duration::from_millis(2)).await;
        }
        assert!(of_this <= 20, "{account}: {of_this}");
        admitted += of_this;
    }
    assert_eq!(admitted, 50, "20 and 20 of accounts, and what was left for all");
    assert!(!passes(&gates[0].1, "d").await);
}

#[test]
fn what_cannot_be_kept_there_is_told() {
    let there = Distribution::on(Redis::builder("redis://127.0.0.1:1").unwrap().build());
    let leaky = Algorithm::LeakyBucket { max_wait: Duration::from_secs(1) };
    let leaky = limit("a", "1/s").algorithm(leaky).distributed(there.clone()).build().unwrap_err();
    assert_eq!(leaky, LimitError::Distribution);
    let shown = format!("{there:?}");
    assert!(shown.contains("LocalShare") && shown.contains("127.0.0.1"), "{shown}");
    assert_eq!((there.clone(), there.instances()), (there, 0));
}

fn with_limit(server: &Server, upstream: SocketAddr, more: &str) -> String {
    file(&format!(
        "redis: {{ shared: {{ url: {:?} }} }}\n\
         rateLimits:\n  per-account: {{ key: {{ header: x-account }}, rate: 20/year, redis: shared{more} }}\n\
         upstreams: {{ one: {{ endpoints: [{upstream}] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [per-account] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
        server.url(),
    ))
}

async fn admitted(gateways: &[Gateway], account: &str, requests: usize) -> usize {
    let mut admitted = 0;
    for at in 0..requests {
        let status = gateways[at % gateways.len()].get("/", &[("x-account", account)]).await.status;
        assert!(matches!(status, 200 | 429), "{status}");
        admitted += usize::from(status == 200);
    }
    admitted
}

#[tokio::test]
async fn two_gateways_on_one_server_hold_one_limit() {
    let server = Server::start();
    let upstream = upstream("one").await;
    let directories = [Directory::new("limits-here"), Directory::new("limits-there")];
    let mut gateways = Vec::new();
    for directory in &directories {
        directory.write("gateway.yaml", &with_limit(&server, upstream, ", deadline: 20s"));
        gateways.push(Gateway::start(Config::file(directory.path("gateway.yaml"))).await);
    }
    assert_eq!(admitted(&gateways, "a", 50).await, 20);
    let text = with_limit(&server, upstream, ", deadline: 20s").replace("name: r,", "name: other,");
    directories[0].write("gateway.yaml", &text);
    gateways[0].until(|status| status["generation"] == 2).await;
    assert_eq!(admitted(&gateways, "a", 4).await, 0, "a reload is no new limit");
    assert_eq!(admitted(&gateways, "b", 50).await, 20);
}

/// A paused server is seen in the metrics and not by users.
#[tokio::test]
async fn a_paused_server_is_seen_in_the_metrics_only() {
    let server = Server::start();
    let upstream = upstream("one").await;
    let directory = Directory::new("limits-paused");
    directory.write("gateway.yaml", &with_limit(&server, upstream, ", fallback: allow, deadline: 100ms"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[("x-account", "a")]).await.status, 200);
    let metrics = async || gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    let is_open = async |open: u8| {
        metrics()
            .await
            .contains(&format!("portcullis_rate_limit_redis_open{{limit=\"per-account\"}} {open}\n"))
    };
    assert!(is_open(0).await, "{}", metrics().await);
    server.signal("STOP");
    until("it is seen", async || {
        assert_eq!(gateway.get("/", &[("x-account", "b")]).await.status, 200);
        is_open(1).await
    })
    .await;
    for _ in 0..100 {
        assert_eq!(gateway.get("/", &[("x-account", "b")]).await.status, 200);
    }
    let told = metrics().await;
    assert!(
        told.contains("portcullis_rate_limit_decisions_total{limit=\"per-account\",source=\"fallback\"}"),
        "{told}"
    );
    assert!(told.contains("portcullis_rate_limit_redis_errors_total{limit=\"per-account\"}"), "{told}");
    server.signal("CONT");
    until("it is asked again", async || {
        gateway.get("/", &[("x-account", "c")]).await;
        is_open(0).await
    })
    .await;
}

#[test]
fn what_a_file_says_wrongly_of_redis_is_told() {
    let faults = |servers: &str, limit: &str| {
        let text = file(&format!(
            "redis: {{ shared: {{ {servers} }} }}\n\
             rateLimits: {{ a: {{ key: clientIp, rate: 10/s, {limit} }} }}\n"
        ));
        let faults: Vec<_> =
            Config::text("f", text.as_str()).check().faults().iter().map(ToString::to_string).collect();
        faults.join("\n")
    };
    let url = "url: \"redis://127.0.0.1\"";
    for (servers, limit, said) in [
        (url, "redis: other", "redis"),
        (url, "fallback: deny", "only limits on `redis` have it"),
        (url, "lease: 5%", "only limits on `redis` have it"),
        (url, "redis: shared, lease: 6%", "more than 5%"),
        (url, "redis: shared, lease: -1%", "expected a share"),
        (url, "redis: shared, deadline: 0s", "nothing is decided in no time"),
        (url, "redis: shared, deadline: 61s", "at most a minute"),
        (url, "redis: shared, algorithm: leakyBucket", "they wait in one process"),
        (url, "redis: shared, settle: { header: x-cost, max: 5 }", "charged when the request comes"),
        ("url: \"redis://a\", cluster: [\"redis://b\"]", "redis: shared", "expected exactly one of"),
        ("namespace: x", "redis: shared", "expected exactly one of"),
        ("cluster: []", "redis: shared", "expected addresses that agree"),
        ("cluster: [\"redis://a/1\"]", "redis: shared", "no other database"),
        (
            "sentinel: { master: m, sentinels: [\"redis://a\", \"rediss://b\"] }",
            "redis: shared",
            "expected addresses",
        ),
    ] {
        let told = faults(servers, limit);
        assert!(told.contains(said), "{servers} {limit}: {told}");
    }
    let fine = faults(
        "sentinel: { master: m, sentinels: [\"redis://a\"] }",
        "redis: shared, lease: 5%, fallback: deny",
    );
    assert!(!fine.contains("redis") && !fine.contains("rateLimits"), "{fine}");
}

#[tokio::test]
async fn the_file_of_the_guide_works() {
    let server = Server::start();
    let guide = include_str!("../../../docs/guides/distributed_limits.md");
    let text = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let text = text
        .replace("redis://127.0.0.1:6379", &server.url())
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9001", &upstream("one").await.to_string())
        .replace("100/min, redis: shared }", "100/d, redis: shared, deadline: 20s }");
    let gateway = Gateway::of(&text).await;
    let mut admitted = 0;
    for _ in 0..150 {
        admitted += usize::from(gateway.get("/", &[("x-customer", "acme")]).await.status == 200);
    }
    assert_eq!(admitted, 100);
}
