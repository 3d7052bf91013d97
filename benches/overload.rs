//! What a gateway in front of a server makes of 5 times the server's capacity, over real sockets:
//! `cargo bench --features gateway --bench overload`.
//!
//! The server has 20 workers, a queue without end, and takes 10 ms and 10 ms more on average for a request: 1,000 a second.
//! Requests come at random, whether those before were answered or not, each after the time that it was to come is counted.
//! It prints, for each limit, what is served of the capacity, and what those wait who are let in, also as what it is of the p99
//! without load. Promised are more than 90%, and at most 2.0, at 5 times the capacity.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and prints")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use portcullis::{chance::Chance, config::Config};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

const WORKERS: usize = 20;
const SERVICE_MS: f64 = 20.0;
const CAPACITY: f64 = WORKERS as f64 * 1000.0 / SERVICE_MS;
const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(4);
const MEASURED: Duration = Duration::from_secs(8);

fn exponential(chance: &Chance, mean: f64) -> f64 {
    let uniform = (chance.next() >> 11) as f64 / (1_u64 << 53) as f64;
    -mean * (1.0 - uniform).ln()
}

async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (workers, chance) = (Arc::new(Semaphore::new(WORKERS)), Chance::seeded(1));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (workers, chance) = (Arc::clone(&workers), chance.clone());
            let service = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
                let (workers, chance) = (Arc::clone(&workers), chance.clone());
                async move {
                    let _worker = workers.acquire_owned().await.unwrap();
                    let ms = SERVICE_MS / 2.0 + exponential(&chance, SERVICE_MS / 2.0);
                    sleep(Duration::from_secs_f64(ms / 1000.0)).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"served"))))
                }
            });
            tokio::spawn(async move {
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                drop(serving.await);
            });
        }
    });
    address
}

/// What was served, how many were refused, and how many came to nothing.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    refused: usize,
    lost: usize,
}

impl Seen {
    /// The latency that this share of those who were served did not exceed.
    fn quantile(&self, percent: usize) -> Duration {
        self.latencies.get(self.latencies.len() * percent / 100).copied().unwrap_or_default()
    }
}

async fn run(limit: &str, in_front: &str, load: f64) -> Seen {
    let upstream = server().await;
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0 }}]\n{limit}\n\
         upstreams: {{ one: {{ endpoints: ['{upstream}'], maxConnections: 10000 {in_front} }} }}\n\
         routes: [{{ name: r, rules: [{{ timeouts: {{ request: 60s }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    );
    let configured = Config::text("bench", text).start().await.unwrap_or_else(|error| panic!("{error}"));
    let uri: http::Uri =
        format!("http://{}/", configured.gateway().address("public").unwrap()).parse().unwrap();
    // Few connections, so that the load is no load of its own, and more streams than may wait in a queue.
    let client = || Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
    let clients: Vec<_> = std::iter::repeat_with(client).take(CONNECTIONS).collect();
    let mut next = clients.iter().cycle();
    let (seen, chance) = (Arc::new(Mutex::new(Seen::default())), Chance::seeded(2));
    let (begin, mut at) = (Instant::now(), 0.0);
    let from = begin + WARM_UP;
    loop {
        at += exponential(&chance, 1.0 / (load * CAPACITY));
        let due = begin + Duration::from_secs_f64(at);
        if due > from + MEASURED {
            break;
        }
        sleep_until(due).await;
        let Some(client) = next.next().cloned() else { break };
        let (uri, seen) = (uri.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let status = async {
                let response = client.get(uri).await.ok()?;
                let status = response.status();
                response.into_body().collect().await.ok()?;
                Some(status.as_u16())
            };
            let status = status.await;
            let now = Instant::now();
            if (from..=from + MEASURED).contains(&now) {
                let mut seen = seen.lock().unwrap();
                match status {
                    Some(200) => seen.latencies.push(now - due),
                    Some(503) => seen.refused += 1,
                    _ => seen.lost += 1,
                }
            }
        });
    }
    configured.gateway().cut().await;
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    seen.latencies.sort_unstable();
    seen
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "| limit in front of the server | load | served of the capacity | p50 | p99 | of p99 without load | refused | lost |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut unloaded = None;
    let limit = |text: &str| format!("concurrency: {{ l: {{ {text} }} }}");
    let (none, in_front) = (String::new(), ", concurrency: [l]");
    for (name, limit, in_front, load) in [
        ("none", none.clone(), "", 0.3),
        ("none", none, "", 5.0),
        ("`max: 24`", limit("max: 24"), in_front, 5.0),
        (
            "`max: 20`, queue with CoDel",
            limit("max: 20, queue: { length: 200, codel: { target: 5ms, interval: 100ms } }"),
            in_front,
            5.0,
        ),
        ("`adaptive: {}`", limit("adaptive: {}"), in_front, 0.3),
        ("`adaptive: {}`", limit("adaptive: {}"), in_front, 5.0),
    ] {
        let seen = runtime.block_on(run(&limit, in_front, load));
        let served = seen.latencies.len() as f64 / MEASURED.as_secs_f64() / CAPACITY;
        let (p50, p99) = (seen.quantile(50), seen.quantile(99));
        let of_unloaded = p99.as_secs_f64() / unloaded.get_or_insert(p99).as_secs_f64();
        println!(
            "| {name} | {load} | {:.0}% | {p50:.0?} | {p99:.0?} | {of_unloaded:.1} | {} | {} |",
            served * 100.0,
            seen.refused,
            seen.lost
        );
    }
}
