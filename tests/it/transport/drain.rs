use std::{net::SocketAddr, time::Duration};

use portcullis::transport::{Drain, Listener, ProxyProtocol, Server};
use tokio::task::JoinHandle;

use super::{
    SHORT, Site, loopback,
    peer::{DATA, GOAWAY, HEADERS, Peer},
    soon, until,
};

struct Running {
    site: Site,
    drain: Drain,
    address: SocketAddr,
    server: JoinHandle<()>,
}

async fn running(server: Server) -> Running {
    let (site, drain) = (Site::default(), Drain::new());
    let listener = Listener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(server.drain(&drain).serve(listener, site.service()));
    Running { site, drain, address, server }
}

impl Running {
    async fn ended(self, cut: usize) {
        assert_eq!(soon(self.drain.wait(Duration::from_secs(10))).await, cut);
        soon(self.server).await.unwrap();
        assert!(tokio::net::TcpStream::connect(self.address).await.is_err());
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished() {
    let running = running(Server::new()).await;
    let mut peer = Peer::connect(running.address).await;
    peer.get("/wait").await;
    until(|| running.site.begun() == 1).await;
    running.drain.start();
    until(|| std::net::TcpStream::connect(running.address).is_err()).await;
    running.site.open();
    let answer = peer.rest_as_text().await;
    assert!(answer.contains("connection: close") && answer.ends_with("waited"), "{answer}");
    running.ended(0).await;
}

#[tokio::test]
async fn a_body_in_flight_is_finished() {
    let running = running(Server::new()).await;
    let mut peer = Peer::connect(running.address).await;
    peer.get("/stream").await;
    until(|| running.site.begun() == 1).await;
    running.drain.start();
    until(|| std::net::TcpStream::connect(running.address).is_err()).await;
    // Also of those by which it was seen that nobody accepts any more, one may have been accepted.
    until(|| running.drain.in_flight() == 1).await;
    running.site.open();
    assert!(peer.rest_as_text().await.ends_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"));
    running.ended(0).await;
}

#[tokio::test]
async fn http2_says_goodbye() {
    let running = running(Server::new()).await;
    let mut peer = Peer::http2(running.address).await;
    peer.request(1, "/wait").await;
    until(|| running.site.begun() == 1).await;
    running.drain.start();
    // On its way when the first GOAWAY is: served.
    peer.request(3, "/").await;
    assert_eq!(peer.frame_of(GOAWAY).await.unwrap().2[..4], [0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(peer.frame_of(HEADERS).await.unwrap().1, 3);
    running.site.open();
    assert_eq!(peer.frame_of(HEADERS).await.unwrap().1, 1);
    assert_eq!(peer.frame_of(DATA).await.unwrap().2, b"waited");
    drop(peer);
    running.ended(0).await;
}

#[tokio::test]
async fn an_idle_connection_may_ask_once_more() {
    let running = running(Server::new().drain_idle_timeout(Duration::from_secs(10))).await;
    let mut peer = Peer::connect(running.address).await;
    peer.get("/").await;
    assert!(!peer.response().await.contains("connection: close"));
    running.drain.start();
    until(|| std::net::TcpStream::connect(running.address).is_err()).await;
    peer.get("/").await;
    let answer = peer.rest_as_text().await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    running.ended(0).await;
}

/// It was given a head that says nothing of the end, so its next request may be on its way when the body ends.
#[tokio::test]
async fn a_connection_whose_head_was_given_may_ask_once_more() {
    let running = running(Server::new().drain_idle_timeout(Duration::from_secs(10))).await;
    let mut peer = Peer::connect(running.address).await;
    peer.get("/stream").await;
    assert!(!peer.response().await.contains("connection: close"));
    running.drain.start();
    until(|| std::net::TcpStream::connect(running.address).is_err()).await;
    running.site.open();
    peer.get("/").await;
    let answer = peer.rest_as_text().await;
    assert!(answer.contains("3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    running.ended(0).await;
}

/// However long it was idle before.
#[tokio::test]
async fn a_connection_that_was_idle_for_long_may_ask_once_more() {
    let running = running(Server::new().drain_idle_timeout(Duration::from_secs(1))).await;
    let mut peer = Peer::connect(running.address).await;
    peer.get("/").await;
    peer.response().await;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    running.drain.start();
    tokio::time::sleep(Duration::from_millis(50)).await;
    peer.get("/").await;
    let answer = peer.rest_as_text().await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    running.ended(0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let running = running(Server::new().drain_idle_timeout(SHORT)).await;
    let mut idle = Peer::connect(running.address).await;
    idle.get("/").await;
    idle.response().await;
    let mut fresh = Peer::connect(running.address).await;
    until(|| running.drain.in_flight() == 3).await;
    running.drain.start();
    assert_eq!(idle.rest_as_text().await, "");
    assert_eq!(fresh.rest_as_text().await, "");
    running.ended(0).await;
}

/// Of those who have to say something before HTTP, one that has begun to is waited for.
#[tokio::test]
async fn who_has_said_nothing_holds_nobody_up() {
    let (site, drain) = (Site::default(), Drain::new());
    let policy = ProxyProtocol::from_trusted(["127.0.0.0/8".parse().unwrap()]);
    let policy = policy.timeout(Duration::from_secs(600));
    let listener = Listener::builder().proxy_protocol(policy).bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(Server::new().drain(&drain).serve(listener, site.service()));
    let mut silent = Peer::connect(address).await;
    let mut begun = Peer::connect(address).await;
    begun.send("PROXY UNK").await;
    drain.start();
    assert_eq!(silent.rest_as_text().await, "");
    begun.send("NOWN\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(begun.rest_as_text().await.ends_with("hello"));
    Running { site, drain, address, server }.ended(0).await;
}

#[tokio::test]
async fn a_head_that_has_begun_is_served() {
    let running = running(Server::new().drain_idle_timeout(SHORT)).await;
    let mut peer = Peer::connect(running.address).await;
    peer.send("GET / HTTP/1.1\r\nho").await;
    until(|| running.drain.in_flight() == 2).await;
    running.drain.start();
    tokio::time::sleep(SHORT * 3).await;
    peer.send("st: a\r\n\r\n").await;
    assert!(peer.rest_as_text().await.ends_with("hello"));
    running.ended(0).await;
}

#[tokio::test]
async fn who_waits_to_be_accepted_is_served() {
    let (site, drain) = (Site::default(), Drain::new());
    let listener = Listener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut peers = Vec::new();
    for _ in 0..10 {
        let mut peer = Peer::connect(address).await;
        peer.get("/").await;
        peers.push(peer);
    }
    drain.start();
    let server = tokio::spawn(Server::new().drain(&drain).serve(listener, site.service()));
    for mut peer in peers {
        assert!(peer.rest_as_text().await.ends_with("hello"));
    }
    assert_eq!(soon(drain.wait(Duration::from_secs(10))).await, 0);
    soon(server).await.unwrap();
}

#[tokio::test]
async fn what_takes_too_long_is_cut() {
    let running = running(Server::new()).await;
    let mut h1 = Peer::connect(running.address).await;
    h1.get("/wait").await;
    let mut h2 = Peer::http2(running.address).await;
    h2.request(1, "/wait").await;
    let mut tunnel = Peer::connect(running.address).await;
    tunnel.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(tunnel.response().await.starts_with("HTTP/1.1 101"));
    until(|| running.site.alive() == 2).await;
    running.drain.start();
    assert_eq!(soon(running.drain.wait(SHORT)).await, 3);
    assert_eq!(h1.rest_as_text().await, "");
    h2.rest().await;
    assert_eq!(tunnel.rest_as_text().await, "");
    until(|| running.site.alive() == 0 && running.drain.in_flight() == 0).await;
    soon(running.server).await.unwrap();
}

#[tokio::test]
async fn a_tunnel_is_waited_for() {
    let running = running(Server::new()).await;
    let mut tunnel = Peer::connect(running.address).await;
    tunnel.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(tunnel.response().await.starts_with("HTTP/1.1 101"));
    running.drain.start();
    until(|| running.drain.in_flight() == 1).await;
    tunnel.send("still here").await;
    let mut echo = [0; 10];
    soon(tokio::io::AsyncReadExt::read_exact(&mut tunnel.0, &mut echo)).await.unwrap();
    drop(tunnel);
    running.ended(0).await;
}

#[tokio::test]
async fn an_old_connection_that_is_idle_is_told_with_its_next_answer() {
    let server = Server::new().max_connection_age(Some(SHORT)).drain_idle_timeout(Duration::from_secs(600));
    let running = running(server).await;
    let mut peer = Peer::connect(running.address).await;
    loop {
        peer.get("/").await;
        let answer = peer.response().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        if answer.contains("connection: close") {
            break;
        }
        tokio::time::sleep(SHORT * 3).await; // idle when its time comes
    }
    assert_eq!(peer.rest_as_text().await, "");
}

#[tokio::test]
async fn an_old_connection_is_renewed() {
    let running = running(Server::new().max_connection_age(Some(SHORT))).await;
    let mut h1 = Peer::connect(running.address).await;
    h1.get("/").await;
    h1.response().await;
    assert_eq!(h1.rest_as_text().await, "");
    let mut h2 = Peer::http2(running.address).await;
    h2.request(1, "/wait").await;
    assert!(h2.frame_of(GOAWAY).await.is_some());
    running.site.open();
    assert_eq!(h2.frame_of(HEADERS).await.unwrap().1, 1);
}
