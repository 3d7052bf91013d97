use portcullis::transport::{Drain, Listener, ListenerBuilder, Server};
use tower::{Layer, service_fn};

use super::{
    Site, loopback,
    peer::{Peer, tunnel},
    serve, soon, until,
};

/// Opens three; tells which of them are served.
async fn three(settings: ListenerBuilder) -> Vec<bool> {
    let site = Site::default();
    let address = serve(&site, Server::new(), settings).await;
    let mut peers = Vec::new();
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut peer = Peer::connect(address).await;
        peer.flood(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let mut first = [0];
        let read = soon(tokio::io::AsyncReadExt::read(&mut peer.0, &mut first)).await;
        served.push(matches!(read, Ok(1)));
        peers.push(peer);
    }
    served
}

#[tokio::test]
async fn connections_are_capped() {
    assert_eq!(three(Listener::builder()).await, [true, true, true]);
    assert_eq!(three(Listener::builder().max_connections(2)).await, [true, true, false]);
    assert_eq!(three(Listener::builder().max_connections_per_address(1)).await, [true, false, false]);
    let uncapped =
        Listener::builder().max_connections_per_address(1).uncapped(["127.0.0.0/8".parse().unwrap()]);
    assert_eq!(three(uncapped).await, [true, true, true]);
}

#[tokio::test]
async fn places_are_given_back() {
    let site = Site::default();
    let address = serve(&site, Server::new(), Listener::builder().max_connections(1)).await;
    for _ in 0..3 {
        let mut peer = Peer::connect(address).await;
        peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(peer.rest_as_text().await.starts_with("HTTP/1.1 200"));
        drop(peer);
        // The place is free when the server has seen the end; until then it says no.
        until(|| site.alive() == 0).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_tunnel_keeps_its_place() {
    let site = Site::default();
    let address = serve(&site, Server::new(), Listener::builder().max_connections(1)).await;
    let mut tunnel = Peer::connect(address).await;
    tunnel.send("GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(tunnel.response().await.starts_with("HTTP/1.1 101"));
    let mut refused = Peer::connect(address).await;
    refused.flood(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(refused.rest().await.is_empty());
    tunnel.send("echo").await;
    let mut echo = [0; 4];
    soon(tokio::io::AsyncReadExt::read_exact(&mut tunnel.0, &mut echo)).await.unwrap();
    assert_eq!(&echo, b"echo");
}

#[tokio::test]
async fn a_tunnel_keeps_what_layers_hold() {
    let requests = Drain::new();
    let service = service_fn(|request| async { Ok::<_, std::convert::Infallible>(tunnel(request)) });
    let listener = Listener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().serve(listener, requests.layer().layer(service)));
    let mut peer = Peer::connect(address).await;
    peer.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(peer.response().await.starts_with("HTTP/1.1 101"));
    assert_eq!(requests.in_flight(), 1);
    peer.send("still here").await;
    let mut echo = [0; 10];
    soon(tokio::io::AsyncReadExt::read_exact(&mut peer.0, &mut echo)).await.unwrap();
    assert_eq!(requests.in_flight(), 1);
    drop(peer);
    until(|| requests.in_flight() == 0).await;
}

#[tokio::test]
async fn a_socket_changes_hands() {
    let old = Listener::bind(loopback()).unwrap();
    let address = old.local_addr().unwrap();
    assert!(Listener::bind(address).is_err(), "an address in use is told");
    let waiting = Peer::connect(address).await;
    let mut new = old.reopen(Listener::builder().max_connections(7)).unwrap();
    drop(old);
    let first = soon(new.accept()).await;
    assert_eq!(first.socket_peer(), waiting.0.local_addr().unwrap(), "who waited is not lost");
    assert_eq!(first.local_addr().unwrap(), address);
    let second = Peer::connect(address).await;
    assert_eq!(soon(new.accept()).await.peer().socket_addr(), second.0.local_addr().unwrap());
    new.close();
    assert!(soon(new.next()).await.is_none());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
