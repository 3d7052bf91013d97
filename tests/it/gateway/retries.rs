//! What is tried again, over real sockets, and what it costs the upstreams.
use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as Legacy, rt::TokioExecutor};
use portcullis::{
    config::Config,
    matching::RequestMatch,
    ratio::Ratio,
    resilience::{budget::Budget, retry},
    stack::{
        Admin,
        gateway::{self, Listen, Rule, Snapshot},
    },
    upstream::Upstream,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::world::{Client, Directory, Gateway, file, yaml_of};
use crate::support::log::Log;

/// What an endpoint does with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Answers with its body.
    Work,
    /// Answers 503, and reads nothing.
    Fail,
    /// Closes without a word.
    Reset,
    /// Says nothing.
    Hang,
}

/// Endpoints, and how many requests have reached them.
pub(super) struct Fleet {
    addresses: Vec<SocketAddr>,
    asked: Arc<AtomicUsize>,
}

impl Fleet {
    pub(super) async fn of(does: &[Does]) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut addresses = Vec::new();
        for &does in does {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let count = Arc::clone(&asked);
            match does {
                Does::Work => drop(tokio::spawn(work(listener, count))),
                _ => drop(tokio::spawn(fail(listener, count, does))),
            }
        }
        Self { addresses, asked }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn endpoints(&self) -> String {
        self.addresses.iter().fold(String::new(), |mut list, address| {
            let _ = write!(list, "'{address}', ");
            list
        })
    }
}

async fn work(listener: TcpListener, asked: Arc<AtomicUsize>) {
    let app = Router::new().fallback(move |request: Request| async move {
        asked.fetch_add(1, Ordering::Relaxed);
        let attempt = request.headers().get("x-attempt").cloned();
        let whole = request.into_body().collect().await.unwrap().to_bytes();
        let mut response = http::Response::new(axum::body::Body::from(whole));
        response.headers_mut().extend(attempt.map(|n| (http::HeaderName::from_static("x-attempt"), n)));
        response
    });
    axum::serve(listener, app).await.unwrap();
}

/// One request for each connection.
async fn fail(listener: TcpListener, asked: Arc<AtomicUsize>, does: Does) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            asked.fetch_add(1, Ordering::Relaxed);
            match does {
                Does::Fail => {
                    let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
                    let _ = stream.write_all(answer).await;
                }
                Does::Hang => drop(stream.read(&mut [0; 1]).await),
                Does::Reset | Does::Work => {}
            }
        });
    }
}

/// A gateway with one rule in front of a fleet.
pub(super) async fn gateway(fleet: &Fleet, upstream: &str, rule: &str) -> Gateway {
    Gateway::of(&text(fleet, upstream, rule)).await
}

pub(super) fn text(fleet: &Fleet, upstream: &str, rule: &str) -> String {
    file(&format!(
        "upstreams: {{ fleet: {{ endpoints: [{}] {upstream} }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: fleet }}], {rule} }}] }}]\n",
        fleet.endpoints()
    ))
}

/// So many requests, 20 at a time; how often each status came.
async fn ask(gateway: &Gateway, method: &'static str, requests: usize) -> Vec<(u16, usize)> {
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..requests / 20 {
        let asks = (0..20).map(|_| {
            let (client, at) = (gateway.client.clone(), gateway.at("public"));
            tokio::spawn(async move { client.send(method, at, "/", &[]).await.unwrap().status })
        });
        for asked in asks.collect::<Vec<_>>() {
            *statuses.entry(asked.await.unwrap()).or_default() += 1;
        }
    }
    statuses.into_iter().collect()
}

#[tokio::test]
async fn one_of_ten_that_fails_every_call_is_seen_by_nobody() {
    for failing in [Does::Fail, Does::Reset, Does::Hang] {
        let mut does = [Does::Work; 10];
        does[3] = failing;
        for balance in ["roundRobin", "leastRequest"] {
            let fleet = Fleet::of(&does).await;
            // Time enough for those that work, however busy this machine is.
            let rule = "retry: { attempts: 2 }, timeouts: { request: 60s, backendRequest: 2s }";
            let gateway = gateway(&fleet, &format!(", balance: {balance}"), rule).await;
            assert_eq!(ask(&gateway, "GET", 300).await, [(200, 300)], "{failing:?} {balance}");
            assert!(fleet.asked() <= 360, "{failing:?} {balance}: {} calls", fleet.asked());
            assert!(fleet.asked() > 300, "{failing:?} {balance}: {} calls", fleet.asked());
        }
    }
}

/// No retry storm: 20%, and no floor.
#[tokio::test]
async fn when_all_fail_there_are_few_calls_more() {
    for failing in [Does::Fail, Does::Reset] {
        let fleet = Fleet::of(&[failing; 3]).await;
        let constraint = ", retryConstraint: { minRetryRate: { count: 0 } }";
        let gateway = gateway(&fleet, constraint, "retry: { attempts: 3, backoff: 1ms }").await;
        let expected = if failing == Does::Fail { 503 } else { 502 };
        assert_eq!(ask(&gateway, "GET", 400).await, [(expected, 400)]);
        assert!((400 + 10..=480).contains(&fleet.asked()), "{failing:?}: {} calls", fleet.asked());
        let status = gateway.status().await;
        let (rule, budget) = (&status["retries"]["rules"][0], &status["retries"]["budgets"][0]);
        assert_eq!((&rule["rule"], &budget["upstream"]), (&"r/all".into(), &"fleet".into()));
        assert_eq!(rule["retries"].as_u64().unwrap() as usize + 400, fleet.asked());
        assert_eq!(budget["spent"], rule["retries"]);
        assert!(rule["stopped"]["budget"].as_u64() > Some(0), "{rule}");
    }
}

#[tokio::test]
async fn what_may_not_be_done_twice_is_done_once() {
    let fleet = Fleet::of(&[Does::Fail; 2]).await;
    let gateway = gateway(&fleet, "", "retry: { attempts: 1, backoff: 1ms }").await;
    assert_eq!(ask(&gateway, "POST", 20).await, [(503, 20)]);
    assert_eq!(fleet.asked(), 20);
    let keyed = [("idempotency-key", "\"4711\"")];
    let answer = gateway.client.send("POST", gateway.at("public"), "/", &keyed).await.unwrap();
    assert_eq!((answer.status, fleet.asked()), (503, 22));
    assert_eq!(gateway.status().await["retries"]["rules"][0]["stopped"]["unsafe"], 20);
}

/// The failing endpoint answers before it has read the body; the next one gets all of it.
#[tokio::test]
async fn the_next_endpoint_gets_the_whole_body() {
    let fleet = Fleet::of(&[Does::Fail, Does::Work]).await;
    let rule = "retry: { backoff: 1ms }, policies: { retry: { attemptHeader: x-attempt, maxBody: 20000 } }";
    let gateway = gateway(&fleet, "", rule).await;
    let client = Legacy::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let body: Bytes = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut attempts = Vec::new();
    for _ in 0..10 {
        let request = http::Request::put(format!("http://{}/", gateway.at("public")))
            .header("x-attempt", "17")
            .body(Full::new(body.clone()))
            .unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        attempts.push(response.headers()["x-attempt"].clone());
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    assert!(
        attempts.iter().any(|n| n == "2") && attempts.iter().all(|n| n == "1" || n == "2"),
        "{attempts:?}"
    );
}

#[tokio::test]
async fn log_and_metrics_tell_of_it() {
    let (log, _guard) = Log::start();
    let fleet = Fleet::of(&[Does::Fail, Does::Fail]).await;
    let gateway = gateway(&fleet, "", "retry: { attempts: 2, backoff: 1ms }").await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    let line = &log.access(1).await[0];
    assert_eq!(
        (&line["attempts"], &line["retry_stop"], &line["flag"]),
        (&3.into(), &"attempts".into(), &"URX".into())
    );
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_retries_total{route="r/all"} 2"#,
        r#"portcullis_retries_recovered_total{route="r/all"} 0"#,
        r#"portcullis_retries_stopped_total{route="r/all",reason="attempts"} 1"#,
        r#"portcullis_retry_budget_calls_total{upstream="fleet"} 1"#,
        r#"portcullis_retry_budget_spent_total{upstream="fleet"} 2"#,
        r#"portcullis_retry_budget_refused_total{upstream="fleet"} 0"#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
}

/// Who is called without a budget of its own is spared by that of each rule.
#[tokio::test]
async fn budgets_of_rules_are_told_of() {
    let fleet = Fleet::of(&[Does::Fail]).await;
    let upstream = Upstream::builder("fleet").endpoint(fleet.addresses[0].to_string()).build().unwrap();
    let rule = |name: &str, tries: u32| {
        let policy =
            retry::Policy::new(tries).budget(Budget::new(Ratio::NEVER).floor(1, Duration::from_secs(10)));
        let when = RequestMatch::prefix(&format!("/{name}")).unwrap();
        Rule::new(name).when(when).retry(policy).backend(upstream.clone(), 1)
    };
    let at = || "127.0.0.1:0".parse().unwrap();
    let snapshot = Snapshot::builder()
        .listen(Listen::on("public", at()))
        .admin(Admin::at(at()))
        .rule(rule("once", 1))
        .rule(rule("twice", 2))
        .build()
        .unwrap();
    let gateway = gateway::Gateway::start(snapshot).await.unwrap();
    let (client, public) = (Client::new(), gateway.address("public").unwrap());
    for path in ["/once", "/twice"] {
        assert_eq!(client.get(public, path, &[]).await.status, 503);
    }
    assert_eq!(fleet.asked(), 4, "each has had one more");
    let admin = gateway.address("admin").unwrap();
    let status: serde_json::Value =
        serde_json::from_str(&client.get(admin, "/status", &[]).await.text).unwrap();
    let budget = |route, refused| json!({ "route": route, "calls": 1, "spent": 1, "refused": refused });
    assert_eq!(status["retries"]["budgets"], json!([budget("once", 0), budget("twice", 1)]));
    let metrics = client.get(admin, "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_retry_budget_calls_total{route="once"} 1"#,
        r#"portcullis_retry_budget_spent_total{route="twice"} 1"#,
        r#"portcullis_retry_budget_refused_total{route="twice"} 1"#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
}

/// The budget is the upstream's: a reload gives nobody new attempts.
#[tokio::test]
async fn what_was_spent_stays_spent_across_a_reload() {
    let fleet = Fleet::of(&[Does::Fail]).await;
    let directory = Directory::new("retries");
    let constraint =
        ", retryConstraint: { budget: { percent: 0 }, minRetryRate: { count: 5, interval: 1h } }";
    let constraint = constraint.replace("percent: 0", "percent: 0, interval: 1h");
    let written =
        |attempts| text(&fleet, &constraint, &format!("retry: {{ attempts: {attempts}, backoff: 1ms }}"));
    directory.write("gateway.yaml", &written(3));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    assert_eq!(fleet.asked(), 4);
    directory.write("gateway.yaml", &written(4));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    assert_eq!(fleet.asked(), 4 + 3, "two were left");
    assert_eq!(gateway.status().await["retries"]["budgets"][0]["spent"], 5);
    // Other terms are no new beginning, and what was counted of the rule stands.
    directory.write("gateway.yaml", &written(4).replace("count: 5", "count: 7"));
    gateway.until(|status| status["generation"] == 3).await;
    assert_eq!(gateway.get("/", &[]).await.status, 503);
    assert_eq!(fleet.asked(), 4 + 3 + 3, "two more are left");
    let status = gateway.status().await;
    assert_eq!(
        (&status["retries"]["budgets"][0]["spent"], &status["retries"]["rules"][0]["retries"]),
        (&7.into(), &7.into())
    );
}

/// What waits for its next attempt holds no place in front of the upstream.
#[tokio::test]
async fn a_place_is_free_between_attempts() {
    let fleet = Fleet::of(&[Does::Fail]).await;
    let rule = "retry: { attempts: 1, backoff: 30s }, timeouts: { request: 60s }";
    let guarded = text(&fleet, ", concurrency: [one]", rule) + "concurrency: { one: { max: 1 } }\n";
    let gateway = Gateway::of(&guarded).await;
    let (client, at) = (gateway.client.clone(), gateway.at("public"));
    let asleep = tokio::spawn(async move { client.send("GET", at, "/", &[]).await });
    gateway.until(|status| status["retries"]["rules"][0]["retries"] == 1).await;
    for _ in 0..50 {
        // It is sent once only, and reaches the upstream as soon as there is a place.
        assert_eq!(gateway.client.send("POST", at, "/", &[]).await.unwrap().status, 503);
        if fleet.asked() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((fleet.asked(), asleep.is_finished()), (2, false));
    asleep.abort();
}

/// An upstream that answers 503 with these fields, and how often it was asked.
async fn saying(fields: String) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or(0) > 0 {}
            count.fetch_add(1, Ordering::Relaxed);
            let answer = format!("HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n{fields}\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

/// Upstreams are strangers, too: whatever they say of when to come again, nobody waits for it, and who is told not to comes
/// no more.
#[tokio::test]
async fn an_absurd_time_is_not_waited_for() {
    for (fields, attempts) in [
        ("retry-after: -5\r\n".to_owned(), 2),
        ("retry-after: soon\r\n".to_owned(), 2),
        ("retry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(), 2),
        ("retry-after: 0\r\nretry-after: 86400\r\n".to_owned(), 2),
        ("retry-after: 99999999999999999999999\r\n".to_owned(), 1),
        ("retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n".to_owned(), 1),
        ("retry-after: 86400\r\n".repeat(90), 1),
        ("grpc-retry-pushback-ms: -1\r\n".to_owned(), 1),
        ("ratelimit: \"a\";r=0;t=18446744073709551616\r\n".to_owned(), 1),
    ] {
        let (address, asked) = saying(fields.clone()).await;
        let fleet = Fleet { addresses: vec![address], asked };
        let gateway = gateway(&fleet, "", "retry: { attempts: 1, backoff: 1ms }").await;
        let answer = gateway.get("/", &[]).await;
        assert_eq!((answer.status, fleet.asked()), (503, attempts), "{fields}");
    }
}

/// A file that contradicts itself is refused, and what is odd is warned of.
#[test]
fn what_makes_no_sense_is_refused() {
    for (rest, said) in [
        (
            "retry: {}, policies: { retry: { minTimeLeft: 15s } }",
            "retry.minTimeLeft: as long as the whole request may take",
        ),
        ("retry: { backoff: 15s }", "retry.backoff: as long as the whole request may take"),
        ("timeouts: { request: 1s, backendRequest: 2s }", "timeouts.backendRequest: longer than `request`"),
        ("policies: { timeouts: { bodyIdle: 0s } }", "timeouts.bodyIdle: nothing could keep silent"),
        (
            "policies: { timeouts: { bodyIdle: 15s } }",
            "warning: routes[0].rules[0].policies.timeouts.bodyIdle: as long as",
        ),
        (
            "policies: { timeouts: { streamIdle: 1h, streamMaxAge: 1h } }",
            "warning: routes[0].rules[0].policies.timeouts.streamIdle: as long as",
        ),
        (
            "retry: {}, policies: { concurrency: [swings] }",
            "warning: routes[0].rules[0].policies.concurrency[0]: this limit measures how long requests take",
        ),
    ] {
        let text = file(&format!(
            "concurrency: {{ swings: {{ adaptive: {{}} }} }}\n\
             upstreams: {{ fleet: {{ endpoints: [127.0.0.1:9001] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: fleet }}], {rest} }}] }}]\n"
        ));
        let told = Config::text("f", text).check().to_string();
        assert!(told.contains(said), "{rest}: {told}");
    }
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/retries_that_do_no_harm.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
