//! What a request costs: allocations, counted.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use portcullis::{
    identity::PeerAddr,
    upstream::{Proxy, Upstream},
};
use tower::ServiceExt;

/// An upstream on a thread of its own, whose allocations are not counted.
fn elsewhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok")
                .unwrap();
        }
    });
    address
}

#[test]
fn a_request_on_a_pooled_connection_allocates_little() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = Upstream::builder("a").endpoint(elsewhere().to_string()).build().unwrap();
    let proxy = Proxy::new(group);
    let request = || {
        let mut request = Request::get("/a/b?c").header("host", "shop.example").header("accept", "*/*");
        for n in 0..6 {
            request = request.header(format!("x-{n}"), "value");
        }
        let mut request = request.body(Empty::<Bytes>::new()).unwrap();
        request.extensions_mut().insert(PeerAddr::new("192.0.2.7:1".parse().unwrap()));
        request
    };
    let round = |request| {
        runtime.block_on(async {
            let response = proxy.clone().oneshot(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        })
    };
    for _ in 0..10 {
        assert_eq!(round(request()), "ok");
    }
    let sent = request();
    let counted = allocation_counter::measure(|| {
        round(sent);
    });
    println!("{} allocations, {} bytes", counted.count_total, counted.bytes_total);
    assert!(counted.count_total <= 16, "{} allocations", counted.count_total);
}
