use portcullis::transport::Server;

use super::{SHORT, bare, peer::Peer, site, until};

fn head_of(fields: usize, bytes: usize) -> Vec<u8> {
    let mut head = b"GET / HTTP/1.1\r\nhost: test\r\n".to_vec();
    for field in 1..fields {
        head.extend(format!("x-{field}: 1\r\n").bytes());
    }
    if head.len() < bytes {
        head.truncate(head.len() - 2);
        head.extend(std::iter::repeat_n(b'1', bytes - head.len() - 4));
        head.extend(b"\r\n");
    }
    head.extend(b"\r\n");
    head
}

#[tokio::test]
async fn requests_in_a_row_and_in_a_pipeline() {
    let (site, address) = site(Server::new()).await;
    let mut peer = Peer::connect(address).await;
    let me = peer.0.local_addr().unwrap().to_string();
    for _ in 0..3 {
        peer.get("/peer").await;
        assert!(peer.response().await.ends_with(&me));
    }
    peer.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20)).await;
    for _ in 0..20 {
        assert!(peer.response().await.starts_with("HTTP/1.1 200"));
    }
    peer.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    peer.send("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n").await;
    assert!(peer.response().await.ends_with("\r\n\r\n7"));
    assert_eq!(site.begun(), 24);
}

#[tokio::test]
async fn limits_may_be_endless() {
    let forever = std::time::Duration::MAX;
    let server = Server::new()
        .head_timeout(forever)
        .body_idle_timeout(forever)
        .idle_timeout(forever)
        .write_timeout(forever)
        .close_timeout(forever)
        .drain_idle_timeout(forever)
        .max_connection_age(Some(forever));
    let (_, address) = site(server).await;
    let mut peer = Peer::connect(address).await;
    for _ in 0..2 {
        peer.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na").await;
        tokio::time::sleep(SHORT / 10).await;
        peer.send("b").await;
        tokio::time::sleep(SHORT / 10).await;
        peer.send("c").await;
        assert!(peer.response().await.ends_with("\r\n\r\n3"));
    }
}

#[tokio::test]
async fn a_slow_head_is_told() {
    let (site, address) = site(Server::new().head_timeout(SHORT)).await;
    let mut slow = Peer::connect(address).await;
    slow.send("GET / HTTP/1.1\r\nhos").await;
    let answer = slow.rest_as_text().await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");

    let mut second = Peer::connect(address).await;
    second.get("/").await;
    second.response().await;
    second.send("G").await;
    assert!(second.rest_as_text().await.starts_with("HTTP/1.1 408 "));
    assert_eq!(site.begun(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let (site, address) = site(Server::new().head_timeout(SHORT)).await;
    assert_eq!(Peer::connect(address).await.rest_as_text().await, "");
    let mut half = Peer::connect(address).await;
    half.send("PRI * HT").await;
    assert_eq!(half.rest_as_text().await, "");
    assert_eq!(site.begun(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (_, address) = site(Server::new().idle_timeout(SHORT)).await;
    let mut peer = Peer::connect(address).await;
    peer.get("/").await;
    peer.response().await;
    assert_eq!(peer.rest_as_text().await, "");
}

#[tokio::test]
async fn big_heads() {
    let (site, address) = site(Server::new()).await;
    let mut largest = Peer::connect(address).await;
    largest.send(head_of(100, 64 << 10)).await;
    assert!(largest.response().await.starts_with("HTTP/1.1 200"));

    for head in [head_of(101, 0), head_of(2, (64 << 10) + 1), head_of(2, 1 << 20)] {
        let mut peer = Peer::connect(address).await;
        peer.flood(&head).await;
        let answer = peer.rest_as_text().await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{} bytes: {answer}", head.len());
    }
    assert_eq!(site.begun(), 1);
}

#[tokio::test]
async fn other_limits_for_heads() {
    let (_, address) = site(Server::new().max_head_fields(3).max_head_bytes(200)).await;
    for (head, status) in [(head_of(3, 200), "200"), (head_of(4, 0), "431"), (head_of(2, 201), "431")] {
        let mut peer = Peer::connect(address).await;
        peer.send(&head).await;
        assert!(peer.response().await.contains(status));
    }
}

#[tokio::test]
async fn a_body_that_stops_coming() {
    let (site, address) = site(Server::new().body_idle_timeout(SHORT)).await;
    let mut peer = Peer::connect(address).await;
    peer.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(peer.rest_as_text().await.starts_with("HTTP/1.1 408 "));
    assert_eq!((site.begun(), site.alive()), (1, 0));
}

#[tokio::test]
async fn a_peer_that_does_not_read() {
    let (site, address) = site(Server::new().write_timeout(SHORT)).await;
    let mut peer = Peer::connect(address).await;
    peer.get("/endless").await;
    until(|| site.begun() == 1).await;
    until(|| site.alive() == 0).await;
}

#[tokio::test]
async fn a_peer_that_reads() {
    let (site, address) = site(Server::new().write_timeout(SHORT)).await;
    let mut peer = Peer::connect(address).await;
    peer.get("/stream").await;
    until(|| site.begun() == 1).await;
    tokio::time::sleep(SHORT * 4).await;
    site.open();
    peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let answer = peer.rest_as_text().await;
    assert!(answer.contains("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let address = bare(Server::new()).await;
    let mut other = Peer::connect(address).await;
    other.get("/").await;
    other.response().await;
    let mut peer = Peer::connect(address).await;
    peer.get("/panic").await;
    assert_eq!(peer.rest_as_text().await, "");
    other.get("/").await;
    assert!(other.response().await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn hosts_are_left_to_the_stack() {
    let (_, address) = site(Server::new()).await;
    let mut peer = Peer::connect(address).await;
    peer.send("GET /fields HTTP/1.1\r\n\r\n").await;
    assert!(!peer.response().await.contains("host: "));
    peer.send("GET /fields HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await;
    assert!(peer.response().await.contains("host: a\nhost: b\n"));
}

#[tokio::test]
async fn ambiguous_lengths_are_one_request_or_none() {
    let (site, address) = site(Server::new()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for fields in
        ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"]
    {
        let mut peer = Peer::connect(address).await;
        let head = format!("POST /fields HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n\r\n");
        peer.send(format!("{head}0\r\n\r\n{smuggled}")).await;
        let answer = peer.rest_as_text().await;
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("content-length: 5\n"), "{answer}");
    }
    assert_eq!(site.begun(), 2);
    for fields in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: +5",
        "content-length: 5, 6",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: xchunked",
    ] {
        let mut peer = Peer::connect(address).await;
        peer.send(format!("POST /fields HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n{smuggled}")).await;
        let answer = peer.rest_as_text().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    }
    let mut peer = Peer::connect(address).await;
    peer.send("POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n")
        .await;
    peer.send(smuggled).await;
    assert!(!peer.rest_as_text().await.contains("HTTP/1.1 200"));
}
