//! Reloads, and the end.
use std::time::Duration;

use portcullis::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{OPEN, Server, connect, counted, ended, file, forwarding, hear, number, pass, rest, soon, until};
use crate::{
    gateway::world::{Directory, Gateway},
    support::log::Log,
};

#[tokio::test]
async fn connections_are_waited_for_and_then_cut() {
    let (log, _guard) = Log::start();
    let server = Server::echo().await;
    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "hello");
    let running = gateway.configured.gateway().clone();
    let ending = tokio::spawn(async move { running.shutdown(Duration::ZERO, Duration::from_secs(30)).await });
    until(|| gateway.configured.gateway().is_draining()).await;
    // It goes on while it is waited for.
    client.write_all(b"again").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "again");
    drop(client);
    assert_eq!(soon(ending).await.unwrap(), 0, "nothing was cut");

    let gateway = forwarding(&[server.address], "", "").await;
    let mut client = connect(&gateway).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "hello");
    let cut = soon(gateway.configured.gateway().shutdown(Duration::ZERO, Duration::from_millis(50))).await;
    assert_eq!(cut, 1);
    assert!(rest(&mut client).await.is_err(), "it is seen that it was cut");
    let lines = log.access(2).await;
    let how: Vec<_> = lines.iter().map(|line| line["ended"].as_str().unwrap_or_default()).collect();
    assert_eq!(how, ["closed", "cut"]);
}

#[tokio::test]
async fn a_connection_outlives_the_change_of_its_listener() {
    let (server, other) = (Server::echo().await, Server::echo().await);
    let directory = Directory::new("tcp-reload");
    directory.write("gateway.yaml", &file("protocol: tcp", &[server.address], "", ""));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let mut old = connect(&gateway).await;
    old.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut old, 5).await, "hello");

    // Another acceptor on the same socket, and another upstream.
    directory.write("gateway.yaml", &file("protocol: tcp, maxConnections: 7", &[other.address], "", ""));
    gateway.until(|status| status["generation"] == 2).await;
    pass(Duration::from_secs(120)).await;
    old.write_all(b"still").await.unwrap();
    assert_eq!(hear(&mut old, 5).await, "still");
    assert_eq!((server.taken(), other.taken()), (1, 0));
    let mut new = connect(&gateway).await;
    new.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut new, 5).await, "hello");
    assert_eq!((server.taken(), other.taken()), (1, 1));
    assert_eq!(number(&gateway, OPEN).await, Some(2), "both are counted");
    drop((old, new));
    counted(&gateway, OPEN, 0).await;
    counted(&gateway, &ended("closed"), 2).await;
    gateway.until(|status| status["drainingListeners"].as_array().unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_connection_is_cut_some_time_after_its_listener_is_gone() {
    let server = Server::echo().await;
    let directory = Directory::new("tcp-gone");
    let text = file("protocol: tcp", &[server.address], "", "");
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let mut client = connect(&gateway).await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "hello");
    directory.write("gateway.yaml", &text.replace("name: public", "name: other"));
    gateway.until(|status| status["generation"] == 2).await;
    client.write_all(b"again").await.unwrap();
    assert_eq!(hear(&mut client, 5).await, "again");
    pass(Duration::from_secs(31)).await;
    assert!(rest(&mut client).await.is_err());
    gateway.until(|status| status["drainingListeners"].as_array().unwrap().is_empty()).await;
}

/// Who may send bytes, and has servers break off, has them left out for nobody.
#[tokio::test]
async fn an_endpoint_that_breaks_off_is_not_left_out() {
    let servers = [(); 2].map(|()| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It does not read what has come, so that its end is a reset.
        std::thread::spawn(move || listener.incoming().for_each(|stream| _ = stream.unwrap().peek(&mut [0])));
        address
    });
    let detection = "outlierDetection: { consecutive5xx: 3, maxEjectionPercent: 100 }";
    let gateway = Gateway::of(&file("protocol: tcp", &servers, detection, "")).await;
    for _ in 0..20 {
        let mut client = tokio::net::TcpStream::connect(gateway.at("public")).await.unwrap();
        client.write_all(&[0; 4096]).await.unwrap();
        soon(client.read_to_end(&mut Vec::new())).await.unwrap_err();
    }
    let status = gateway.until(|status| status["tcpRoutes"][0]["connections"] == 20).await;
    for endpoint in status["upstreams"][0]["endpoints"].as_array().unwrap() {
        assert!(endpoint["ejected"].is_null(), "{endpoint:#}");
    }
}

/// What is said in the file that cannot be, and where.
#[tokio::test]
async fn what_cannot_be_is_refused() {
    let server = Server::echo().await;
    let of = |listener: &str, route: &str| problems(&file(listener, &[server.address], "", route));
    for (listener, route, found) in [
        (
            "protocol: http",
            "",
            "tcpRoutes[0]: no listener takes such connections: their `protocol` is `http`",
        ),
        (
            "protocol: detect",
            "listeners: [pubic]",
            "tcpRoutes[0].listeners[0]: no listener of this name; did you mean `public`?",
        ),
        (
            "protocol: http",
            "listeners: [public]",
            "tcpRoutes[0].listeners[0]: this listener takes nothing but HTTP: its `protocol` is `http`",
        ),
        (
            "protocol: tcp",
            "destinations: [10.0.0.0/8]",
            "tcpRoutes[0].destinations: takes no connection: only a `transparent` listener knows where connections were meant to go",
        ),
        (
            "protocol: tcp",
            "destinations: ['db:5432']",
            "tcpRoutes[0].destinations[0]: expected a network or an address, with a port or without, such as `10.0.0.0/8:5432` or `[fd00::/8]:5432`",
        ),
        (
            "protocol: tcp",
            "policies: { idleTimeout: 1ms }",
            "tcpRoutes[0].policies.idleTimeout: expected 10ms at least",
        ),
        (
            "protocol: tcp, detectTimeout: 1s",
            "",
            "listeners[0].detectTimeout: nothing is detected: `protocol` is not `detect`",
        ),
        (
            "protocol: tcp",
            "policies: { authorization: [nobody] }",
            "tcpRoutes[0].policies.authorization[0]: no policy of this name",
        ),
    ] {
        let all = of(listener, route);
        assert!(all.contains(&found.to_owned()), "{listener} {route}: {all:?}");
    }
}

fn problems(text: &str) -> Vec<String> {
    let check = Config::text("f", text).check();
    check.faults().iter().map(|fault| format!("{}: {}", fault.path, fault.problem)).collect()
}

#[tokio::test]
async fn a_listener_of_tcp_needs_a_route() {
    let server = Server::echo().await;
    for (listener, route) in [
        ("protocol: tcp", "listeners: [public]"),
        ("protocol: tcp, transparent: true", "destinations: ['10.0.0.0/8:5432', '[fd00::/8]:1']"),
    ] {
        assert_eq!(problems(&file(listener, &[server.address], "", route)), [""; 0]);
    }
    let routeless = file("protocol: tcp", &[server.address], "", "").replace("tcpRoutes: [", "x-unused: [");
    let routeless =
        routeless.lines().filter(|line| !line.starts_with("x-unused")).collect::<Vec<_>>().join("\n");
    let all = problems(&routeless);
    let expected =
        "listeners[0].protocol: nothing takes its connections: no route of `tcpRoutes` is for this listener";
    assert!(all.contains(&expected.to_owned()), "{all:?}");
}

/// What does nothing for connections is told, and what lets the client choose.
#[tokio::test]
async fn what_does_little_is_warned_of() {
    let said = |listener: &str, upstream: &str, rest: &str| {
        let text = file(listener, &[([127, 0, 0, 1], 9).into()], upstream, "") + rest;
        Config::text("f", text).check().to_string()
    };
    for (field, upstream) in [
        ("circuitBreaker", "circuitBreaker: {}"),
        ("retryConstraint", "retryConstraint: { budget: { percent: 10 } }"),
        ("concurrency", "concurrency: [c]"),
    ] {
        let limits = "concurrency: { c: { limit: 1 } }\n";
        let said = said("protocol: tcp", upstream, limits);
        let told = format!("the upstream's `{field}` is for requests: it does nothing for connections");
        assert!(said.contains(&told), "{told}:\n{said}");
    }
    let routes = "routes: [{ name: r, rules: [{ backendRefs: [{ name: servers }] }] }]\n";
    let told = "whoever says what is no HTTP gets there past what `r/0` asks";
    assert!(said("protocol: detect", "", routes).contains(told), "{}", said("protocol: detect", "", routes));
    assert!(!said("protocol: detect", "", "").contains("past what"));
}

/// Who may connect, asked by nobody, is told among who may ask.
#[tokio::test]
async fn routes_that_ask_nobody_are_told() {
    let said = |listener: &str, route: &str, rest: &str| {
        let text = file(listener, &[([127, 0, 0, 1], 9).into()], "", route) + rest;
        Config::text("f", text).check().to_string()
    };
    let policy = "authorization: { all: { action: allow, rules: [{}] } }\n";
    let open = said("protocol: tcp", "", "");
    assert!(open.contains("public rules, which ask nobody who they are:\n  raw (TCP)"), "{open}");
    let asked = said("protocol: tcp", "policies: { authorization: [all] }", policy);
    assert!(asked.ends_with("; no rule is public"), "{asked}");
}
