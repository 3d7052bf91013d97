//! What a request costs on its whole way through a gateway: allocations, counted.
use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use portcullis::{
    stack::gateway::{Gateway, Listen, Rule, Snapshot},
    upstream::{Proxy, Upstream},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};

const REQUESTS: u64 = 100;

/// An upstream on a thread of its own, whose allocations are not counted.
fn elsewhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).unwrap();
        }
    });
    address
}

async fn ask(client: &mut TcpStream, requests: u64) {
    let mut answer = [0; 1_024];
    for _ in 0..requests {
        let request = b"GET /a/b?c HTTP/1.1\r\nhost: shop.example\r\nuser-agent: it\r\naccept: */*\r\n\r\n";
        client.write_all(request).await.unwrap();
        let length = client.read(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer[..length].ends_with(b"ok"));
    }
}

/// Client and gateway share a thread; the client allocates nothing.
#[test]
fn a_request_through_a_gateway_allocates_little() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (gateway, mut client) = runtime.block_on(async {
        let upstream = Upstream::builder("origin").endpoint(elsewhere().to_string()).build().unwrap();
        let snapshot = Snapshot::builder()
            .listen(Listen::on("public", "127.0.0.1:0".parse().unwrap()))
            .rule(Rule::new("all").backend(Proxy::new(upstream), 1))
            .build()
            .unwrap();
        let gateway = Gateway::start(snapshot).await.unwrap();
        let mut client = TcpStream::connect(gateway.address("public").unwrap()).await.unwrap();
        ask(&mut client, 10).await;
        (gateway, client)
    });
    let counted = allocation_counter::measure(|| runtime.block_on(ask(&mut client, REQUESTS)));
    println!("{} allocations, {} bytes", counted.count_total / REQUESTS, counted.bytes_total / REQUESTS);
    assert!(counted.count_total / REQUESTS <= 24, "{} allocations", counted.count_total / REQUESTS);
    runtime.block_on(gateway.cut());
}
