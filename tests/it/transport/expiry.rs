//! Certificates expire while connections stand: HTTP/1, HTTP/2 and tunnels, of clients to us and of us to servers.

use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use http::{Request, StatusCode};
use portcullis::{
    body::Body,
    identity::PeerAddr,
    reject::RescueLayer,
    tls::{ClientTls, Material},
    transport::{Drain, Listener, Server},
    upstream::{Proxy, Upstream, Wire},
};
use rcgen::{CertificateParams, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, ServiceExt};

use super::{
    loopback, pass,
    peer::Peer,
    soon,
    trust::{CARTS, GET, ORDERS, Running, TUNNEL, asked, said, through},
    until,
};
use crate::support::certificates::{credentials, uri};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// What is in flight then may take so long, and a little more.
const GRACE: Duration = Duration::from_secs(31);

fn for_an_hour(params: &mut CertificateParams) {
    params.not_after = (SystemTime::now() + HOUR).into();
}

/// A server that ends no connection for anything else.
fn patient() -> Server {
    Server::new().idle_timeout(DAY).drain_idle_timeout(DAY)
}

#[tokio::test]
async fn an_http1_connection_ends_with_its_clients_certificate() {
    let running = Running::with(patient(), |tls| tls).await;
    let mut stream = running.connect_as(None, for_an_hour).await;
    let mut other = running.connect_as(None, |_| {}).await;
    for stream in [&mut stream, &mut other] {
        let answer = said(stream, GET).await;
        assert!(answer.ends_with("hello") && !answer.contains("connection: close"), "{answer}");
    }
    pass(HOUR).await;
    let answer = said(&mut stream, GET).await.to_ascii_lowercase();
    assert!(answer.ends_with("hello") && answer.contains("connection: close"), "{answer}");
    assert_eq!(said(&mut stream, GET).await, "");
    assert!(said(&mut other, GET).await.ends_with("hello"), "whose is valid goes on");
}

#[tokio::test]
async fn an_http2_connection_ends_with_its_clients_certificate() {
    let running = Running::with(patient(), |tls| tls).await;
    let stream = running.connect_as(Some(b"h2"), for_an_hour).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(asked(&mut client).await.unwrap(), 200);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = client.clone();
        waiting.spawn(async move {
            let request = Request::get("https://localhost/wait").body(()).unwrap();
            client.ready().await?.send_request(request, true)?.0.await
        });
    }
    until(|| running.site.begun() == 3).await;
    pass(HOUR).await;
    let why = soon(async {
        loop {
            match asked(&mut client).await {
                Ok(status) => assert_eq!(status, 200, "until it has heard of it"),
                Err(why) => return why,
            }
        }
    })
    .await;
    assert!(why.is_go_away() || why.is_io(), "{why:?}");
    running.site.open();
    let in_time = soon(waiting.join_next()).await.unwrap().unwrap();
    assert_eq!(in_time.unwrap().status(), StatusCode::OK, "what was in flight is answered");
    pass(GRACE).await;
    soon(waiting.join_next()).await.unwrap().unwrap().unwrap_err();
    until(|| running.connections.open() == 0).await;
}

#[tokio::test]
async fn a_tunnel_ends_with_its_clients_certificate() {
    let running = Running::with(patient(), |tls| tls).await;
    let mut tunnel = running.connect_as(None, for_an_hour).await;
    assert!(said(&mut tunnel, TUNNEL).await.starts_with("HTTP/1.1 101"));
    assert_eq!(said(&mut tunnel, b"one").await, "one");
    pass(HOUR).await;
    assert_eq!(said(&mut tunnel, b"two").await, "two");
    pass(GRACE).await;
    let mut rest = Vec::new();
    let _ = soon(tunnel.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{rest:?}");
}

/// A server whose certificate is valid for an hour, and who goes to it.
async fn with_a_server(wire: Wire) -> (Running, Proxy) {
    let running = Running::with(patient(), |tls| tls).await;
    let ours = running.old.issue(|params| {
        params.subject_alt_names = vec![uri(ORDERS), SanType::DnsName("localhost".try_into().unwrap())];
        for_an_hour(params);
    });
    running.ours.set(Material::new(ours, running.old.trust()));
    let theirs = credentials(running.old.workload(CARTS), running.old.trust());
    let endpoint = format!("localhost:{}", running.address.port());
    let upstream = Upstream::builder("orders")
        .endpoint(&*endpoint)
        .tls(&ClientTls::mutual(&theirs))
        .wire(wire)
        .idle_timeout(DAY)
        .http2_idle_timeout(DAY)
        .build()
        .unwrap();
    (running, Proxy::new(upstream).tunnel_idle_timeout(DAY))
}

/// A request that begins now could meet the other end's closing.
#[tokio::test]
async fn no_request_begins_shortly_before_the_servers_certificate_expires() {
    for wire in [Wire::Http1, Wire::Http2] {
        let (running, proxy) = with_a_server(wire).await;
        let opened = || running.connections.opened.load(Ordering::SeqCst);
        assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
        pass(HOUR - Duration::from_secs(60)).await;
        assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
        assert_eq!(opened(), 1, "{wire:?}");
        pass(Duration::from_secs(56)).await;
        assert_eq!(through(&proxy, "/").await.unwrap(), "hello");
        assert_eq!(opened(), 2, "{wire:?}: five seconds before it is over");
    }
}

/// What is in flight to a server whose certificate expires has its time, and no more.
#[tokio::test]
async fn a_long_answer_ends_with_the_servers_certificate() {
    for (wire, is_answered) in [Wire::Http1, Wire::Http2].map(|wire| [(wire, true), (wire, false)]).concat() {
        let (running, proxy) = with_a_server(wire).await;
        // Without a time limit of its own, which an hour would exceed.
        let mut request = Request::get("http://localhost/wait").body(Body::empty()).unwrap();
        request.extensions_mut().insert(PeerAddr::new(loopback()));
        let waiting = tokio::spawn(proxy.oneshot(request));
        until(|| running.site.begun() == 1).await;
        pass(HOUR).await;
        if is_answered {
            running.site.open();
        } else {
            pass(GRACE).await;
        }
        let answer = soon(waiting).await.unwrap();
        assert_eq!(answer.is_ok(), is_answered, "{wire:?}");
        if !is_answered {
            until(|| running.connections.open() == 0 && running.site.alive() == 0).await;
        }
    }
}

/// A WebSocket, as far as that is a tunnel, from a client in plain text.
#[tokio::test]
async fn a_tunnel_ends_with_the_servers_certificate() {
    let (running, proxy) = with_a_server(Wire::Http1).await;
    let (edge, drain) = (Listener::bind(loopback()).unwrap(), Drain::new());
    let address = edge.local_addr().unwrap();
    tokio::spawn(patient().drain(&drain).serve(edge, RescueLayer::new().layer(proxy)));
    let mut client = Peer::connect(address).await;
    client.send(TUNNEL).await;
    let head = client.response().await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let mut echo = async |said: &[u8; 3]| {
        client.0.write_all(said).await?;
        let mut heard = [0; 3];
        soon(client.0.read_exact(&mut heard)).await.map(|_| heard == *said)
    };
    assert!(echo(b"one").await.unwrap());
    pass(HOUR).await;
    assert!(echo(b"two").await.unwrap());
    pass(GRACE).await;
    echo(b"end").await.unwrap_err();
    until(|| running.connections.open() == 0).await;
}
