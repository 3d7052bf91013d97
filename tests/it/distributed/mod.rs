//! Limits on real Redis servers, as several instances of a gateway keep them together.
#![cfg(feature = "config")]

mod acl;
mod cluster;
mod correct;
mod in_time;
mod leases;
mod outage;
mod quotas;
mod refusals;
mod scaling;
mod script;
mod secured;
mod shaped;
mod together;

use std::{cell::Cell, convert::Infallible, net::SocketAddr, slice, time::Duration};

use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use portcullis::{
    admission::{
        Fields,
        rate_limit::{
            Account, Algorithm, Charge, Distribution, DistributionHandle, Fallback, Limit, LimitBuilder,
            LimitError, RateLimit, Standing,
        },
    },
    config::Config,
    key::Key,
    redis::Redis,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    gateway::world::{Directory, Gateway, PATIENCE, file, upstream, yaml_of},
    support::redis::{Nodes, Program, Server, Trio},
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
    BoxCloneSyncService::new(limits.layer().layer(app).map_response(|response| response.map(drop)))
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

/// The key of the account that is kept there.
fn account(server: &Server) -> Option<String> {
    let keys = server.ask("KEYS *:limits.*");
    keys.lines().find(|line| line.contains("}:limits.")).map(|key| key.trim().to_owned())
}

/// Where an account stands on Redis.
async fn standing(handle: &DistributionHandle, account: &str) -> Standing {
    let mut account = Account::new().header(ACCOUNT, HeaderValue::from_str(account).unwrap());
    let standing = handle.peek(&mut account.head());
    standing.await.unwrap()
}

async fn remaining(handle: &DistributionHandle, account: &str) -> u32 {
    standing(handle, account).await.remaining
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
    for server in Server::each() {
        hold_a_limit(&server).await;
    }
}

async fn hold_a_limit(server: &Server) {
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
                    .distributed(instance(server))
                    .build()
                    .unwrap()
                    .into()])
            })
            .collect();
        assert_eq!(passing(&gates, "a", 60).await, 20, "{name}");
        assert_eq!(passing(&gates, "b", 30).await, 20, "{name}: accounts are apart");
        let refused = answer(&gates[0], "a").await;
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
    assert_eq!(keys.matches(":limits.").count(), 5, "one key for all limits of each: {keys}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_starves_nobody_and_frees_nobody() {
    let server = Server::start();
    let state = || {
        let key = account(&server).expect("there is one");
        (server.value(&key), key)
    };
    // After its name, and the time until which its key lasts.
    let written = |value: &[u8]| f64::from_le_bytes(value[16..24].try_into().unwrap()) as u64;
    // An hour, in microseconds and in windows.
    for (name, algorithm, hour, longest) in [
        ("bucket", Algorithm::TokenBucket, 3_600_000_000_u64, 180),
        ("sliding", Algorithm::SlidingWindow, 1, 7200),
        ("fixed", Algorithm::CALENDAR, 3_600_000_000, 7200),
    ] {
        let limit =
            || limit(name, "20/h").algorithm(algorithm).distributed(instance(&server)).build().unwrap();
        assert!(passing(&[gate([limit().into()])], "a", 30).await >= 20, "{name}");
        // As if it had been written an hour later than now.
        let (mut value, key) = state();
        let later = written(&value) + hour;
        value[16..24].copy_from_slice(&(later as f64).to_le_bytes());
        server.set_value(&key, &value);
        // By one who has not heard that it is refused.
        let refused = answer(&gate([limit().into()]), "a").await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{name}: it is as used up as it was");
        let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=longest).contains(&wait), "{name}: nobody waits for the clock: {wait}");
        if algorithm != Algorithm::CALENDAR {
            let (value, _) = state();
            assert!(written(&value) < later, "{name}: {value:?}");
        }
        server.ask("FLUSHDB");
    }
}

/// Tens of thousands of keys, each of which is new, through one connection: each is counted, and counted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tens_of_thousands_of_keys_are_counted_exactly() {
    const KEYS: usize = 20_000;
    let server = Server::start();
    let limit = limit("one", "1/year").distributed(instance(&server)).build().unwrap();
    let gate = gate([limit.clone().into()]);
    let before = server.told("total_connections_received");
    let began = Instant::now();
    for expected in [KEYS, 0] {
        let workers = (0..64).map(|worker| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let mut passing = 0;
                for key in (worker..KEYS).step_by(64) {
                    passing += usize::from(passes(&gate, &format!("key-{key}")).await);
                }
                passing
            })
        });
        let mut passing = 0;
        for worker in workers.collect::<Vec<_>>() {
            passing += worker.await.unwrap();
        }
        assert_eq!(passing, expected);
    }
    let second = KEYS as f64 * 2.0 / began.elapsed().as_secs_f64();
    println!("{second:.0} keys a second");
    // Nobody was known to be refused.
    assert_eq!(limit.distribution().unwrap().by_redis(), 2 * KEYS as u64);
    // The one, those that look, and another if it was ever late: not one for each.
    let connections = server.told("total_connections_received") - before;
    assert!(connections < 20, "{connections}");
}

/// All limits that count by one thing are under one key, and each is its own: which a list names, in which order and with
/// which others, of which instance, and who is made whole, is nothing to the others.
#[tokio::test]
async fn limits_of_one_key_are_apart() {
    for server in Server::each() {
        let of = |name: &str, there: &Distribution| {
            limit(name, "20/year").distributed(there.clone()).build().unwrap()
        };
        let (here, there) = (instance(&server), instance(&server));
        let [a, b, c] = ["a", "b", "c"].map(|name| of(name, &here));
        let lists = [vec![&a, &b, &c], vec![&c, &a], vec![&b]];
        let lists = lists.map(|list| gate(list.into_iter().cloned().map(Charge::from)));
        let [all, two, one] = [&lists[0], &lists[1], &lists[2]].map(slice::from_ref);
        assert_eq!(passing(two, "x", 3).await, 3);
        assert_eq!(passing(all, "x", 4).await, 4);
        assert_eq!(passing(one, "x", 5).await, 5);
        // Another instance knows them in another order, one of them not, and one that nobody else knows.
        let [b2, d, a2] = ["b", "d", "a"].map(|name| of(name, &there));
        assert_eq!(passing(&[gate([b2.into(), d.clone().into(), a2.into()])], "x", 6).await, 6);
        let handles = [&a, &b, &c, &d].map(|limit| limit.distribution().unwrap());
        let left = async || join_all(handles.iter().map(|handle| remaining(handle, "x"))).await;
        assert_eq!(left().await, [20 - 3 - 4 - 6, 20 - 4 - 5 - 6, 20 - 3 - 4, 20 - 6]);
        assert_eq!(passing(all, "x", 30).await, 5, "all or none");
        assert_eq!(left().await, [2, 0, 8, 14]);

        let mut x = Account::new().header(ACCOUNT, "x".parse().unwrap());
        assert!(handles[1].reset(&mut x.head()).await.unwrap());
        assert!(!handles[1].reset(&mut x.head()).await.unwrap(), "it is whole");
        assert_eq!(left().await, [2, 20, 8, 14], "of the others nothing is forgotten");
        assert_eq!(passing(all, "x", 30).await, 2);
        assert_eq!(left().await, [0, 18, 6, 14]);
        assert_eq!(server.ask("KEYS *:limits.*").matches("}:limits.").count(), 1);
    }
}

/// Limits of one list that count by several things: what counts by the same is decided together, wherever in the list it is.
#[tokio::test]
async fn keys_of_one_list_may_be_mixed() {
    let server = Server::start();
    let there = instance(&server);
    let of = |name: &str, rate: &str, key: Key| {
        let limit = Limit::builder(name, rate.parse().unwrap()).by(key);
        limit.distributed(there.clone()).build().unwrap()
    };
    let all = || Key::tuple([]);
    let limits = [
        of("a", "9/year", Key::Header(ACCOUNT)),
        of("b", "12/year", all()),
        of("c", "7/year", Key::Header(ACCOUNT)),
        of("d", "100/year", all()),
    ];
    let handles = limits.each_ref().map(|limit| limit.distribution().unwrap());
    let one = gate(limits.map(Charge::from));
    assert_eq!(passing(slice::from_ref(&one), "x", 20).await, 7);
    assert_eq!(passing(slice::from_ref(&one), "y", 20).await, 5);
    let mut left = Vec::new();
    for handle in &handles {
        left.push([remaining(handle, "x").await, remaining(handle, "y").await]);
    }
    assert_eq!(left, [[2, 4], [0, 0], [0, 2], [88, 88]]);
    // One of each account, and one of each limit of everybody.
    assert_eq!(server.ask("KEYS *:limits.*").matches("}:limits.").count(), 2 + 2);
}

/// A replica that becomes the master has not heard the last: as much passes again, and nobody is locked out.
#[tokio::test]
async fn a_master_that_has_not_heard_the_last_lets_as_much_pass_again() {
    let server = Server::start();
    let limit = limit("a", "20/year").distributed(instance(&server)).build().unwrap();
    let gates = [gate([limit.clone().into()])];
    assert_eq!(passing(&gates, "a", 5).await, 5);
    let key = account(&server).expect("there is one");
    let heard = server.value(&key);
    assert_eq!(passing(&gates, "a", 10).await, 10);
    // What it knows is from then, and it knows no script.
    server.set_value(&key, &heard);
    server.ask("SCRIPT FLUSH");
    assert_eq!(passing(&gates, "a", 30).await, 15, "10 of them for the second time");
}

#[tokio::test]
async fn a_server_that_forgets_the_script_is_told_it() {
    let server = Server::start();
    let gate = gate([limit("a", "20/year").distributed(instance(&server)).build().unwrap().into()]);
    assert_eq!(passing(slice::from_ref(&gate), "a", 10).await, 10);
    server.ask("SCRIPT FLUSH");
    assert_eq!(passing(&[gate], "a", 20).await, 10);
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
}

/// Port 1 answers nobody.
#[tokio::test]
async fn who_has_seen_no_other_instance_knows_how_many_there_are_at_least() {
    let redis = Redis::builder("redis://127.0.0.1:1").unwrap().build();
    let alone = Distribution::on(redis).deadline(PATIENCE).at_least(4.try_into().unwrap());
    let gate = gate([limit("a", "8/year").distributed(alone).build().unwrap().into()]);
    assert_eq!(passing(&[gate], "a", 20).await, 2);

    // As a file says it.
    let text = file(&format!(
        "redis: {{ gone: {{ url: 'redis://127.0.0.1:1' }} }}\n\
         rateLimits: {{ a: {{ key: clientIp, rate: 8/year, redis: gone, instances: 4 }} }}\n\
         upstreams: {{ one: {{ endpoints: [{}] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [a] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
        upstream("one").await
    ));
    assert_eq!(admitted(&[Gateway::of(&text).await], "a", 20).await, 2);
}

#[tokio::test]
async fn sentinels_fail_over_and_the_limit_goes_on() {
    for program in Program::each() {
        fail_over(tokio::task::spawn_blocking(|| Trio::of(program)).await.unwrap()).await;
    }
}

async fn fail_over(mut trio: Trio) {
    let urls = trio.urls();
    let redis = Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap().build();
    // One that waits for as long as a busy machine needs, and one that does not: of the same accounts.
    let [patient, hasty] = [PATIENCE, Duration::from_millis(300)].map(|deadline| {
        let there = Distribution::on(redis.clone()).deadline(deadline).fallback(Fallback::Deny);
        gate([limit("a", "20/year").distributed(there).build().unwrap().into()])
    });
    until("the master is found", async || answer(&patient, "a").await.status() == StatusCode::OK).await;
    assert_eq!(passing(slice::from_ref(&patient), "b", 10).await, 10);
    let written = trio.master.told("master_repl_offset");
    until("the replica has it", async || trio.replica.told("slave_repl_offset") >= written).await;
    trio.master.kill();
    // Of another account: it may be charged when nobody waits for it any more.
    let refused = answer(&hasty, "d").await.status();
    let has_failed_over = || trio.replica.ask("ROLE").contains("master");
    assert!(refused == StatusCode::SERVICE_UNAVAILABLE || has_failed_over(), "{refused}");
    until("the replica is the master", async || answer(&hasty, "c").await.status() == StatusCode::OK).await;
    assert!(has_failed_over());
    // Sentinels may close connections yet: whoever was on its way then has no answer, and may have been charged.
    let (passed, lost) = (Cell::new(0), Cell::new(0));
    until("it is used up", async || {
        let status = answer(&patient, "b").await.status();
        match status {
            StatusCode::OK => passed.set(passed.get() + 1),
            StatusCode::SERVICE_UNAVAILABLE => lost.set(lost.get() + 1),
            _ => {}
        }
        status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    let (passed, lost) = (passed.get(), lost.get());
    assert!(passed <= 10, "it has kept what was spent: {passed}");
    assert!(passed >= 8 && passed + lost >= 10, "nobody is locked out: {passed}, and {lost} unanswered");
}

#[tokio::test]
async fn a_cluster_decides_limits_of_several_slots_at_once() {
    for program in Program::each() {
        decide_in_several_slots(tokio::task::spawn_blocking(move || Nodes::of(&program)).await.unwrap())
            .await;
    }
}

async fn decide_in_several_slots(nodes: Nodes) {
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

/// A slot that is on its way to a node of which nobody tells: whoever asks for it is sent there, each over the same
/// connection.
#[tokio::test]
async fn a_node_that_nobody_tells_of_is_connected_to_once() {
    let nodes = tokio::task::spawn_blocking(Nodes::start).await.unwrap();
    let new = tokio::task::spawn_blocking(Server::node).await.unwrap();
    let urls = nodes.urls();
    let redis = Redis::cluster(urls.iter().map(String::as_str)).unwrap().build();
    let there = Distribution::on(redis).deadline(PATIENCE);
    let all = limit("all", "100/year").by(Key::tuple([])).distributed(there).build().unwrap();
    let gate = gate([all.clone().into()]);
    assert!(passes(&gate, "a").await);

    let known =
        |server: &Server| server.ask("CLUSTER NODES").matches(&format!(":{}@", new.address.port())).count();
    new.ask(&format!("CLUSTER MEET 127.0.0.1 {}", nodes.0[0].address.port()));
    until("the new one is known", async || nodes.0[..3].iter().all(|node| known(node) > 0)).await;
    let from = nodes.master_of("}:limits.");
    let key = account(&nodes.0[from]).expect("there is one");
    until("it can take a slot", async || new.ask("CLUSTER INFO").contains("cluster_state:ok")).await;
    nodes.begin_to_move(&key, from, &new);
    nodes.0[from].ask(&format!("DEL {key}"));

    let before = new.told("total_connections_received");
    assert_eq!(
        passing(slice::from_ref(&gate), "a", 130).await,
        100,
        "it counts there, from a whole account on"
    );
    assert!(account(&new).is_some());
    // That of the gate, and the two that look.
    let connections = new.told("total_connections_received") - before;
    assert!(connections <= 4, "{connections}");
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

/// A paused server is seen in the metrics and not by users, however many come at once: what one instance has alone is far
/// more than they ask for.
#[tokio::test]
async fn a_paused_server_is_seen_in_the_metrics_only() {
    const CLIENTS: u64 = 64;
    let server = Server::start();
    let upstream = upstream("one").await;
    let directory = Directory::new("limits-paused");
    let text = with_limit(&server, upstream, ", deadline: 100ms").replace("20/year", "1000000/year");
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[("x-account", "a")]).await.status, 200);
    let metric = async |name: &str| -> u64 {
        let told = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        let start = format!("portcullis_rate_limit_{name} ");
        let line = told.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start} in {told}")).parse().unwrap()
    };
    let is_open = async || metric("redis_open{limit=\"per-account\"}").await == 1;
    let errors = async || metric("redis_errors_total{limit=\"per-account\"}").await;
    // All of them, again and again until it is so.
    let load = async |is_so: &dyn Fn(u64) -> bool| {
        let clients = (0..CLIENTS).map(async |_| {
            for round in 0.. {
                assert_eq!(gateway.get("/", &[("x-account", "b")]).await.status, 200);
                if is_so(round) {
                    return;
                }
            }
        });
        join_all(clients).await;
    };
    assert!(!is_open().await);
    server.signal("STOP");
    let seen = Cell::new(false);
    let late = Instant::now() + PATIENCE;
    let is_seen = |_| seen.get() || Instant::now() > late;
    tokio::join!(load(&is_seen), async {
        until("it is seen", async || is_open().await).await;
        seen.set(true);
    });
    // Each was kept waiting once, by an answer that did not come, and at most once again by one that was there before.
    let told = errors().await;
    assert!((5..=2 * CLIENTS).contains(&told), "{told}");
    load(&|round| round == 20).await;
    assert_eq!(errors().await, told, "nobody waits any more");
    let by_fallback = metric("decisions_total{limit=\"per-account\",source=\"fallback\"}").await;
    assert!(by_fallback >= told + 20 * CLIENTS, "{by_fallback}");
    server.signal("CONT");
    until("it is asked again", async || {
        gateway.get("/", &[("x-account", "c")]).await;
        !is_open().await
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
        (url, "instances: 4", "only limits on `redis` have it"),
        (url, "redis: shared, instances: 0", "expected a number"),
        (url, "redis: shared, fallback: allow, instances: 4", "only the fallback `localShare`"),
        (url, "redis: shared, lease: 6%", "more than 5%"),
        (url, "redis: shared, lease: -1%", "expected a share"),
        (url, "redis: shared, deadline: 0s", "nothing is decided in no time"),
        (url, "redis: shared, deadline: 61s", "at most a minute"),
        (url, "redis: shared, algorithm: leakyBucket", "they wait in one process"),
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
        "redis: shared, lease: 5%, instances: 4, settle: { header: x-cost, max: 5 }, maxDebt: 100",
    );
    assert!(!fine.contains("redis") && !fine.contains("rateLimits"), "{fine}");
}

#[tokio::test]
async fn the_file_of_the_guide_works() {
    let server = Server::start();
    let guide = include_str!("../../../docs/guides/distributed_limits.md");
    let text = yaml_of(guide)[0];
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

/// A reload, or a rollout of one instance after the other, gives nobody another account.
#[tokio::test]
async fn what_was_spent_outlives_other_terms() {
    for server in Server::each() {
        for (name, algorithm, before, after, left) in [
            ("faster", Algorithm::TokenBucket, "20/year", "40/year", 25),
            ("slower", Algorithm::TokenBucket, "20/year", "19/year", 4),
            ("sliding", Algorithm::SlidingWindow, "20/year", "21/year", 6),
            ("fixed", Algorithm::CALENDAR, "20/300d", "21/300d", 6),
            ("month", Algorithm::CALENDAR, "20/year", "21/year", 6),
        ] {
            let define =
                |rate| limit(name, rate).algorithm(algorithm).distributed(instance(&server)).build().unwrap();
            let (old, new) = (define(before), define(after));
            assert_eq!(passing(&[gate([old.clone().into()])], "a", 15).await, 15, "{name}");
            let new = new.distribution().unwrap();
            assert_eq!(remaining(&new, "a").await, left, "{name}");
            assert_eq!(remaining(&old.distribution().unwrap(), "a").await, 5, "{name}: nothing was spent");
        }
    }
}
