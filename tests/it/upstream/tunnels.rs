//! WebSocket and other upgrades.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::ws::{WebSocket, WebSocketUpgrade},
    routing::any,
};
use futures_util::{SinkExt, StreamExt};
use portcullis::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    outcome::Outcome,
    reject::{Answer, RescueLayer},
    resilience::timeout::TimeoutLayer,
    transport::{Drain, Listener, Server},
    upstream::{HopByHop, Proxy, Upstream, Wire},
};
use tokio::net::TcpListener;
use tokio_tungstenite::{connect_async, tungstenite::Message};
use tower::Layer;

use super::peers::{Line, Raw, edge, edge_to, serve, soon, until, upstream};

/// An axum application that gives back each message.
async fn socket_echo() -> SocketAddr {
    async fn echo(mut socket: WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
    let app = Router::new().route("/ws", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A gate that counts what is in flight.
struct Count(Arc<AtomicUsize>);
struct Held(Arc<AtomicUsize>);

impl Gate for Count {
    type Pass = Held;
    fn check(&self, _: &mut Head<'_>) -> Result<Held, Answer> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Held(self.0.clone()))
    }
}

impl Pass for Held {
    fn on_end(&mut self, _: &Outcome) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_websocket_runs_through_and_holds_its_permits() {
    let group = upstream([socket_echo().await]);
    let open = Arc::new(AtomicUsize::new(0));
    let inner = HopByHop.layer().layer(Proxy::new(group.clone()));
    let edge = serve(RescueLayer::new().layer(GateLayer::new(Count(open.clone())).layer(inner))).await;

    let (mut socket, response) = soon(connect_async(format!("ws://{edge}/ws"))).await.unwrap();
    assert_eq!(response.status(), 101);
    for n in 0..10 {
        let message = Message::text("x".repeat(n * 1000));
        soon(socket.send(message.clone())).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), message);
    }
    assert_eq!((open.load(Ordering::SeqCst), group.endpoints()[0].in_flight), (1, 1));
    assert_eq!(group.endpoints()[0].connections, 1, "a tunnel counts as a connection");
    soon(socket.close(None)).await.unwrap();
    drop(socket);
    until(|| open.load(Ordering::SeqCst) == 0).await;
    until(|| group.endpoints()[0].in_flight == 0 && group.endpoints()[0].connections == 0).await;
}

/// An upstream that switches to a protocol, says a word and gives back each line.
async fn chatter(protocol: &'static str) -> Raw {
    Raw::start(move |_, mut line| async move {
        line.head().await;
        line.say(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\nhi\n"
        ))
        .await;
        while let Some(heard) = line.hear("\n").await {
            line.say(heard).await;
        }
    })
    .await
}

const ASKING: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: chat\r\n\r\n";

#[tokio::test]
async fn any_other_protocol_too_and_early_words_are_not_lost() {
    let peer = chatter("chat").await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: chat"), "{head}");
    assert_eq!(client.hear("\n").await.unwrap(), "hi\n");
    client.say("hello\n").await;
    assert_eq!(client.hear("\n").await.unwrap(), "hello\n");
    // One side may finish before the other.
    client.finish().await;
    assert_eq!(client.rest().await, "");
    until(|| group.endpoints()[0].connections == 0).await;
    let heard = &peer.heard()[0];
    assert!(heard.contains("connection: upgrade\r\n") && heard.contains("upgrade: chat\r\n"), "{heard}");
}

#[tokio::test]
async fn silent_and_old_tunnels_are_cut() {
    for (idle, age) in [
        (Duration::from_secs(60), Duration::from_secs(3600)),
        (Duration::from_secs(3600), Duration::from_secs(60)),
    ] {
        let peer = chatter("chat").await;
        let group = upstream([peer.address]);
        let proxy = Proxy::new(group.clone()).tunnel_idle_timeout(idle).tunnel_max_age(age);
        let edge = edge(proxy).await;
        let mut client = Line::to(edge).await;
        client.say(ASKING).await;
        client.hear("hi\n").await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        assert_eq!(client.rest().await, "");
        until(|| group.endpoints()[0].in_flight == 0).await;
    }
}

/// A tunnel whose client has finished reads nothing more from it, and ends all the same when its server is cut.
#[tokio::test]
async fn a_half_closed_tunnel_ends_with_its_server() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nhi\n")
            .await;
        std::future::pending::<()>().await;
    })
    .await;
    let group = upstream([peer.address]);
    let (drain, listener) = (Drain::new(), Listener::bind(([127, 0, 0, 1], 0).into()).unwrap());
    let edge = listener.local_addr().unwrap();
    let service = RescueLayer::new().layer(HopByHop.layer().layer(Proxy::new(group.clone())));
    let server = tokio::spawn(Server::new().drain(&drain).serve(listener, service));
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    client.hear("hi\n").await.unwrap();
    client.finish().await;
    drain.start();
    assert_eq!(soon(drain.wait(Duration::from_millis(300))).await, 1);
    until(|| group.endpoints()[0].in_flight == 0 && drain.in_flight() == 0).await;
    soon(server).await.unwrap();
}

#[tokio::test]
async fn a_timeout_outside_narrows_the_tunnel() {
    let long = Duration::from_secs(3600);
    let short = Duration::from_millis(300);
    for (idle, age) in [(short, long), (long, short)] {
        let group = upstream([socket_echo().await]);
        let proxy = HopByHop.layer().layer(Proxy::new(group.clone()));
        let timeout = TimeoutLayer::new(long).stream_idle(idle).stream_max_age(age);
        let edge = serve(RescueLayer::new().layer(timeout.layer(proxy))).await;
        let (mut socket, _) = soon(connect_async(format!("ws://{edge}/ws"))).await.unwrap();
        let message = Message::text("hello");
        soon(socket.send(message.clone())).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), message);
        assert!(soon(socket.next()).await.is_none_or(|end| end.is_err()), "{idle:?} {age:?}");
        until(|| group.endpoints()[0].in_flight == 0 && group.endpoints()[0].connections == 0).await;
    }
}

#[tokio::test]
async fn a_tunnel_may_be_endless() {
    let peer = chatter("chat").await;
    let group = upstream([peer.address]);
    let proxy = Proxy::new(group).tunnel_idle_timeout(Duration::MAX).tunnel_max_age(Duration::MAX);
    let mut client = Line::to(edge(proxy).await).await;
    client.say(ASKING).await;
    client.hear("hi\n").await.unwrap();
    client.say("hello\n").await;
    assert_eq!(client.hear("\n").await.unwrap(), "hello\n");
}

#[tokio::test]
async fn nobody_gets_past_us_by_switching_to_http2() {
    let peer = Raw::answering(super::peers::OK).await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client
        .say("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n")
        .await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 200"));
    let heard = &peer.heard()[0].to_ascii_lowercase();
    assert!(!heard.contains("upgrade") && !heard.contains("http2-settings"), "{heard}");
}

#[tokio::test]
async fn an_upstream_that_switches_to_something_else_is_502() {
    let peer = chatter("other").await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 502"));
    until(|| group.endpoints()[0].in_flight == 0 && group.endpoints()[0].connections == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_is_an_answer_as_any_other() {
    let peer = Raw::answering("HTTP/1.1 426 Upgrade Required\r\nupgrade: other\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nno").await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    for _ in 0..2 {
        client.say(ASKING).await;
        let head = client.head().await.unwrap();
        assert!(head.starts_with("http/1.1 426"), "{head}");
        assert!(head.contains("connection: upgrade\r\n") && head.contains("upgrade: other\r\n"), "{head}");
        client.hear("no").await.unwrap();
    }
    assert_eq!((peer.connections(), group.endpoints()[0].in_flight), (1, 0));
}

#[tokio::test]
async fn an_upstream_in_http2_offers_no_upgrade() {
    let group = Upstream::builder("a").endpoint("127.0.0.1:1").wire(Wire::Http2).build().unwrap();
    let mut client = Line::to(edge(Proxy::new(group)).await).await;
    client.say(ASKING).await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 501"));
}
