//! Endpoints of a file: found, asked, judged, and told of.
use std::net::SocketAddr;

use axum::{Router, http::StatusCode};
use portcullis::config::Config;

use super::world::{Directory, Gateway, Process, file, upstream};

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
    directory.write("gateway.yaml", &text("discovery: { file: list.yaml }"));
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
        let yaml = guide.split("```yaml\n").nth(part).unwrap().split("```").next().unwrap();
        directory.write(name, yaml);
    }
    let check = Config::file(directory.path("gateway.yaml")).check();
    assert!(check.is_accepted() && check.faults().is_empty(), "{check}");
}
