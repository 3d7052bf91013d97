//! How many decisions a second limits on Redis make: `cargo bench --features admission,redis --bench redis`.
//!
//! A server of its own, one connection, 64 requests at once; 10,000 accounts. Then with leases, how many wait for Redis.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::{
    convert::Infallible,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
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

fn limits(there: &Distribution, count: usize, rate: &str) -> Vec<Limit> {
    let by = || Key::Header(http::HeaderName::from_static("x-account"));
    let limit = |at| Limit::builder(format!("limit-{at}"), rate.parse().unwrap()).by(by());
    (0..count).map(|at| limit(at).distributed(there.clone()).build().unwrap()).collect()
}

fn gate(limits: &[Limit]) -> Gate {
    let app =
        tower::service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let layer = limits.iter().cloned().collect::<RateLimit>().layer();
    BoxCloneSyncService::new(layer.layer(app).map_response(|response| response.status().as_u16()))
}

/// Decisions a second.
async fn rate(gate: &Gate, accounts: u32) -> f64 {
    let began = Instant::now();
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|worker| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let (mut count, mut account) = (0_u64, worker as u32);
                while began.elapsed() < TIME {
                    account = account.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let name = (account >> 8) % accounts;
                    let request = Request::builder().header("x-account", name).body(String::new()).unwrap();
                    gate.clone().oneshot(request).await.unwrap();
                    count += 1;
                    if count.is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                count
            })
        })
        .collect();
    let mut all = 0;
    for worker in workers {
        all += worker.await.unwrap();
    }
    all as f64 / began.elapsed().as_secs_f64()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = Server::start();
    for count in [1, 3] {
        let limits = limits(&server.distribution(), count, "1000000/s");
        println!(
            "exact, {count} limits in one decision: {:.0} a second",
            rate(&gate(&limits), ACCOUNTS).await
        );
    }
    let limits = limits(&server.distribution().lease(Ratio::percent(5)), 1, "1000000/s");
    let (gate, handle) = (gate(&limits), limits[0].distribution().unwrap());
    while handle.by_lease() == 0 {
        rate_once(&gate).await;
    }
    let before = (handle.by_redis(), handle.by_lease());
    let decisions = rate(&gate, 100).await;
    let (asked, leased) = (handle.by_redis() - before.0, handle.by_lease() - before.1);
    let share = 100.0 * asked as f64 / (asked + leased) as f64;
    println!("leased: {decisions:.0} a second, of which {share:.3}% waited for Redis");
}

async fn rate_once(gate: &Gate) {
    let request = Request::builder().header("x-account", "0").body(String::new()).unwrap();
    gate.clone().oneshot(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
}
