//! Endpoints of a file: found, asked, judged, and told of.
use std::net::SocketAddr;

use axum::{Router, http::StatusCode};
use portcullis::config::Config;

use super::world::{Directory, Gateway, Process, file, upstream, yaml_of};

/// An endpoint that fails all it is asked, but for `/healthz`.
async fn failing() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .route("/healthz", axum::routing::get(|| async { "ok" }))
        .fallback(|| async { StatusCode::INTERNAL_SERVER_ERROR });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

fn text(upstream: &str) -> String {
    file(&format!(
        "upstreams: {{ one: {{ {upstream} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: one }}] }}] }}]\n"
    ))
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    let line = metrics.lines().find(|line| line.starts_with(&format!("portcullis_{name}")));
    let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out_while_it_says_that_it_is_well() {
    let (good, bad) = (upstream("good").await, failing().await);
    let gateway = Gateway::of(&text(&format!(
        "endpoints: ['{good}', '{bad}'], healthCheck: {{ http: {{ path: /healthz }}, interval: 20ms, intervalJitter: 1ms }}, \
         outlierDetection: {{ consecutive5xx: 3, successRateStdevFactor: 0, failurePercentageThreshold: 0 }}"
    )))
    .await;
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(gateway.get("/", &[]).await.status == 500);
    }
    assert!((3..=4).contains(&failed), "{failed}");
    let status = gateway.until(|status| status["upstreams"][0]["endpoints"][0]["health"] == "healthy").await;
    let endpoints = status["upstreams"][0]["endpoints"].as_array().unwrap();
    let out = endpoints.iter().find(|endpoint| endpoint["address"] == bad.to_string()).unwrap();
    assert_eq!(out["withheld"], serde_json::json!(["ejected"]));
    assert_eq!((&out["ejected"]["cause"], &out["ejected"]["times"]), (&"consecutive_5xx".into(), &1.into()));
    assert_eq!(
        metric(&gateway, "outlier_ejections_total{upstream=\"one\",cause=\"consecutive_5xx\"}").await,
        1
    );
    assert_eq!(metric(&gateway, "upstream_endpoints_withheld{upstream=\"one\",reason=\"ejected\"}").await, 1);
    assert_eq!(metric(&gateway, "upstream_endpoints{upstream=\"one\"}").await, 2);
    assert!(metric(&gateway, "health_checks_total{upstream=\"one\",result=\"pass\"}").await >= 2);
}

#[tokio::test]
async fn a_file_of_endpoints_is_followed() {
    let (one, two) = (upstream("one").await, upstream("two").await);
    let directory = Directory::new("endpoints");
    directory.write("list.yaml", &format!("endpoints: ['{one}']\n"));
    directory.write("gateway.yaml", &text("discovery: { file: list.yaml }, preconnect: true"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("one /"));

    directory.write("list.yaml", &format!("{{\"endpoints\": [\"{two}\"]}}"));
    gateway.until(|status| status["upstreams"][0]["discovery"]["updates"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("two /"));

    directory.write("list.yaml", "endpoints: [nowhere\n");
    let status = gateway.until(|status| status["upstreams"][0]["discovery"]["failures"] == 1).await;
    let why = status["upstreams"][0]["discovery"]["stale"].as_str().unwrap();
    assert!(why.contains("list.yaml:"), "{why}");
    assert_eq!(metric(&gateway, "discovery_stale{upstream=\"one\"}").await, 1);
    assert!(gateway.get("/", &[]).await.text.starts_with("two /"));

    std::fs::remove_file(directory.path("list.yaml")).unwrap();
    gateway.until(|status| status["upstreams"][0]["discovery"]["failures"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("two /"));

    directory.write("list.yaml", "endpoints: []\n");
    gateway.until(|status| status["upstreams"][0]["discovery"]["updates"] == 3).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);

    directory.write("list.yaml", &format!("endpoints: ['{one}', '{two}']\n"));
    gateway.until(|status| status["upstreams"][0]["discovery"]["updates"] == 4).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
}

/// A process that is stopped takes connections and says nothing.
#[tokio::test]
async fn a_process_that_is_stopped_is_found_ill_and_well_again() {
    let directory = Directory::new("stopped");
    let endpoint = file(
        "upstreams: { no: { endpoints: ['127.0.0.1:9'] } }\nroutes: [{ name: r, rules: [{ backendRefs: [{ name: no }] }] }]\n",
    );
    directory.write("endpoint.yaml", &endpoint);
    let mut process = Process::start(&["--config", directory.path("endpoint.yaml").to_str().unwrap()]);
    let stopped = process.addresses(2).await["admin"];
    let gateway = Gateway::of(&text(&format!(
        "endpoints: ['{stopped}', '{}'], healthCheck: {{ http: {{ path: /healthz }}, interval: 20ms, intervalJitter: 0s, \
         noTrafficInterval: 20ms, timeout: 2s, unhealthyThreshold: 2 }}",
        upstream("good").await
    )))
    .await;
    let is = |health: &'static str| {
        gateway.until(move |status| status["upstreams"][0]["endpoints"][0]["health"] == health)
    };
    is("healthy").await;
    process.signal("STOP");
    is("unhealthy").await;
    for _ in 0..20 {
        assert!(gateway.get("/", &[]).await.text.starts_with("good /"));
    }
    process.signal("CONT");
    is("healthy").await;
    process.signal("KILL");
    is("unhealthy").await;
}

#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/find_and_watch_endpoints.md");
    let directory = Directory::new("endpoints-guide");
    for (part, name) in [(1, "gateway.yaml"), (2, "stock.yaml")] {
        let yaml = yaml_of(guide)[part - 1];
        directory.write(name, yaml);
    }
    let check = Config::file(directory.path("gateway.yaml")).check();
    assert!(check.is_accepted() && check.faults().is_empty(), "{check}");
}

#[cfg(feature = "dns")]
#[tokio::test]
async fn names_are_asked_for_at_the_servers_of_the_file() {
    let server = crate::upstream::dns::NameServer::start().await;
    let (one, two) = (upstream("one").await, upstream("two").await);
    server.addresses("here.test", 60, &[std::net::Ipv4Addr::LOCALHOST]);
    server.services("_http._tcp.orders.test", 1, &[(0, 1, one.port(), "here.test.")]);
    let (servers, port) = (format!("servers: ['{}'], minTtl: 1s", server.address), two.port());
    let gateway = Gateway::of(&file(&format!(
        "upstreams:\n  srv: {{ discovery: {{ dns: {{ srv: _http._tcp.orders.test, {servers} }} }} }}\n  \
         named: {{ discovery: {{ dns: {{ address: 'here.test:{port}', resolver: dns, {servers} }} }} }}\n  \
         system: {{ discovery: {{ dns: {{ address: 'localhost:{port}' }} }} }}\n\
         routes: [{{ name: r, rules: [{{ matches: [{{ path: {{ value: /srv }} }}], backendRefs: [{{ name: srv }}] }}, \
         {{ matches: [{{ path: {{ value: /named }} }}], backendRefs: [{{ name: named }}] }}, \
         {{ name: rest, backendRefs: [{{ name: system }}] }}] }}]\n"
    )))
    .await;
    for (path, name) in [("/srv", "one /"), ("/named", "two /"), ("/", "two /")] {
        assert!(gateway.get(path, &[]).await.text.starts_with(name), "{path}");
    }
    server.services("_http._tcp.orders.test", 1, &[(0, 1, port, "here.test.")]);
    gateway
        .until(|status| {
            let upstreams = status["upstreams"].as_array().unwrap();
            let srv = upstreams.iter().find(|upstream| upstream["name"] == "srv").unwrap();
            srv["endpoints"][0]["address"] == format!("127.0.0.1:{port}")
        })
        .await;
    assert!(gateway.get("/srv", &[]).await.text.starts_with("two /"));
}

#[test]
fn what_is_wrong_with_discovery_is_told_at_its_place() {
    for (said, told) in [
        ("file: a, dns: { address: 'a:1' }", "expected exactly one of `file`, `dns` and `redis`"),
        ("dns: {}", "discovery.dns: expected exactly one of `address` and `srv`"),
        ("dns: { address: 'a' }", "discovery.dns.address: expected a host name and a port"),
        ("dns: { address: 'a:1', minTtl: 2s }", "discovery.dns.minTtl: only with `resolver: dns`"),
        ("dns: { srv: a.test, resolver: system }", "discovery.dns.resolver: the system knows no SRV records"),
        (
            "dns: { srv: a.test, servers: ['192.0.2.1:53'], minTtl: 9s, maxTtl: 8s }",
            "discovery.dns.maxTtl: shorter than `minTtl`",
        ),
        ("redis: { server: shared, key: a }", "discovery.redis.server: no server of this name"),
    ] {
        let check = Config::text("f", text(&format!("discovery: {{ {said} }}"))).check();
        let faults: Vec<_> = check.faults().iter().map(ToString::to_string).collect();
        assert!(faults.iter().any(|fault| fault.contains(told)), "{told}: {faults:?}");
    }
}

/// The key of a real server, and that server gone.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_key_of_a_redis_server_is_followed() {
    use crate::support::redis::Server;

    let (one, two) = (upstream("one").await, upstream("two").await);
    let mut server = Server::start();
    let write = |server: &Server, endpoints: String| server.set_value("endpoints:one", endpoints.as_bytes());
    write(&server, format!("{{\"endpoints\": [{{\"address\": \"{one}\", \"weight\": 2}}]}}"));
    let gateway = Gateway::of(&format!(
        "{}redis: {{ shared: {{ url: {:?} }} }}\n",
        text("discovery: { redis: { server: shared, key: 'endpoints:one', interval: 100ms } }"),
        server.url()
    ))
    .await;
    assert!(gateway.get("/", &[]).await.text.starts_with("one /"));
    assert_eq!(gateway.status().await["upstreams"][0]["endpoints"][0]["weight"], 2);

    write(&server, format!("endpoints: ['{two}']"));
    gateway.until(|status| status["upstreams"][0]["discovery"]["updates"] == 2).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("two /"));

    let nothing = "redis:endpoints:one: there is nothing in it";
    for (command, why) in [
        ("SET endpoints:one endpoints:nowhere", "redis:endpoints:one:1:"),
        ("DEL endpoints:one", nothing),
        ("SETRANGE endpoints:one 1100000 x", "redis:endpoints:one: larger than 1 MiB"),
        ("DEL endpoints:one", nothing),
        ("SADD endpoints:one member", "redis:endpoints:one: "),
    ] {
        server.ask(command);
        let is = |status: &serde_json::Value| {
            status["upstreams"][0]["discovery"]["stale"].as_str().is_some_and(|stale| stale.starts_with(why))
        };
        gateway.until(is).await;
        assert!(gateway.get("/", &[]).await.text.starts_with("two /"), "{command:?}");
    }
    server.ask("DEL endpoints:one");
    write(&server, format!("endpoints: ['{one}']"));
    gateway.until(|status| status["upstreams"][0]["discovery"]["stale"].is_null()).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("one /"));

    server.kill();
    gateway.until(|status| !status["upstreams"][0]["discovery"]["stale"].is_null()).await;
    assert!(gateway.get("/", &[]).await.text.starts_with("one /"));
}
