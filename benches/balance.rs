//! What a pick costs, with its accounting, and a table: `cargo bench --features upstream --bench balance`.

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::{
    io::{Read, Write},
    net::Ipv4Addr,
};

use divan::{Bencher, counter::ItemsCount};
use http::{HeaderName, HeaderValue, Request};
use portcullis::{
    body::Body,
    head::Head,
    key::Key,
    upstream::{Balance, Endpoint, Maglev, Proxy, RingHash, Session, Subsets, Upstream, UpstreamBuilder},
};
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt};

#[global_allocator]
static ALLOC: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

const BATCH: usize = 1000;
const SIZES: [u32; 2] = [10, 10_000];

/// Of two versions.
fn of(n: u32, balance: Balance) -> UpstreamBuilder {
    let address = |n| format!("{}:80", Ipv4Addr::from_bits(0x0a00_0000 + n));
    let endpoint = |n| Endpoint::new(address(n)).label("version", ["v1", "v2"][n as usize % 2]);
    Upstream::builder("bench").endpoints((0..n).map(endpoint)).balance(balance)
}

fn user() -> Key {
    Key::Header(HeaderName::from_static("x-user"))
}

fn pick(bencher: Bencher<'_, '_>, n: u32, balance: Balance) {
    picks(bencher, || of(n, balance).build().unwrap());
}

/// A thousand picks, each in flight for a moment; with keys that differ.
fn picks(bencher: Bencher<'_, '_>, upstream: impl FnOnce() -> Upstream) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    let upstream = upstream();
    let request = |n| {
        let request = Request::get("/").header("x-user", format!("user-{n}")).header("x-version", "v2");
        request.body(()).unwrap()
    };
    let mut requests: Vec<_> = (0..BATCH).map(request).collect();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for request in &mut requests {
            divan::black_box(upstream.pick(&Head::of(request)));
        }
    });
}

#[divan::bench(args = SIZES)]
fn round_robin(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::RoundRobin);
}

#[divan::bench(args = SIZES)]
fn least_request(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::LeastRequest);
}

#[divan::bench(args = SIZES)]
fn peak_ewma(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::PeakEwma);
}

#[divan::bench(args = SIZES)]
fn random(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::Random);
}

#[divan::bench(args = SIZES)]
fn ring_hash(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::RingHash(RingHash::new(user())));
}

#[divan::bench(args = SIZES)]
fn maglev(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::Maglev(Maglev::new(user())));
}

#[divan::bench(args = SIZES)]
fn maglev_bounded(bencher: Bencher<'_, '_>, n: u32) {
    pick(bencher, n, Balance::Maglev(Maglev::new(user()).bounded_load(125)));
}

#[divan::bench(args = SIZES)]
fn least_request_of_a_subset(bencher: Bencher<'_, '_>, n: u32) {
    picks(bencher, || of(n, Balance::LeastRequest).build().unwrap().subset([("version", "v2")]));
}

#[divan::bench(args = SIZES)]
fn least_request_of_a_subset_by_header(bencher: Bencher<'_, '_>, n: u32) {
    let subsets = Subsets::new().by_headers([("version", HeaderName::from_static("x-version"))]);
    picks(bencher, || of(n, Balance::LeastRequest).subsets(subsets).build().unwrap());
}

/// A call until it waits for a connection, with a session and without: what is more with it are the token and the pick by it.
#[divan::bench(args = [false, true])]
fn call_with_a_session(bencher: Bencher<'_, '_>, session: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = Upstream::builder("bench").endpoint(server.local_addr().unwrap()).build().unwrap();
    let header = HeaderName::from_static("x-session");
    let plain = Proxy::new(upstream);
    let sticky = plain.clone().session(Session::header(header.clone()));
    let token = told(&runtime, &server, &sticky, &header);
    let proxy = if session { sticky } else { plain };
    let request = || Request::get("/").header(&header, &token).body(Body::empty()).unwrap();
    let inputs = || (proxy.clone(), request());
    bencher.with_inputs(inputs).bench_local_values(|(mut proxy, request)| proxy.call(request));
}

/// What a client is told by the endpoint behind this proxy.
fn told(
    runtime: &Runtime,
    server: &std::net::TcpListener,
    proxy: &Proxy,
    header: &HeaderName,
) -> HeaderValue {
    let server = server.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let answer = proxy.clone().oneshot(Request::get("/").body(Body::empty()).unwrap());
    let answer = runtime.block_on(async { answer.await.unwrap() });
    answers.join().unwrap();
    answer.headers()[header].clone()
}

/// The hash of the key alone, which is in the picks by key.
#[divan::bench]
fn hash_of_a_key(bencher: Bencher<'_, '_>) {
    let mut request = Request::get("/").header("x-user", "user-17").body(()).unwrap();
    bencher.bench_local(|| user().bare_hash(&Head::of(&mut request)));
}

/// Two threads at once.
#[divan::bench(threads = [2], args = SIZES)]
fn least_request_shared(bencher: Bencher<'_, '_>, n: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let upstream = of(n, Balance::LeastRequest).build().unwrap();
    bencher.bench(|| {
        let _within = runtime.enter();
        upstream.pick(&Head::of(&mut Request::new(())))
    });
}

/// A set of a thousand, with its ring or table.
#[divan::bench(args = ["ring", "maglev"])]
fn build_1000(bencher: Bencher<'_, '_>, table: &str) {
    let balance = match table {
        "ring" => Balance::RingHash(RingHash::new(user())),
        _ => Balance::Maglev(Maglev::new(user())),
    };
    bencher.with_inputs(|| of(1000, balance.clone())).bench_local_values(|builder| builder.build().unwrap());
}
