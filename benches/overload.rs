//! What a gateway in front of a server makes of 5 times the server's capacity, over real sockets:
//! `cargo bench --features gateway --bench overload`.
//!
//! The server has 20 workers, a queue without end, and takes 10 ms and 10 ms more on average for a request: 1,000 a second.
//! Requests come at random, whether those before were answered or not, each after the time that it was to come is counted.
//! It prints, for each limit, what is served of the capacity, and what those wait who are let in.

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

/// What was served, and how many were refused.
#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    refused: usize,
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
    // As few connections as HTTP/2 needs, so that the load is no load of its own.
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Empty<Bytes>>();
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
        let (client, uri, seen) = (client.clone(), uri.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let Ok(response) = client.get(uri).await else { return };
            let served = response.status() == 200;
            let complete = response.into_body().collect().await.is_ok();
            let now = Instant::now();
            if now >= from && now <= from + MEASURED && complete {
                let mut seen = seen.lock().unwrap();
                if served { seen.latencies.push(now - due) } else { seen.refused += 1 }
            }
        });
    }
    configured.gateway().cut().await;
    std::mem::take(&mut *seen.lock().unwrap())
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!("| limit in front of the server | load | served of the capacity | p50 | p99 | refused |");
    println!("|---|---|---|---|---|---|");
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
        let Seen { mut latencies, refused } = runtime.block_on(run(&limit, in_front, load));
        latencies.sort_unstable();
        let quantile =
            |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
        let served = latencies.len() as f64 / MEASURED.as_secs_f64() / CAPACITY;
        println!(
            "| {name} | {load} | {:.0}% | {:.0?} | {:.0?} | {refused} |",
            served * 100.0,
            quantile(50),
            quantile(99)
        );
    }
}
