//! What our server costs beyond hyper's.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use portcullis::{identity::PeerAddr, transport::Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Builder,
};
use tower::service_fn;

use super::loopback;

const REQUESTS: u64 = 100;

async fn hello<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

async fn ask(client: &mut DuplexStream, requests: u64) {
    let mut answer = [0; 1_024];
    for _ in 0..requests {
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let length = client.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer[..length].ends_with(b"hello"));
    }
}

/// The allocations of requests that follow each other on one connection.
fn allocations(serve: impl FnOnce(DuplexStream)) -> u64 {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (mut client, server) = duplex(4_096);
    runtime.block_on(async {
        serve(server);
        ask(&mut client, 10).await;
    });
    allocation_counter::measure(|| runtime.block_on(ask(&mut client, REQUESTS))).count_total / REQUESTS
}

#[test]
fn three_allocations_for_the_peers_address() {
    let ours = allocations(|io| {
        let peer = PeerAddr::from(loopback());
        tokio::spawn(Server::new().serve_connection(io, peer, service_fn(hello)));
    });
    let hypers = allocations(|io| {
        let service = TowerToHyperService::new(service_fn(hello));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service));
    });
    assert_eq!(ours, hypers + 3);
}
