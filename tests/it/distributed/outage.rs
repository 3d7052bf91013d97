//! A Redis that does not serve: what it costs, what is asked of it, and when all is as before.

use std::{
    slice,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode};
use portcullis::{
    admission::{
        quota::{Quota, QuotaFallback, QuotaStore},
        rate_limit::{Algorithm, Distribution, DistributionHandle, Fallback},
    },
    redis::Redis,
    trip::State,
};
use tokio::time::{Instant, sleep};
use tower::ServiceExt;

use super::{Gate, answer, gate, limit, of, passes, passing, quotas, remaining, until};
use crate::{
    gateway::world::PATIENCE,
    support::redis::{Server, Slow, Trio},
};

const DEADLINE: Duration = Duration::from_millis(100);

/// A limit with each fallback, and a quota with each, on a server that will fail.
struct Limits {
    gates: [Gate; 3],
    handle: DistributionHandle,
    quotas: [(Quota, Gate); 2],
}

impl Limits {
    fn on(redis: Redis) -> Self {
        let there = Distribution::on(redis.clone()).deadline(DEADLINE);
        let with = |name: &str, fallback| {
            limit(name, "6/year").distributed(there.clone().fallback(fallback)).build().unwrap()
        };
        let share = with("share", Fallback::LocalShare);
        let handle = share.distribution().unwrap();
        let gates = [with("allow", Fallback::Allow), with("deny", Fallback::Deny), share];
        let store = QuotaStore::redis(redis).deadline(DEADLINE);
        let quotas =
            [("allow", QuotaFallback::Allow), ("deny", QuotaFallback::Deny)].map(|(name, fallback)| {
                let quota = quotas::quota(name, store.clone().fallback(fallback));
                (quota.clone(), quotas::gate([quota]))
            });
        Self { gates: gates.map(|limit| gate([limit.into()])), handle, quotas }
    }

    async fn serve(&self) {
        until("an instance is seen, and all is well", async || {
            passes(&self.gates[0], "first").await;
            self.handle.instances() == 1 && self.handle.redis() == State::Closed
        })
        .await;
    }

    /// Asks until the breaker is open, and then sees what each fallback does. Nobody waits then: nobody is asked.
    async fn fall_back(&self, account: &str) {
        let [allow, deny, share] = &self.gates;
        // Each has an account of its own: whom Redis lets pass it has to write.
        let accounts = AtomicU32::new(0);
        until("the breaker is open", async || {
            let many = (0..10).map(|_| {
                let new = format!("{account}-{}", accounts.fetch_add(1, Relaxed));
                let allow = allow.clone();
                tokio::spawn(async move { passes(&allow, &new).await })
            });
            for one in many.collect::<Vec<_>>() {
                one.await.unwrap();
            }
            self.handle.redis() == State::Open
        })
        .await;
        let (errors, waited) = (self.handle.errors(), self.handle.waited());
        assert!(passes(allow, account).await);
        let denied = answer(deny, account).await;
        assert_eq!(
            (denied.status(), &denied.headers()["retry-after"]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from_static("1"))
        );
        assert_eq!(passing(slice::from_ref(share), account, 10).await, 6, "one instance was seen");
        assert_eq!(passing(slice::from_ref(allow), account, 500).await, 500);
        assert_eq!((self.handle.errors(), self.handle.waited()), (errors, waited), "nobody has waited");
        assert!(self.handle.by_fallback() >= 10);
        let [(counted, allow), (kept, deny)] = &self.quotas;
        let before = (counted.handle().uncounted(), kept.handle().uncounted());
        assert_eq!(answer(allow, account).await.status(), StatusCode::OK);
        assert_eq!(answer(deny, account).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((counted.handle().uncounted(), kept.handle().uncounted()), (before.0 + 1, before.1));
    }

    /// Nobody comes, and all is as before: it was found out beside.
    async fn return_by_itself(&self, account: &str) {
        until("Redis decides again", async || self.handle.redis() == State::Closed).await;
        until("Redis decides", async || {
            let before = self.handle.by_redis();
            passes(&self.gates[2], account).await;
            self.handle.by_redis() == before + 1
        })
        .await;
        for (quota, gate) in &self.quotas {
            let before = quota.handle().spent();
            until("quotas are paid", async || {
                answer(gate, account).await;
                quota.handle().spent() > before
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_server_that_fails_is_not_waited_for() {
    for server in Server::each() {
        fail_in_every_way(server).await;
    }
}

async fn fail_in_every_way(mut server: Server) {
    let limits = Limits::on(Redis::builder(&server.url()).unwrap().build());
    limits.serve().await;

    server.signal("STOP");
    limits.fall_back("stopped").await;
    server.signal("CONT");
    limits.return_by_itself("continued").await;

    for (fault, ill, well) in [
        ("full", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("readonly", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("replica", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        // What a script may not do is told by another code than what a user may not.
        ("script", "ACL SETUSER default -psetex -incrby", "ACL SETUSER default +@all"),
        ("user", "ACL SETUSER default -evalsha", "ACL SETUSER default +@all"),
        (
            "password",
            "CONFIG SET requirepass hush\r\nCLIENT KILL TYPE normal",
            "AUTH hush\r\nCONFIG SET requirepass \"\"",
        ),
    ] {
        let told = server.ask(ill);
        assert!(told.starts_with("+OK"), "{fault}: {told}");
        limits.fall_back(fault).await;
        let told = server.ask(well);
        assert!(told.starts_with("+OK"), "not {fault}: {told}");
        limits.return_by_itself(&format!("not {fault}")).await;
    }

    // A script of somebody else that goes on and on.
    server.ask("CONFIG SET lua-time-limit 10");
    let endless = server.begin_to_ask("EVAL \"while true do end\" 0");
    limits.fall_back("busy").await;
    until("it is stopped", async || server.ask("SCRIPT KILL").starts_with("+OK")).await;
    drop(endless);
    limits.return_by_itself("not busy").await;

    server.kill();
    limits.fall_back("killed").await;
    server.again();
    limits.return_by_itself("back").await;
}

#[tokio::test]
async fn a_server_that_is_slow_is_not_waited_for() {
    let server = Server::start();
    let slow = Slow::to(&server).await;
    let limits = Limits::on(Redis::builder(&slow.url()).unwrap().build());
    limits.serve().await;
    slow.delay(Duration::from_secs(5));
    limits.fall_back("slow").await;
    slow.delay(Duration::ZERO);
    limits.return_by_itself("quick").await;
}

/// Quotas alone, with no limit beside whose instance asks: no request is the one that finds out, and it is found out without
/// requests too.
#[tokio::test]
async fn nobody_pays_for_looking_whether_quotas_are_served_again() {
    for (name, fallback, status) in [
        ("allow", QuotaFallback::Allow, StatusCode::OK),
        ("deny", QuotaFallback::Deny, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let server = Server::start();
        let redis = Redis::builder(&server.url()).unwrap().build();
        let store = QuotaStore::redis(redis.clone()).deadline(Duration::from_secs(2)).fallback(fallback);
        let quota = quotas::quota(name, store);
        let gate = quotas::gate([quota.clone()]);
        assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
        server.signal("STOP");
        let many = (0..20).map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move { answer(&gate, "a").await.status() })
        });
        for one in many.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), status);
        }
        // It is told at the same deadline as they, in a task of its own.
        until("nobody is asked", async || redis.state() != State::Closed).await;
        // The breaker lets one look twenty times in this time at most, and four times at least.
        let (began, mut requests) = (Instant::now(), 0_u64);
        while began.elapsed() < Duration::from_secs(2) {
            let answer = gate.clone().oneshot(of(b"a")).now_or_never().expect("nobody waits");
            assert_eq!(answer.unwrap().status(), status);
            requests += 1;
            sleep(Duration::from_millis(1)).await;
        }
        assert_ne!(redis.state(), State::Closed, "after {requests}");
        server.signal("CONT");
        until("it is found, though nobody comes", async || redis.state() == State::Closed).await;
        let spent = quota.handle().spent();
        assert_eq!(answer(&gate, "a").await.status(), StatusCode::OK);
        assert_eq!(quota.handle().spent(), spent + 1);
        // What came too late has given itself back, and looking has cost nobody anything.
        quota.handle().flush().await.unwrap();
        until("all is given back", async || quotas::used(&quota, "a").await == quota.handle().spent()).await;
    }
}

/// Of four who have seen each other each has a quarter, whoever comes to it; and who wants more than a quarter at once is told
/// to come back.
#[tokio::test]
async fn each_of_four_has_a_quarter() {
    let server = Server::start();
    let mut instances = Vec::new();
    for _ in 0..4 {
        let redis = Redis::builder(&server.url()).unwrap().build();
        let there = Distribution::on(redis).deadline(DEADLINE);
        let limits =
            [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR].map(|algorithm| {
                let limit = limit(&format!("{algorithm:?}")[..5], "20/300d").algorithm(algorithm);
                limit.distributed(there.clone()).build().unwrap()
            });
        until("it is asked", async || {
            answer(&gate([limits[0].clone().into()]), "b").await.status().is_success()
        })
        .await;
        instances.push((there, limits));
    }
    until("all see each other", async || instances.iter().all(|(there, _)| there.instances() == 4)).await;
    server.signal("STOP");
    for (_, limits) in &instances {
        let (probe, handle) = (gate([limits[0].clone().into()]), limits[0].distribution().unwrap());
        until("it is known", async || {
            answer(&probe, "other").await;
            handle.redis() == State::Open
        })
        .await;
    }
    for (_, limits) in &instances {
        for limit in limits {
            let gate = |cost| gate([limit.clone().costing(cost)]);
            let refused = answer(&gate(6), "a").await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(refused.headers()["retry-after"], "1", "later");
            let refused = answer(&gate(21), "a").await;
            assert_eq!(refused.headers().get("retry-after"), None, "never");
            assert_eq!(passing(&[gate(1)], "a", 10).await, 5, "{}", limit.name());
        }
    }
    server.signal("CONT");
}

/// By the clock of the runtime, which goes on only when nobody has anything to do: exactly, but for the millisecond to
/// which its timers are rounded.
#[tokio::test]
async fn no_request_waits_for_longer_than_the_deadline() {
    const ROUNDED: Duration = Duration::from_millis(1);
    let server = Server::start();
    let limits = Limits::on(Redis::builder(&server.url()).unwrap().build());
    limits.serve().await;
    server.signal("STOP");
    tokio::time::pause();
    for at in 0..40 {
        let began = Instant::now();
        assert!(passes(&limits.gates[0], "a").await);
        assert!(began.elapsed() <= DEADLINE + ROUNDED, "{at}: {:?}", began.elapsed());
    }
    tokio::time::resume();
    server.signal("CONT");
}

/// What it is asked while it is known not to serve: one thing after each wait of the breaker, of 50 ms at least.
#[tokio::test]
async fn a_server_that_does_not_serve_is_asked_now_and_then_only() {
    let server = Server::start();
    let limits = Limits::on(Redis::builder(&server.url()).unwrap().build());
    limits.serve().await;
    server.ask("CONFIG SET maxmemory 1");
    limits.fall_back("full").await;
    let (began, before) = (Instant::now(), server.calls("evalsha"));
    let mut requests = 0;
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(passing(&limits.gates[..1], "a", 100).await, 100);
        requests += 100;
    }
    let asked = server.calls("evalsha") - before;
    let most = began.elapsed().as_millis() as u64 / 50 + 2;
    println!("{requests} requests, asked {asked} times");
    assert!((1..=most).contains(&asked), "{asked} of {most}");

    // The first that is asked when it serves again, finds out: nobody but the one who looks, or who is looked for.
    server.ask("CONFIG SET maxmemory 0");
    let before = server.calls("evalsha");
    until("it serves", async || limits.handle.redis() == State::Closed).await;
    let asked = server.calls("evalsha") - before;
    assert!(asked <= 3, "{asked}");
}

/// Of whom nobody is asked about, the answer is found out beside: that is at nobody's expense.
#[tokio::test]
async fn who_finds_out_that_it_serves_again_pays_nothing() {
    let server = Server::start();
    let there = Distribution::on(Redis::builder(&server.url()).unwrap().build());
    let there = there.deadline(DEADLINE).fallback(Fallback::Deny);
    let limit = limit("a", "1000000/year").distributed(there).build().unwrap();
    let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    until("all is well", async || answer(&gate, "first").await.status() == StatusCode::OK).await;
    let (began, mut passed) = (handle.by_redis(), 0_u32);
    for _ in 0..3 {
        server.signal("STOP");
        until("it is known", async || {
            answer(&gate, "other").await;
            handle.redis() == State::Open
        })
        .await;
        server.signal("CONT");
        let late = Instant::now() + PATIENCE;
        while answer(&gate, "a").await.status() != StatusCode::OK {
            assert!(Instant::now() < late, "it serves again");
            tokio::task::yield_now().await;
        }
        passed += 1;
        until("they have paid for what has passed", async || {
            handle.give_back().await;
            remaining(&handle, "a").await == 1_000_000 - passed
        })
        .await;
    }
    assert!(handle.by_redis() >= began + u64::from(passed));
}

/// Who may wait for long, has a server that takes long, also after it was away.
#[tokio::test]
async fn a_server_slower_than_a_probe_serves_those_who_wait_for_it() {
    let mut server = Server::start();
    let slow = Slow::to(&server).await;
    slow.delay(Duration::from_millis(400));
    let redis = Redis::builder(&slow.url()).unwrap().build();
    let there = Distribution::on(redis).deadline(Duration::from_secs(10)).fallback(Fallback::Allow);
    let limit = limit("a", "1000/year").distributed(there).build().unwrap();
    let (gate, handle) = (gate([limit.clone().into()]), limit.distribution().unwrap());
    assert!(passes(&gate, "a").await);
    assert_eq!(handle.by_redis(), 1);
    server.kill();
    until("it is known", async || {
        passes(&gate, "a").await;
        handle.redis() == State::Open
    })
    .await;
    server.again();
    until("it serves again", async || {
        passes(&gate, "a").await;
        handle.by_redis() > 1
    })
    .await;
}

#[tokio::test]
async fn while_a_master_is_looked_for_nobody_waits() {
    let mut trio = tokio::task::spawn_blocking(Trio::start).await.unwrap();
    let urls = trio.urls();
    let limits = Limits::on(Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap().build());
    limits.serve().await;
    trio.master.kill();
    limits.fall_back("failing over").await;
    let late = Instant::now() + PATIENCE;
    while limits.handle.redis() != State::Closed {
        assert!(passes(&limits.gates[0], "a").await);
        assert!(Instant::now() < late, "the replica is the master");
        sleep(Duration::from_millis(20)).await;
    }
    limits.return_by_itself("failed over").await;
    assert!(trio.replica.ask("ROLE").contains("master"));
}

/// An old master that is stopped takes connections and says nothing: whoever asks it must not keep others from the new.
#[tokio::test]
async fn an_old_master_that_is_stopped_keeps_nobody_from_the_new() {
    let trio = tokio::task::spawn_blocking(Trio::start).await.unwrap();
    let urls = trio.urls();
    let redis = Redis::sentinel("limits", urls.iter().map(String::as_str)).unwrap().build();
    let limits = Limits::on(redis.clone());
    // One who may wait for a minute, as one may who delivers usage.
    let patient = Distribution::on(redis).deadline(PATIENCE);
    let patient = gate([limit("patient", "1000/year").distributed(patient).build().unwrap().into()]);
    until("all is well", async || {
        passes(&limits.gates[0], "first").await && limits.handle.redis() == State::Closed
    })
    .await;
    trio.master.signal("STOP");
    let asking = tokio::spawn({
        let patient = patient.clone();
        async move {
            for _ in 0..20 {
                passes(&patient, "a").await;
            }
        }
    });
    until("it is known", async || {
        passes(&limits.gates[0], "a").await;
        limits.handle.redis() == State::Open
    })
    .await;
    until("the new one is asked", async || {
        passes(&limits.gates[0], "b").await;
        limits.handle.redis() == State::Closed
    })
    .await;
    assert!(trio.replica.ask("ROLE").contains("master"));
    asking.abort();
    trio.master.signal("CONT");
}
