//! What limits on Redis cost: `cargo bench --features admission,redis --bench redis`.
//!
//! A server of its own. First decisions a second over one connection, 64 in flight, 10,000 accounts, with one limit and with
//! three in one call; and over 64 connections, one in flight on each, which is as many calls. Then decisions by a lease beside
//! those of a limit of this process, each by 64 tasks that take turns. Then, as a table, accuracy against latency of 8 instances: each decision exact, with leases, and each
//! instance for itself.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::{
    convert::Infallible,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use portcullis::{
    admission::rate_limit::{Distribution, Limit, RateLimit},
    key::Key,
    ratio::Ratio,
    redis::Redis,
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

const IN_FLIGHT: usize = 64;
const INSTANCES: usize = 8;
const ACCOUNTS: u32 = 10_000;
const TIME: Duration = Duration::from_secs(5);

type Gate = BoxCloneSyncService<Request<String>, u16, Infallible>;

struct Server(Child, u16);

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["--port", &port.to_string(), "--save", "", "--appendonly", "no"].map(str::to_owned);
        let start = |program| Command::new(program).args(&arguments).stdout(Stdio::null()).spawn();
        let child = start("redis-server").or_else(|_| start("valkey-server")).unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child, port)
    }

    fn distribution(&self) -> Distribution {
        let redis = Redis::builder(&format!("redis://127.0.0.1:{}", self.1)).unwrap().build();
        Distribution::on(redis).deadline(Duration::from_secs(1))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn limits(count: usize, rate: &str, there: Option<&Distribution>) -> Vec<Limit> {
    let one = |at| {
        let by = Key::Header(http::HeaderName::from_static("x-account"));
        let limit = Limit::builder(format!("limit-{at}"), rate.parse().unwrap()).by(by);
        match there {
            Some(there) => limit.distributed(there.clone()),
            None => limit,
        }
    };
    (0..count).map(|at| one(at).build().unwrap()).collect()
}

fn gate(limits: &[Limit]) -> Gate {
    let app =
        tower::service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let layer = limits.iter().cloned().collect::<RateLimit>().layer();
    BoxCloneSyncService::new(layer.layer(app).map_response(|response| response.status().as_u16()))
}

async fn ask(gate: &Gate, account: impl std::fmt::Display) -> bool {
    let request = Request::builder().header("x-account", account.to_string()).body(String::new()).unwrap();
    gate.clone().oneshot(request).await.unwrap() == 200
}

/// What came of many requests.
struct Told {
    seconds: f64,
    passed: u64,
    /// How long each took, in nanoseconds, in order.
    took: Vec<u64>,
}

impl Told {
    fn rate(&self) -> f64 {
        self.took.len() as f64 / self.seconds
    }

    fn micros(&self, share: f64) -> f64 {
        self.took[((self.took.len() - 1) as f64 * share) as usize] as f64 / 1000.0
    }
}

/// So many in flight, to some account each: through the next gate, or through one of its own if there are as many.
async fn drive(gates: &[Gate], accounts: u32) -> Told {
    let (began, gates) = (Instant::now(), Arc::new(gates.to_vec()));
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|worker| {
            let gates = Arc::clone(&gates);
            tokio::spawn(async move {
                let (mut passed, mut took, mut account) = (0, Vec::new(), worker as u32);
                while began.elapsed() < TIME {
                    account = account.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let turn = if gates.len() == IN_FLIGHT { 0 } else { took.len() };
                    let gate = &gates[(worker + turn) % gates.len()];
                    let at = Instant::now();
                    passed += u64::from(ask(gate, (account >> 8) % accounts).await);
                    took.push(at.elapsed().as_nanos() as u64);
                    if took.len() % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                (passed, took)
            })
        })
        .collect();
    let mut told = Told { seconds: 0.0, passed: 0, took: Vec::new() };
    for worker in workers {
        let (passed, took) = worker.await.unwrap();
        told.passed += passed;
        told.took.extend(took);
    }
    told.seconds = began.elapsed().as_secs_f64();
    told.took.sort_unstable();
    told
}

/// How instances keep a limit.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Exact,
    Leased,
    Local,
}

/// Instances that know of each other.
async fn instances(server: &Server, kept: Kept, rate: &str) -> (Vec<Gate>, Vec<Limit>) {
    let limits: Vec<_> = (0..INSTANCES)
        .map(|_| {
            let lease = if kept == Kept::Leased { Ratio::percent(5) } else { Ratio::NEVER };
            let there = server.distribution().lease(lease);
            limits(1, rate, (kept != Kept::Local).then_some(&there)).remove(0)
        })
        .collect();
    let gates: Vec<_> = limits.iter().map(|limit| gate(std::slice::from_ref(limit))).collect();
    for (gate, limit) in gates.iter().zip(&limits) {
        let is_ready = || {
            let told = limit.distribution();
            kept != Kept::Leased
                || told.is_some_and(|told| told.instances() as usize >= INSTANCES && told.by_lease() > 0)
        };
        while !is_ready() {
            for other in &gates {
                ask(other, "warm").await;
            }
            ask(gate, "warm").await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    (gates, limits)
}

async fn compare(server: &Server, name: &str, kept: Kept) {
    let (gates, limits) = instances(server, kept, "1000000/s").await;
    let asked = || limits.iter().filter_map(Limit::distribution).map(|told| told.by_redis()).sum::<u64>();
    let before = asked();
    let below = drive(&gates, 100).await;
    let waited = 100.0 * (asked() - before) as f64 / below.took.len() as f64;
    let (gates, limits) = instances(server, kept, "5000/s").await;
    let above = drive(&gates, 1).await;
    let fell_back = limits.iter().filter_map(Limit::distribution).map(|told| told.by_fallback()).sum::<u64>();
    // A bucket that is full at first, and refills.
    let allowed = 5000.0 * (1.0 + above.seconds);
    println!(
        "| {name} | {:.0} us | {:.0} us | {waited:.2}% | {:.1}% | {fell_back} |",
        below.micros(0.5),
        below.micros(0.99),
        100.0 * above.passed as f64 / allowed
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Server::start();
    for count in [1, 3] {
        let told = drive(&[gate(&limits(count, "1000000/s", Some(&server.distribution())))], ACCOUNTS).await;
        println!("exact, {count} limits in one decision: {:.0} a second", told.rate());
        let one = |_| gate(&limits(count, "1000000/s", Some(&server.distribution())));
        let told = drive(&(0..IN_FLIGHT).map(one).collect::<Vec<_>>(), ACCOUNTS).await;
        println!("the same, {IN_FLIGHT} instances with one in flight each: {:.0} a second", told.rate());
    }
    let there = server.distribution().lease(Ratio::percent(5));
    let limits = limits(1, "1000000/s", Some(&there));
    let (gates, handle) = ([gate(&limits)], limits[0].distribution().unwrap());
    while handle.by_lease() == 0 {
        ask(&gates[0], 0).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = handle.by_redis();
    let told = drive(&gates, 100).await;
    let waited = 100.0 * (handle.by_redis() - before) as f64 / told.took.len() as f64;
    println!("leased: {:.0} a second, of which {waited:.2}% wait", told.rate());
    let here = [gate(&self::limits(1, "1000000/s", None))];
    println!("local, by the same tasks: {:.0} a second\n", drive(&here, 100).await.rate());

    println!(
        "| 8 instances | p50 | p99 | waited for Redis | admitted of what is allowed | by the fallback |\n|---|---|---|---|---|---|"
    );
    for (name, kept) in [("exact", Kept::Exact), ("leased, 5%", Kept::Leased), ("local", Kept::Local)] {
        // A server on which nobody has spent anything.
        compare(&Server::start(), name, kept).await;
    }
}
