//! Circuit breakers of rules and of upstreams, over real sockets.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, http::StatusCode};
use portcullis::config::Config;
use tokio::time::{Instant, sleep};

use super::{
    retries::{Does, Fleet, gateway, text},
    world::{Answer, Directory, Gateway, PATIENCE, file, yaml_of},
};
use crate::support::log::Log;

const FOR_LONG: &str = "openFor: 1h, maxOpenFor: 1h";

/// A server that fails while it is told to, and whom `x-tenant: bad` asks; and how many requests have reached it.
struct Flapping {
    address: SocketAddr,
    fails: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Flapping {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (fails, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (does, count) = (Arc::clone(&fails), Arc::clone(&asked));
        let app = Router::new().fallback(move |request: Request| async move {
            count.fetch_add(1, Ordering::Relaxed);
            let bad = request.headers().get("x-tenant").is_some_and(|tenant| tenant == "bad");
            if does.load(Ordering::Relaxed) || bad { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, fails, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// A file with one rule in front of it.
    fn text(&self, upstream: &str, rule: &str) -> String {
        let address = self.address;
        file(&format!(
            "upstreams: {{ it: {{ endpoints: ['{address}'] {upstream} }} }}\n\
             routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: it }}], {rule} }}] }}]\n"
        ))
    }
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 503 && answer.text.contains(r#""reason":"circuit_open""#)
}

async fn breaker(gateway: &Gateway) -> serde_json::Value {
    gateway.status().await["circuitBreakers"][0].clone()
}

#[tokio::test]
async fn an_upstream_that_fails_is_left_alone_whoever_asks() {
    let (log, _guard) = Log::start();
    let upstream = format!(", circuitBreaker: {{ consecutiveFailures: 5, {FOR_LONG} }}");
    for (failing, status) in [(Does::Fail, 503), (Does::Reset, 502)] {
        let fleet = Fleet::of(&[failing; 3]).await;
        let gateway = gateway(&fleet, &upstream, "retry: { attempts: 3, backoff: 1ms }").await;
        let asked = loop {
            let answer = gateway.get("/", &[]).await;
            if is_refused(&answer) {
                let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1800..=3600).contains(&after), "{after}");
                break fleet.asked();
            }
            assert_eq!(answer.status, status);
        };
        // Each attempt counts, and one that is refused is not tried again.
        assert_eq!(asked, 5);
        for _ in 0..20 {
            assert!(is_refused(&gateway.get("/", &[]).await));
        }
        assert_eq!(fleet.asked(), 5);
        let told = breaker(&gateway).await;
        assert_eq!((&told["kind"], &told["name"]), (&"upstream".into(), &"fleet".into()));
        assert_eq!((&told["state"], &told["mode"]), (&"open".into(), &"enforced".into()));
        assert_eq!((&told["opened"], &told["spared"]), (&1.into(), &0.into()));
        let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
        for sample in [
            r#"portcullis_circuit_breaker_state{kind="upstream",name="fleet",state="closed"} 0"#,
            r#"portcullis_circuit_breaker_state{kind="upstream",name="fleet",state="open"} 1"#,
            r#"portcullis_circuit_breaker_state{kind="upstream",name="fleet",state="half_open"} 0"#,
            r#"portcullis_circuit_breaker_opened_total{kind="upstream",name="fleet"} 1"#,
        ] {
            assert!(metrics.contains(sample), "{sample} is not in {metrics}");
        }
    }
    let lines = log.access(20).await;
    let refused = lines.iter().find(|line| line["reason"] == "circuit_open").unwrap();
    assert_eq!((&refused["status"], &refused["flag"]), (&503.into(), &"UO".into()));
}

/// What hangs is known by the time that was given up: with a timeout of the attempt, and of the whole request.
#[tokio::test]
async fn an_upstream_that_hangs_has_failed() {
    let upstream = format!(", circuitBreaker: {{ consecutiveFailures: 2, {FOR_LONG} }}");
    for timeouts in ["request: 200ms", "request: 60s, backendRequest: 200ms"] {
        let fleet = Fleet::of(&[Does::Hang]).await;
        let gateway = gateway(&fleet, &upstream, &format!("timeouts: {{ {timeouts} }}")).await;
        for _ in 0..2 {
            assert_eq!(gateway.get("/", &[]).await.status, 504, "{timeouts}");
        }
        assert!(is_refused(&gateway.get("/", &[]).await), "{timeouts}");
        assert_eq!(fleet.asked(), 2);
    }
}

/// Who hangs up says nothing of the server, unless it is told so.
#[tokio::test]
async fn clients_that_hang_up_say_that_it_fails_where_it_is_told_so() {
    for (fails, state) in [("", "closed"), (", cancellingFails: true", "open")] {
        let (log, _guard) = Log::start();
        let fleet = Fleet::of(&[Does::Hang]).await;
        let upstream = format!(", circuitBreaker: {{ consecutiveFailures: 2, {FOR_LONG}{fails} }}");
        let gateway = gateway(&fleet, &upstream, "timeouts: { request: 60s }").await;
        for asked in 1..=2 {
            let call = gateway.get("/", &[]);
            let hung_up = async {
                while fleet.asked() < asked {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                answer = call => panic!("{answer:?}"),
                () = hung_up => {}
            }
        }
        let lines = log.access(2).await;
        assert!(lines.iter().all(|line| line["verdict"] == "cancelled"), "{lines:?}");
        assert_eq!(breaker(&gateway).await["state"], state);
    }
}

#[tokio::test]
async fn it_closes_when_the_upstream_has_come_back() {
    let server = Flapping::start().await;
    let rule = "policies: { circuitBreaker: { minimumCalls: 4, openFor: 20ms, maxOpenFor: 100ms, halfOpenProbes: 2 } }";
    let gateway = Gateway::of(&server.text("", rule)).await;
    while !is_refused(&gateway.get("/", &[]).await) {}
    assert!(server.asked() >= 4);
    server.fails.store(false, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while breaker(&gateway).await["state"] != "closed" {
        gateway.get("/", &[]).await;
        assert!(Instant::now() < until, "it stays open");
        sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..10 {
        assert_eq!(gateway.get("/", &[]).await.status, 200);
    }
    assert_eq!(breaker(&gateway).await["name"], "r/all");
}

#[tokio::test]
async fn a_key_that_fails_does_not_take_others_with_it() {
    let server = Flapping::start().await;
    server.fails.store(false, Ordering::Relaxed);
    let rule = format!(
        "policies: {{ circuitBreaker: {{ consecutiveFailures: 2, key: {{ header: x-tenant }}, {FOR_LONG} }} }}"
    );
    let gateway = Gateway::of(&server.text("", &rule)).await;
    let ask = async |tenant: &str| gateway.get("/", &[("x-tenant", tenant)]).await;
    assert_eq!([ask("bad").await.status, ask("bad").await.status], [503, 503]);
    assert!(is_refused(&ask("bad").await));
    assert_eq!(ask("good").await.status, 200);
    let keys = &breaker(&gateway).await["keys"];
    assert_eq!((&keys["known"], &keys["open"], &keys["unguarded"]), (&2.into(), &1.into(), &0.into()));
}

#[tokio::test]
async fn in_shadow_nobody_is_refused() {
    let server = Flapping::start().await;
    let upstream = format!(", circuitBreaker: {{ consecutiveFailures: 1, shadow: true, {FOR_LONG} }}");
    let gateway = Gateway::of(&server.text(&upstream, "")).await;
    for _ in 0..5 {
        assert!(!is_refused(&gateway.get("/", &[]).await));
    }
    let told = breaker(&gateway).await;
    assert_eq!((server.asked(), &told["mode"], &told["spared"]), (5, &"observed".into(), &4.into()));
}

/// What is said again is the same breaker; what is said anew begins anew.
#[tokio::test]
async fn it_stays_open_across_a_reload() {
    let fleet = Fleet::of(&[Does::Fail]).await;
    let directory = Directory::new("breakers");
    let written = |failures: u32, attempts: u32| {
        let upstream = format!(", circuitBreaker: {{ consecutiveFailures: {failures}, {FOR_LONG} }}");
        text(&fleet, &upstream, &format!("retry: {{ attempts: {attempts}, backoff: 1ms }}"))
    };
    directory.write("gateway.yaml", &written(2, 1));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    assert_eq!(fleet.asked(), 2);
    directory.write("gateway.yaml", &written(2, 2));
    gateway.until(|status| status["generation"] == 2).await;
    assert!(is_refused(&gateway.get("/", &[]).await));
    directory.write("gateway.yaml", &written(3, 2));
    gateway.until(|status| status["generation"] == 3).await;
    assert!(!is_refused(&gateway.get("/", &[]).await));
    assert_eq!(fleet.asked(), 5);
}

/// It is passed over: callers see as many failures as it takes to open, and nobody is refused.
#[tokio::test]
async fn an_endpoint_that_fails_is_passed_over_and_found_again() {
    let (good, other, bad) = (Flapping::start().await, Flapping::start().await, Flapping::start().await);
    good.fails.store(false, Ordering::Relaxed);
    other.fails.store(false, Ordering::Relaxed);
    let endpoints = format!("'{}', '{}', '{}'", good.address, other.address, bad.address);
    let breaker = "perEndpoint: true, consecutiveFailures: 3, openFor: 300ms, maxOpenFor: 300ms";
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ it: {{ endpoints: [{endpoints}], circuitBreaker: {{ {breaker} }} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: it }}] }}] }}]\n"
    )))
    .await;
    let is_withheld = |status: &serde_json::Value| {
        let endpoints = status["upstreams"][0]["endpoints"].as_array().unwrap();
        let bad = endpoints.iter().find(|one| one["address"] == bad.address.to_string()).unwrap();
        bad["withheld"] == serde_json::json!(["open"])
    };
    let mut failed = 0;
    while bad.asked() < 3 {
        failed += usize::from(gateway.get("/", &[]).await.status == 503);
    }
    gateway.until(is_withheld).await;
    assert_eq!(failed, 3);
    // One request after the other finds out that it still fails.
    let until = Instant::now() + PATIENCE;
    while bad.asked() < 5 {
        assert!(!is_refused(&gateway.get("/", &[]).await) && Instant::now() < until);
    }
    bad.fails.store(false, Ordering::Relaxed);
    let before = bad.asked();
    while bad.asked() < before + 10 {
        assert_eq!(gateway.get("/", &[]).await.status, 200);
        assert!(Instant::now() < until, "it is not found again");
    }
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/circuit_breakers.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
