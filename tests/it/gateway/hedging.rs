//! What is sent a second time because the first is late, over real sockets: how often upstreams are asked, and who answers.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::Request};
use http_body_util::BodyExt;
use portcullis::config::Config;
use tokio::{net::TcpListener, sync::watch};

use super::world::{Directory, Gateway, file, yaml_of};
use crate::support::log::Log;

/// An endpoint that counts its requests, and answers with the request's body: at once, or never.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    /// Requests that are in its hands.
    held: watch::Sender<usize>,
}

impl Endpoint {
    async fn new(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (asked, held) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let this = Self { address: listener.local_addr().unwrap(), asked, held };
        let endpoint = this.clone();
        let app = Router::new().fallback(move |request: Request| endpoint.clone().serve(answers, request));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        this
    }

    async fn serve(self, answers: bool, request: Request) -> http::Response<axum::body::Body> {
        let is_grpc = request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !answers {
            let _held = Held::new(self.held);
            std::future::pending::<()>().await;
        }
        let mut response = http::Response::new(axum::body::Body::from(body));
        if is_grpc {
            response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            response.headers_mut().insert("grpc-status", "0".parse().unwrap());
        }
        response
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Until nothing is in its hands: whoever was cancelled has let go.
    async fn idle(&self) {
        let mut held = self.held.subscribe();
        tokio::time::timeout(super::world::PATIENCE, held.wait_for(|held| *held == 0))
            .await
            .unwrap()
            .unwrap();
    }
}

struct Held(watch::Sender<usize>);

impl Held {
    fn new(held: watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

/// A gateway in front of one endpoint that hangs and one that works, asked in turn.
struct Stage {
    hangs: Endpoint,
    works: Endpoint,
}

impl Stage {
    async fn new() -> Self {
        Self { hangs: Endpoint::new(false).await, works: Endpoint::new(true).await }
    }

    fn text(&self, upstream: &str, rule: &str) -> String {
        file(&format!(
            "upstreams: {{ fleet: {{ endpoints: ['{}', '{}'] {upstream} }} }}\n\
             routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: fleet }}], {rule} }}] }}]\n",
            self.hangs.address, self.works.address
        ))
    }

    async fn gateway(&self, upstream: &str, rule: &str) -> Gateway {
        Gateway::of(&self.text(upstream, rule)).await
    }
}

/// Every second request goes to an endpoint that never answers, and nobody notices; what was in its hands is taken back.
#[tokio::test]
async fn an_endpoint_that_hangs_is_seen_by_nobody() {
    for headers in [&[][..], &[("content-type", "application/grpc")]] {
        let stage = Stage::new().await;
        let rule = "policies: { hedge: { delay: 100ms, dangerAnyMethod: true } }, timeouts: { request: 60s }";
        let gateway = stage.gateway(", retryConstraint: { budget: { percent: 100 } }", rule).await;
        for _ in 0..20 {
            let answer = gateway.client.send("POST", gateway.at("public"), "/", headers).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        let (hangs, works) = (stage.hangs.asked(), stage.works.asked());
        assert!(
            works == 20 && (1..=20).contains(&hangs),
            "what hung was sent elsewhere, once: {hangs} {works}"
        );
        // A slow machine may be late by itself.
        stage.hangs.idle().await;
        let status = gateway.status().await;
        let (rule, budget) = (&status["retries"]["hedges"][0], &status["retries"]["budgets"][0]);
        assert_eq!((&rule["rule"], &rule["delayMillis"]), (&"r/all".into(), &100.0.into()));
        let hedges = rule["hedges"].as_u64().unwrap();
        assert!(rule["won"].as_u64() >= Some(1) && hedges as usize >= hangs, "{status}");
        assert_eq!(
            (&rule["cancelled"], &budget["spent"], &budget["calls"]),
            (&hedges.into(), &hedges.into(), &20.into())
        );
    }
}

/// No storm of hedges where all endpoints are slow: 20%, and no floor.
#[tokio::test]
async fn when_all_are_slow_there_are_few_calls_more() {
    let (one, other) = (Endpoint::new(false).await, Endpoint::new(false).await);
    let stage = Stage { hangs: one, works: other };
    let constraint = ", retryConstraint: { minRetryRate: { count: 0 } }";
    let rule = "policies: { hedge: { delay: 1ms } }, timeouts: { request: 200ms }";
    let gateway = stage.gateway(constraint, rule).await;
    for _ in 0..5 {
        let asks = (0..20).map(|_| {
            let (client, at) = (gateway.client.clone(), gateway.at("public"));
            tokio::spawn(async move { client.get(at, "/", &[]).await.status })
        });
        for asked in asks.collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap(), 504);
        }
    }
    let asked = stage.hangs.asked() + stage.works.asked();
    assert!(asked <= 120, "{asked} calls");
    let status = gateway.status().await;
    let rule = &status["retries"]["hedges"][0];
    assert!(rule["stopped"]["budget"].as_u64() > Some(0), "{rule}");
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_sent_once() {
    let stage = Stage::new().await;
    let rule = "policies: { hedge: { delay: 1ms } }, timeouts: { request: 300ms }";
    let gateway = stage.gateway("", rule).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = gateway.client.send("POST", gateway.at("public"), "/", &[]).await.unwrap();
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses, stage.hangs.asked(), stage.works.asked()), (vec![200, 200, 504, 504], 2, 2));
}

/// A limit in front of the upstream holds for the second attempt, too: there is none, and the first goes on.
#[tokio::test]
async fn a_full_upstream_gets_no_second_attempt() {
    let stage = Stage::new().await;
    let rule = "policies: { hedge: { delay: 1ms } }, timeouts: { request: 300ms }";
    let guarded = stage.text(", concurrency: [one]", rule) + "concurrency: { one: { max: 1 } }\n";
    let gateway = Gateway::of(&guarded).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(gateway.get("/", &[]).await.status);
        stage.hangs.idle().await;
    }
    statuses.sort_unstable();
    assert_eq!((statuses, stage.hangs.asked(), stage.works.asked()), (vec![200, 200, 504, 504], 2, 2));
}

/// The log names the endpoint whose answer was given, metrics count, and a reload takes no number back.
#[tokio::test]
async fn log_and_metrics_tell_of_it() {
    let (log, _guard) = Log::start();
    let (stage, directory) = (Stage::new().await, Directory::new("hedging"));
    let written = |delay| stage.text("", &format!("policies: {{ hedge: {{ delay: {delay} }} }}"));
    directory.write("gateway.yaml", &written("200ms"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    for _ in 0..2 {
        assert_eq!(gateway.get("/", &[]).await.status, 200);
    }
    let lines = log.access(2).await;
    let works = stage.works.address.to_string();
    assert!(lines.iter().all(|line| line["endpoint"] == *works), "{lines:?}");
    directory.write("gateway.yaml", &written("300ms"));
    let status = gateway.until(|status| status["generation"] == 2).await;
    let rule = &status["retries"]["hedges"][0];
    let won = lines.iter().filter(|line| line["attempts"] == 2).count();
    assert!(won > 0 && rule["won"] == won, "{rule} {lines:?}");
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for (name, value) in [
        (r#"hedges_total{route="r/all"}"#, rule["hedges"].to_string()),
        (r#"hedges_won_total{route="r/all"}"#, rule["won"].to_string()),
        (r#"hedges_cancelled_total{route="r/all"}"#, rule["cancelled"].to_string()),
        (r#"hedges_stopped_total{route="r/all",reason="budget"}"#, "0".to_owned()),
        (r#"hedge_delay_seconds{route="r/all"}"#, "0.3".to_owned()),
    ] {
        let sample = format!("portcullis_{name} {value}\n");
        assert!(metrics.contains(&sample), "{sample} is not in {metrics}");
    }
}

/// What contradicts itself is refused by name, and what is odd is warned of.
#[test]
fn what_makes_no_sense_is_refused() {
    let check = |upstream: &str, rule: &str| {
        let text = file(&format!(
            "upstreams: {{ fleet: {{ endpoints: [127.0.0.1:9001] {upstream} }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: fleet }}], {rule} }}] }}]\n"
        ));
        Config::text("f", text).check().to_string()
    };
    let zero = ", retryConstraint: { budget: { percent: 0 }, minRetryRate: { count: 0 } }";
    for (upstream, rule, said) in [
        ("", "policies: { hedge: {} }", "hedge: expected exactly one of `delay` and `percentile`"),
        ("", "policies: { hedge: { delay: 1s, percentile: 95% } }", "hedge: expected exactly one of"),
        ("", "policies: { hedge: { delay: 15s } }", "hedge.delay: as long as the whole request may take"),
        (
            "",
            "policies: { hedge: { delay: 2s } }, timeouts: { backendRequest: 2s }",
            "hedge.delay: as long as an attempt may take",
        ),
        (
            "",
            "policies: { hedge: { percentile: 99%, minDelay: 1m } }",
            "hedge.minDelay: as long as the whole request may take",
        ),
        ("", "policies: { hedge: { percentile: 100% } }", "hedge.percentile: expected more than 0%"),
        ("", "policies: { hedge: { delay: 1s, minDelay: 1s } }", "hedge.minDelay: is for a `percentile`"),
        (
            "",
            "policies: { hedge: { delay: 1s, maxAttempts: 6 } }",
            "hedge.maxAttempts: expected a number from 2 to 5",
        ),
        (
            zero,
            "policies: { hedge: { delay: 1s } }",
            "hedge: the `retryConstraint` of the upstream `fleet` allows no",
        ),
        (
            "",
            "matches: [{ method: POST }], policies: { hedge: { delay: 1s } }",
            "warning: routes[0].rules[0].policies.hedge: these methods are not idempotent",
        ),
        (
            "",
            "policies: { hedge: { delay: 0s } }",
            "warning: routes[0].rules[0].policies.hedge.delay: each request",
        ),
    ] {
        let told = check(upstream, rule);
        assert!(told.contains(said), "{rule}: {told}");
    }
    let sound = "policies: { hedge: { percentile: 95%, minDelay: 5ms, maxAttempts: 3, maxBody: 1024 } }";
    assert!(!check("", sound).contains("hedge"), "{}", check("", sound));
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/hedge_what_is_late.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
