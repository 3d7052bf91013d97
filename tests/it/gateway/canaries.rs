//! Canaries over real sockets: a bad one is taken back, a good one gets everything, and nobody is sent to and fro.
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request, response::Response};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::{client::legacy::Client as Legacy, rt::TokioExecutor};
use portcullis::config::Config;
use serde_json::Value;
use tokio::net::TcpListener;

use super::world::{Directory, Gateway, PATIENCE, file, yaml_of};
use crate::support::log::Log;

/// A version that answers everything like this, and how often it was asked.
async fn version(answer: fn() -> Response) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let app = Router::new().fallback(move |_: Request| {
        count.fetch_add(1, Ordering::Relaxed);
        async move { answer() }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, asked)
}

fn works() -> Response {
    Response::new("answer".into())
}

fn fails() -> Response {
    Response::builder().status(500).body("failure".into()).unwrap()
}

/// Says that it is well, and in its trailers that it is not.
fn fails_in_trailers() -> Response {
    grpc("14")
}

fn works_in_trailers() -> Response {
    grpc("0")
}

fn grpc(status: &'static str) -> Response {
    let trailers = [(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static(status))];
    let frames =
        [Frame::data(Bytes::from_static(b"\0\0\0\0\0")), Frame::trailers(trailers.into_iter().collect())];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>)));
    Response::builder().header("content-type", "application/grpc").body(axum::body::Body::new(body)).unwrap()
}

const QUICK: &str = "minTime: 0s, minCalls: 20, failures: { margin: 10% }, latency: { ignore: true }";

fn text(old: SocketAddr, new: SocketAddr, canary: &str) -> String {
    file(&format!(
        "upstreams: {{ old: {{ endpoints: ['{old}'] }}, new: {{ endpoints: ['{new}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: old }}, {{ name: new }}], \
         policies: {{ split: {{ by: {{ header: x-tenant }}, variantHeader: x-version, {canary} }} }} }}] }}]\n"
    ))
}

/// Asks as one tenant after the other, until the canary is in this state; the versions that answered, and how many answers
/// were failures.
async fn ask_until(gateway: &Gateway, state: &str) -> (BTreeMap<u32, Vec<String>>, usize) {
    let (mut seen, mut failed) = (BTreeMap::<u32, Vec<String>>::new(), 0);
    let began = tokio::time::Instant::now();
    loop {
        for tenant in 0..40_u32 {
            let answer = gateway.get("/", &[("x-tenant", &tenant.to_string())]).await;
            failed += usize::from(answer.status >= 500);
            seen.entry(tenant).or_default().push(answer.headers["x-version"].to_str().unwrap().to_owned());
        }
        let now = canary(gateway).await;
        if now["state"] == state {
            return (seen, failed);
        }
        assert!(began.elapsed() < PATIENCE, "{now}");
    }
}

async fn canary(gateway: &Gateway) -> Value {
    gateway.status().await["canaries"][0].clone()
}

/// Which versions answer 20 requests of as many tenants.
async fn versions(gateway: &Gateway) -> Vec<String> {
    let mut all = Vec::new();
    for tenant in 100..120_u32 {
        let answer = gateway.get("/", &[("x-tenant", &tenant.to_string())]).await;
        all.push(answer.headers["x-version"].to_str().unwrap().to_owned());
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[tokio::test]
async fn a_bad_version_is_rolled_back() {
    let (log, _guard) = Log::start();
    let ((old, _), (new, asked)) = (version(works).await, version(fails).await);
    let gateway = Gateway::of(&text(old, new, &format!("canary: {{ steps: [25%], {QUICK} }}"))).await;
    let (_, failed) = ask_until(&gateway, "rolled_back").await;
    // Seven failures suffice, and it is asked about after 40 requests, of which it has had a quarter.
    assert!((7..40).contains(&failed) && asked.load(Ordering::Relaxed) == failed, "{failed}");
    assert_eq!(versions(&gateway).await, ["old"]);
    let canary = canary(&gateway).await;
    assert_eq!(
        (&canary["worse"], &canary["share"], &canary["rollbacks"]),
        (&"failures".into(), &"0%".into(), &1.into())
    );
    let lines = log.of("portcullis::canary");
    let line = &lines[0]["fields"];
    assert_eq!(
        (&line["canary"], &line["before"], &line["share"]),
        (&"r/all".into(), &"25%".into(), &"0%".into())
    );
    assert_eq!((&line["new_calls"], &line["old_failed"]), (&line["new_failed"], &0.into()));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_canary_rollbacks_total{route="r/all"} 1"#,
        r#"portcullis_canary_state{route="r/all",state="rolled_back"} 1"#,
        r#"portcullis_canary_state{route="r/all",state="running"} 0"#,
        r#"portcullis_canary_share_ratio{route="r/all"} 0"#,
        r#"portcullis_requests_total{route="r/all",variant="new""#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_version_that_fails_in_trailers_is_rolled_back() {
    let ((old, _), (new, asked)) = (version(works_in_trailers).await, version(fails_in_trailers).await);
    let gateway = Gateway::of(&text(old, new, &format!("canary: {{ steps: [50%], {QUICK} }}"))).await;
    let client = Legacy::builder(TokioExecutor::new()).http2_only(true).build_http::<axum::body::Body>();
    for tenant in 0..400_u32 {
        let request = http::Request::post(format!("http://{}/stock.Stock/Get", gateway.at("public")))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-tenant", tenant)
            .body(axum::body::Body::empty());
        let response = client.request(request.unwrap()).await.unwrap();
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
    }
    let canary = canary(&gateway).await;
    assert_eq!((&canary["state"], &canary["worse"]), (&"rolled_back".into(), &"failures".into()));
    let asked = asked.load(Ordering::Relaxed);
    assert!((7..40).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_good_version_gets_everybody_and_nobody_goes_back() {
    let ((old, _), (new, _)) = (version(works).await, version(works).await);
    let gateway = Gateway::of(&text(old, new, &format!("canary: {{ steps: [10%, 50%], {QUICK} }}"))).await;
    let (seen, failed) = ask_until(&gateway, "promoted").await;
    assert_eq!(failed, 0);
    let mut moved = 0;
    for versions in seen.values() {
        let first = versions.iter().position(|version| version == "new").unwrap_or(versions.len());
        assert!(versions[first..].iter().all(|version| version == "new"), "{versions:?}");
        moved += usize::from((1..versions.len()).contains(&first));
    }
    assert!(moved >= 10, "{moved} of 40 have moved");
    assert_eq!(versions(&gateway).await, ["new"]);
}

/// A reload of the same leaves it where it is; one with another schedule or release is another canary.
#[tokio::test]
async fn it_survives_a_reload() {
    let ((old, _), (new, _)) = (version(works).await, version(fails).await);
    let directory = Directory::new("canaries");
    let written = |rest: &str| {
        let text = text(old, new, &format!("canary: {{ steps: [50%], {QUICK}{rest} }}"));
        directory.write("gateway.yaml", &format!("{text}# {rest}\n"));
    };
    written("");
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    ask_until(&gateway, "rolled_back").await;
    let mut generation = 1;
    let mut reload = async |rest: &str| {
        written(rest);
        generation += 1;
        let status = gateway.until(|status| status["generation"] == generation).await;
        (
            status["canaries"][0]["state"].as_str().unwrap().to_owned(),
            status["canaries"][0]["share"].as_str().unwrap().to_owned(),
        )
    };
    let is = |state: &str, share: &str| (state.to_owned(), share.to_owned());
    assert_eq!(reload(" ").await, is("rolled_back", "0%"));
    assert_eq!(reload(", steer: promote").await, is("promoted", "100%"));
    assert_eq!(reload(", steer: abort").await, is("aborted", "0%"));
    assert_eq!(reload(", steer: run").await, is("running", "50%"));
    assert_eq!(reload(", steer: pause").await, is("paused", "50%"));
    assert_eq!(reload(", steer: pause, release: v2").await, is("paused", "0%"));
    assert_eq!(reload(", steer: run, release: v2").await, is("running", "50%"));
    assert_eq!(reload(", steer: abort, release: v2").await, is("aborted", "0%"));
    assert_eq!(reload(", alpha: 4%, steer: abort").await, is("aborted", "0%"));
}

/// All at once, and back at once: by the handle, by the file's weights.
#[tokio::test]
async fn blue_and_green_are_switched() {
    let ((old, _), (new, _)) = (version(works).await, version(works).await);
    let gateway = Gateway::of(&text(old, new, "canary: { steps: [100%], steer: pause }")).await;
    let handle = gateway.configured.gateway().canary("r/all").unwrap();
    assert!(gateway.configured.gateway().canary("r/none").is_none());
    assert_eq!(versions(&gateway).await, ["old"]);
    handle.promote();
    assert_eq!(versions(&gateway).await, ["new"]);
    handle.abort();
    assert_eq!(versions(&gateway).await, ["old"]);

    let directory = Directory::new("blue-green");
    let weights = |blue: u32, green: u32| {
        let text = text(old, new, "");
        let text = text.replace("{ name: old }", &format!("{{ name: old, weight: {blue} }}"));
        directory.write(
            "gateway.yaml",
            &text.replace("{ name: new }", &format!("{{ name: new, weight: {green} }}")),
        );
    };
    weights(1, 0);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(versions(&gateway).await, ["old"]);
    for (generation, (blue, green), serves) in [(2, (0, 1), "new"), (3, (1, 0), "old")] {
        weights(blue, green);
        gateway.until(|status| status["generation"] == generation).await;
        assert_eq!(versions(&gateway).await, [serves]);
    }
}

/// An A/B test: who got what is told to the client, and counted and logged by its name.
#[tokio::test]
async fn variants_are_told_apart() {
    let (log, _guard) = Log::start();
    let ((old, _), (new, asked)) = (version(works).await, version(works).await);
    let gateway = Gateway::of(&text(old, new, "")).await;
    let mut told = Vec::new();
    for tenant in 0..40_u32 {
        let answer = gateway.get("/", &[("x-tenant", &tenant.to_string())]).await;
        told.push(answer.headers["x-version"].to_str().unwrap().to_owned());
    }
    let of_new = told.iter().filter(|version| *version == "new").count();
    assert!((5..=35).contains(&of_new) && asked.load(Ordering::Relaxed) == of_new, "{of_new} of 40");
    let mut logged: Vec<_> =
        log.access(40).await.iter().map(|line| line["variant"].as_str().unwrap().to_owned()).collect();
    logged.sort_unstable();
    told.sort_unstable();
    assert_eq!(logged, told);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for (variant, count) in [("new", of_new), ("old", 40 - of_new)] {
        let labels =
            format!(r#"route="r/all",variant="{variant}",method="GET",status="200",verdict="success""#);
        let sample = format!("portcullis_requests_total{{{labels}}} {count}");
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    }
}

/// The files of the guide are accepted as they stand.
#[test]
fn the_files_of_the_guide_are_sound() {
    let guide = include_str!("../../../docs/guides/canary_that_rolls_itself_back.md");
    let files = yaml_of(guide);
    assert_eq!(files.len(), 2);
    for yaml in files {
        let check = Config::text("gateway.yaml", yaml).check();
        assert!(check.is_accepted(), "{check}");
    }
}
