//! Listeners that are gone, or go the other way, while somebody is on the way in.
use std::{net::SocketAddr, time::Duration};

use portcullis::{config::Config, stack::gateway::Direction};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Server, hear, rest, soon, until};
use crate::{
    gateway::world::{Directory, Gateway, upstream},
    support::log::Log,
};

/// What comes in goes to `open`, from whoever is not denied.
fn inbound(open: SocketAddr, listener: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ open: {{ endpoints: ['{open}'] }} }}\n\
         inbound: {{ listeners: [{{ name: in, address: 127.0.0.1:0, {listener} }}] }}\n\
         tcpRoutes: [{{ name: in, backendRefs: [{{ name: open }}] }}]\n"
    )
}

/// Nothing comes in any more; what goes out goes to `secret`.
fn outbound(secret: SocketAddr, name: &str) -> String {
    format!(
        "apiVersion: portcullis/v1alpha1\n\
         admin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ secret: {{ endpoints: ['{secret}'] }} }}\n\
         outbound: {{ listeners: [{{ name: {name}, address: 127.0.0.1:0, protocol: tcp }}] }}\n\
         tcpRoutes: [{{ name: out, backendRefs: [{{ name: secret }}] }}]\n"
    )
}

async fn connect(gateway: &Gateway, listener: &str) -> TcpStream {
    let stream = soon(TcpStream::connect(gateway.at(listener))).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Until the first connection of this listener is there.
async fn accepted(gateway: &Gateway, listener: &str) {
    let is_it = |one: &serde_json::Value| one["name"] == listener && one["connections"] == 1;
    gateway.until(|status| status["listeners"].as_array().unwrap().iter().any(is_it)).await;
}

/// Whoever came in by what was inbound gets what is inbound, under the list of addresses that was there, whatever is in force by then.
#[tokio::test]
async fn who_was_kept_out_stays_out_and_who_was_let_in_goes_nowhere_else() {
    for (denied, name) in [(true, "out"), (true, "in"), (false, "out"), (false, "in")] {
        let (log, _guard) = Log::start();
        let (open, secret) = (Server::echo().await, Server::echo().await);
        let directory = Directory::new("tcp-moved");
        let addresses = if denied { "addresses: { deny: [127.0.0.0/8] }" } else { "" };
        let listener = format!("protocol: detect, detectTimeout: 30s, {addresses}");
        directory.write("gateway.yaml", &inbound(open.address, &listener));
        let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
        let mut client = connect(&gateway, "in").await;
        client.write_all(b"G").await.unwrap();
        accepted(&gateway, "in").await;
        directory.write("gateway.yaml", &outbound(secret.address, name));
        gateway.until(|status| status["generation"] == 2).await;
        let _ = client.write_all(b"\0stranger").await;
        if denied {
            assert!(rest(&mut client).await.is_err(), "it is reset");
            let is_it = |line: &serde_json::Value| line["fields"]["reason"] == "address_denied";
            until(|| log.of("portcullis::access").iter().any(is_it)).await;
        } else {
            assert_eq!(hear(&mut client, 10).await, "G\0stranger");
        }
        assert_eq!((open.taken(), secret.taken()), (usize::from(!denied), 0), "{denied} {name}");
        // Who comes now has come out.
        let mut client = connect(&gateway, name).await;
        client.write_all(b"hello").await.unwrap();
        assert_eq!(hear(&mut client, 5).await, "hello");
        assert_eq!(secret.taken(), 1);
    }
}

/// A request that is on its way while its listener turns round has come in.
#[tokio::test]
async fn a_request_goes_the_way_of_the_listener_that_it_came_by() {
    let (inner, outer) = (upstream("inner").await, upstream("outer").await);
    let text = |side: &str, to: SocketAddr| {
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             admin: {{ address: 127.0.0.1:0 }}\n\
             upstreams: {{ one: {{ endpoints: ['{to}'] }} }}\n\
             {side}: {{ listeners: [{{ name: side, address: 127.0.0.1:0 }}], \
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}] }}\n"
        )
    };
    let directory = Directory::new("http-moved");
    directory.write("gateway.yaml", &text("inbound", inner));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let mut client = connect(&gateway, "side").await;
    client.write_all(b"GET /orders HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    accepted(&gateway, "side").await;
    directory.write("gateway.yaml", &text("outbound", outer));
    gateway.until(|status| status["generation"] == 2).await;
    client.write_all(b"connection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("inner /orders"), "{answer}");
    let answer = gateway.client.get(gateway.at("side"), "/orders", &[]).await;
    assert!(answer.text.starts_with("outer /orders"), "{answer:?}");
}

/// A listener that becomes one of the other side leaves with that side.
#[tokio::test]
async fn a_listener_goes_down_with_the_side_that_it_is_of() {
    let behind = upstream("one").await;
    let text = |side: &str| {
        let listed = "listeners: [{ name: side, address: 127.0.0.1:0 }]";
        let routes = "routes: [{ name: r, rules: [{ backendRefs: [{ name: one }] }] }]";
        let said = match side {
            "" => format!("{listed}\n{routes}"),
            _ => format!("{side}: {{ {listed}, {routes} }}"),
        };
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             admin: {{ address: 127.0.0.1:0 }}\n\
             upstreams: {{ one: {{ endpoints: ['{behind}'] }} }}\n{said}\n"
        )
    };
    let directory = Directory::new("listener-moved");
    directory.write("gateway.yaml", &text(""));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let address = gateway.at("side");
    directory.write("gateway.yaml", &text("inbound"));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.at("side"), address, "the socket is the same");
    assert_eq!(gateway.client.get(address, "/", &[]).await.status, 200);
    soon(gateway.configured.gateway().leave(Direction::Inbound, Duration::ZERO, Duration::ZERO)).await;
    assert!(TcpStream::connect(address).await.is_err(), "it takes nobody any more");
}
