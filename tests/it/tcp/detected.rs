//! HTTP and anything else on one listener.
use portcullis::{
    body::Body,
    transport::{self, Drain, Listener, Stream, Streams},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{MADE, Server, connect, counted, ended, file, hear, number, rest, soon};
use crate::{
    gateway::world::{Gateway, upstream},
    support::log::Log,
};

/// A listener that tells apart, before an upstream of HTTP and this server.
async fn either(server: &Server, patience: &str) -> Gateway {
    let listener = format!("protocol: detect, detectTimeout: {patience}");
    let text = file(&listener, &[server.address], "", "");
    let behind = upstream("web").await;
    let text = text.replace("upstreams: {", &format!("upstreams: {{ web: {{ endpoints: ['{behind}'] }},"));
    let routes = "routes: [{ name: r, rules: [{ backendRefs: [{ name: web }] }] }]\n";
    Gateway::of(&(text + routes)).await
}

#[tokio::test]
async fn http_and_other_protocols_share_a_listener() {
    let server = Server::echo().await;
    let gateway = either(&server, "30s").await;
    let answer = gateway.get("/orders", &[]).await;
    assert!(answer.status == 200 && answer.text.starts_with("web /orders"), "{answer:?}");

    // HTTP/2 with prior knowledge, as gRPC comes.
    let stream = connect(&gateway).await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, http_body_util::Empty<bytes::Bytes>>(executor, io)
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://shop.example/orders.Orders/List")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(http_body_util::Empty::new())
        .unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));

    assert_eq!(server.taken(), 0);
    for said in
        [&b"\x00\x01\xff binary"[..], b"*1\r\n$4\r\nPING\r\n", b"EHLO mail.example\r\n", b"GET key\r\n"]
    {
        let mut client = connect(&gateway).await;
        client.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        soon(client.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, said);
    }
    assert_eq!(server.taken(), 4);
    counted(&gateway, &ended("closed"), 4).await;
    assert!(gateway.get("/again", &[]).await.status == 200);
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let server = Server::greeting().await;
    for text in [
        file("protocol: tcp", &[server.address], "", ""),
        file("protocol: detect, detectTimeout: 50ms", &[server.address], "", ""),
    ] {
        let gateway = Gateway::of(&text).await;
        let mut client = connect(&gateway).await;
        assert_eq!(hear(&mut client, 11).await, "220 ready\r\n");
        // What would be HTTP at the beginning is none any more.
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(hear(&mut client, 16).await, "GET / HTTP/1.1\r\n");
    }
}

/// What comes byte by byte is told apart as well, and nothing of it is lost.
#[tokio::test]
async fn first_bytes_may_drip() {
    let server = Server::echo().await;
    let gateway = either(&server, "30s").await;
    let mut client = connect(&gateway).await;
    client.set_nodelay(true).unwrap();
    for byte in b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(rest(&mut client).await.unwrap().starts_with("HTTP/1.1 200"));
    let mut client = connect(&gateway).await;
    client.set_nodelay(true).unwrap();
    for byte in b"GETS key\r\n" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(hear(&mut client, 10).await, "GETS key\r\n");

    // Who says too little is taken at its word, and what it has said comes first.
    let gateway = either(&server, "50ms").await;
    let mut client = connect(&gateway).await;
    client.write_all(b"PO").await.unwrap();
    assert_eq!(hear(&mut client, 2).await, "PO");
    client.write_all(b"NG").await.unwrap();
    assert_eq!(hear(&mut client, 2).await, "NG");
    // Who comes and goes without a word has nobody connected to.
    let made = number(&gateway, MADE).await;
    drop(connect(&gateway).await);
    assert!(gateway.get("/", &[]).await.status == 200);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(number(&gateway, MADE).await, made);
}

#[tokio::test]
async fn what_no_route_takes_is_closed_and_told_of() {
    let (log, _guard) = Log::start();
    let behind = upstream("web").await;
    let text = format!(
        "apiVersion: portcullis/v1alpha1\n\
         listeners: [{{ name: public, address: 127.0.0.1:0, protocol: detect }}]\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ web: {{ endpoints: ['{behind}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: web }}] }}] }}]\n"
    );
    let gateway = Gateway::of(&text).await;
    let mut client = connect(&gateway).await;
    client.write_all(b"\x00\x01\x02").await.unwrap();
    assert!(rest(&mut client).await.is_err(), "it is reset");
    let line = &log.access(1).await[0];
    assert_eq!((&line["ended"], &line["reason"]), (&"refused".into(), &"no_route".into()), "{line}");
    assert_eq!(line["error"], "no TCP route takes it");
    counted(&gateway, r#"tcp_refusals_total{listener="public",reason="no_route"}"#, 1).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
}

/// Without a gateway, in a server of one's own, which waits for what it gave away, and cuts it.
#[tokio::test]
async fn a_server_gives_away_what_it_does_not_speak() {
    let echo = |mut stream: Stream| async move {
        let mut cut = std::pin::pin!(stream.cut().wait());
        let mut piece = [0; 100];
        loop {
            let read = tokio::select! {
                read = stream.read(&mut piece) => read,
                () = &mut cut => return stream.reset(),
            };
            match read {
                Ok(0) | Err(_) => return,
                Ok(read) => stream.write_all(&piece[..read]).await.unwrap(),
            }
        }
    };
    let hello = tower::service_fn(|_: http::Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("hello")))
    });
    let drain = Drain::new();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(transport::Server::new().drain(&drain).serve_with(
        listener,
        hello,
        Streams::detected(echo),
    ));
    let answer = crate::gateway::world::Client::new().get(address, "/", &[]).await;
    assert_eq!(answer.text, "hello");
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"\x00hello").await.unwrap();
    assert_eq!(hear(&mut client, 6).await, "\x00hello");
    drain.start();
    client.write_all(b"again").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "again");
    assert!(!serving.is_finished());
    drain.cut();
    assert!(rest(&mut client).await.is_err());
    soon(serving).await.unwrap();
    assert_eq!(drain.in_flight(), 0);
}
