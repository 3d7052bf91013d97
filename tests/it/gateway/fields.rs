//! What fields of the file do in a gateway that runs: those whose doing no other test sees.
use std::{fs, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::StatusCode};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{authn::api_key::mint, config::Config};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::world::{Directory, Gateway, PATIENCE, file, upstream};
use crate::support::redis::{Nodes, Server, Trio};

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "in vain waited until: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// What a metric says: of its name and labels as they are shown.
async fn metric(gateway: &Gateway, name: &str) -> f64 {
    let told = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    let start = format!("portcullis_{name} ");
    told.lines().find_map(|line| line.strip_prefix(&start)).map_or(0.0, |number| number.parse().unwrap())
}

/// A response of so many lines, one every 50 ms, of which only the head is read; and that of no upstream.
async fn trickle(
    gateway: &Gateway,
    lines: u32,
    headers: &[(&str, &str)],
) -> http::Response<hyper::body::Incoming> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut request = http::Request::get(format!("http://{}/trickle/{lines}", gateway.at("public")));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    timeout(PATIENCE, client.request(request.body(Empty::new()).unwrap())).await.unwrap().unwrap()
}

async fn waiting(gateway: &Gateway, count: u64) {
    gateway.until(|status| status["load"]["concurrency"][0]["waiting"] == count).await;
}

/// `password`, `namespace`, `lease`: of one server.
#[tokio::test]
async fn a_server_with_a_password_keeps_what_is_ours_under_our_name() {
    let server = Server::with("requirepass hush\n", &[]);
    let directory = Directory::new("fields-redis");
    directory.write("password", "hush\n");
    let one = upstream("one").await;
    let text = |password: &str| {
        file(&format!(
            "redis: {{ shared: {{ url: {:?}, namespace: shop {password} }} }}\n\
             rateLimits:\n  \
               leased: {{ key: {{ header: x-account }}, rate: 100000000/h, redis: shared, lease: 5%, rememberRefusals: 1s, deadline: 20s, fallback: deny }}\n\
             quotas:\n  \
               calls: {{ allowance: 1000000, period: year, key: {{ header: x-account }}, redis: shared, deadline: 20s, fallback: deny }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ rateLimit: [leased], quota: [calls] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
            server.url(),
        ))
    };
    directory.write("gateway.yaml", &text(", password: { file: password }"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let leased = "rate_limit_decisions_total{limit=\"leased\",source=\"lease\"}";
    until("a lease decides", async || {
        assert_eq!(gateway.get("/", &[("x-account", "a")]).await.status, 200);
        metric(&gateway, leased).await > 0.0
    })
    .await;
    let keys = server.ask("AUTH hush\r\nKEYS *");
    let ours: Vec<_> = keys.lines().filter(|line| line.contains(":{")).collect();
    assert!(
        ours.iter().any(|key| key.contains(":limits.")) && ours.iter().any(|key| key.contains(":calls:")),
        "{keys}"
    );
    assert!(ours.iter().all(|key| key.starts_with("shop:{")), "{keys}");

    // Without it nobody is served, and nobody is let in.
    directory.write("gateway.yaml", &text(""));
    let other = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(other.get("/", &[("x-account", "a")]).await.status, 503);
}

/// `sentinel` and `cluster`: each counts exactly, and on the servers that are meant.
#[tokio::test]
async fn a_file_has_sentinels_and_a_cluster() {
    let (trio, nodes) =
        tokio::join!(async { tokio::task::spawn_blocking(Trio::start).await.unwrap() }, async {
            tokio::task::spawn_blocking(Nodes::start).await.unwrap()
        });
    let one = upstream("one").await;
    let text = file(&format!(
        "redis:\n  watched: {{ sentinel: {{ master: limits, sentinels: {:?} }} }}\n  many: {{ cluster: {:?} }}\n\
         rateLimits:\n  \
           there: {{ key: {{ header: x-account }}, rate: 3/year, redis: watched, deadline: 20s, fallback: deny }}\n  \
           spread: {{ key: {{ header: x-account }}, rate: 4/year, redis: many, deadline: 20s, fallback: deny }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [\n\
         {{ matches: [{{ path: {{ value: /both }} }}], policies: {{ rateLimit: [there, spread] }}, backendRefs: [{{ name: one }}] }},\n\
         {{ policies: {{ rateLimit: [spread] }}, backendRefs: [{{ name: one }}] }}] }}]\n",
        trio.urls(),
        nodes.urls(),
    ));
    let gateway = Gateway::of(&text).await;
    for account in ["a", "b", "c"] {
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(gateway.get("/both", &[("x-account", account)]).await.status);
        }
        assert_eq!(told, [200, 200, 200, 429, 429], "{account}");
        until("what the refused were charged elsewhere is given back", async || {
            gateway.get("/", &[("x-account", account)]).await.status == 200
        })
        .await;
        until("and no more", async || gateway.get("/", &[("x-account", account)]).await.status == 429).await;
    }
    assert_eq!(trio.master.ask("KEYS *").matches("}:limits.").count(), 3);
    let spread: usize = nodes.0[..3].iter().map(|node| node.ask("KEYS *").matches("}:limits.").count()).sum();
    assert_eq!(spread, 3);
}

/// `queue.order: priority`, by the rule's `priority`: who came last is next.
#[tokio::test]
async fn the_important_is_next_in_a_queue_of_a_file() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "concurrency: {{ one: {{ max: 1, queue: {{ length: 9, timeout: 60s, order: priority }} }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'], concurrency: [one] }} }}\n\
         routes: [{{ name: r, rules: [\n\
         {{ matches: [{{ path: {{ value: /low }} }}], policies: {{ priority: low }}, backendRefs: [{{ name: one }}] }},\n\
         {{ matches: [{{ path: {{ value: /high }} }}], policies: {{ priority: high }}, backendRefs: [{{ name: one }}] }},\n\
         {{ backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let held = trickle(&gateway, 10_000, &[]).await;
    let (served, mut order) = mpsc::unbounded_channel();
    for (at, path) in ["/low", "/normal", "/high"].into_iter().enumerate() {
        let (client, to, served) = (gateway.client.clone(), gateway.at("public"), served.clone());
        tokio::spawn(async move {
            // Each holds the place for a while, so that they end one after the other.
            let answer = client.get(to, &format!("{path}/slow/50"), &[]).await;
            served.send((path, answer.status)).unwrap();
        });
        waiting(&gateway, at as u64 + 1).await;
    }
    drop(held);
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(timeout(PATIENCE, order.recv()).await.unwrap().unwrap());
    }
    assert_eq!(told, [("/high", 200), ("/normal", 200), ("/low", 200)]);
}

/// `codel`: a queue that stands is worked off, and who has waited for long is refused.
#[tokio::test]
async fn a_queue_of_a_file_that_stands_is_made_short() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "concurrency: {{ one: {{ max: 1, queue: {{ length: 90, timeout: 60s, codel: {{ target: 5ms, interval: 50ms }} }} }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ concurrency: [one] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (client, at) = (gateway.client.clone(), gateway.at("public"));
            tokio::spawn(async move { client.get(at, "/slow/20", &[]).await.status })
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    assert!((1..40).contains(&refused), "{refused}");
    let dropped = metric(&gateway, "concurrency_refusals_total{limit=\"one\",reason=\"dropped\"}").await;
    assert_eq!(dropped as usize, refused, "by that, and not by the length or the timeout");
}

/// `partitions` by plan: the place that is kept for who has paid is free for them.
#[tokio::test]
async fn who_has_paid_finds_the_place_that_is_kept_by_a_file() {
    let one = upstream("one").await;
    let gold = mint("test", "acme").unwrap().with(|entry| entry.plan("gold"));
    let free = mint("test", "other").unwrap().with(|entry| entry.plan("free"));
    let directory = Directory::new("fields-plans");
    directory.write("keys.yaml", &serde_json::json!({ "keys": [gold.entry(), free.entry()] }).to_string());
    directory.write(
        "gateway.yaml",
        &file(&format!(
            "authentication: {{ keys: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
             concurrency: {{ one: {{ max: 2, partitions: {{ by: plan, shares: {{ gold: 50% }} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [keys], concurrency: [one] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        )),
    );
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let (gold, free) = ([("x-api-key", gold.reveal())], [("x-api-key", free.reveal())]);
    // Whoever comes takes both while nobody else wants them; then there is room for who has paid, and for nobody else.
    let held = [trickle(&gateway, 10_000, &free).await, trickle(&gateway, 10_000, &free).await];
    assert!(held.iter().all(|response| response.status() == 200));
    assert_eq!(gateway.get("/", &free).await.status, 503);
    let paid = trickle(&gateway, 10_000, &gold).await;
    assert_eq!(paid.status(), 200);
    let partition = "concurrency_partition_in_flight{limit=\"one\",partition=\"gold\"}";
    assert_eq!(metric(&gateway, partition).await, 1.0);
    assert_eq!(gateway.get("/", &gold).await.status, 503);
}

/// `adaptive.algorithm: aimd`, its `timeout` and `latency`: the same answers, whose heads are quick and whose bodies are not.
#[tokio::test]
async fn what_adapts_goes_by_the_latency_that_a_file_means() {
    let found = async |latency: &str| {
        let one = upstream("one").await;
        let gateway = Gateway::of(&file(&format!(
            "concurrency: {{ one: {{ adaptive: {{ algorithm: aimd, initial: 20, min: 1, max: 40, timeout: 3s, latency: {latency} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ concurrency: [one] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        )))
        .await;
        // Four seconds each: more than that, and less than if nothing was said. A busy machine makes no head as late.
        for _ in 0..2 {
            let calls: Vec<_> = (0..12)
                .map(|_| {
                    let (client, at) = (gateway.client.clone(), gateway.at("public"));
                    tokio::spawn(async move { client.get(at, "/trickle/80", &[]).await.status })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap(), 200);
            }
        }
        metric(&gateway, "concurrency_limit{limit=\"one\"}").await
    };
    let (end, head) = tokio::join!(found("end"), found("head"));
    // Half of it was in use, which lets it grow.
    assert!(end < 20.0 && head > 20.0, "end: {end}, head: {head}");
}

/// `overload.queueDelay` and `eventLoop` press, and what is low is shed.
#[tokio::test]
async fn a_queue_and_a_busy_process_shed_what_is_low() {
    let one = upstream("one").await;
    let shop = |overload: &str| {
        file(&format!(
            "overload: {{ {overload} }}\n\
             concurrency: {{ one: {{ max: 1, queue: {{ length: 9, timeout: 60s }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [\n\
             {{ matches: [{{ path: {{ value: /low }} }}], policies: {{ priority: low }}, backendRefs: [{{ name: one }}] }},\n\
             {{ policies: {{ concurrency: [one], priority: critical }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        ))
    };
    // Whom a whole pressure refuses is refused before it is known which rule it is of.
    let refused = async |gateway: &Gateway| {
        let of = async |priority| {
            metric(gateway, &format!("overload_refusals_total{{priority=\"{priority}\"}}")).await
        };
        of("low").await + of("critical").await
    };
    let gateway = Gateway::of(&shop("queueDelay: { start: 1ms, full: 5ms }")).await;
    assert_eq!(gateway.get("/low", &[]).await.status, 200);
    let held = trickle(&gateway, 10_000, &[]).await;
    let (client, at) = (gateway.client.clone(), gateway.at("public"));
    let waits = tokio::spawn(async move { client.get(at, "/", &[]).await.status });
    waiting(&gateway, 1).await;
    gateway.until(|status| status["load"]["overload"]["pressure"].as_f64() > Some(0.34)).await;
    let shed = gateway.get("/low", &[]).await;
    assert_eq!(shed.status, 503, "{}", shed.text);
    assert!(refused(&gateway).await >= 1.0);
    assert!(metric(&gateway, "overload_pressure_ratio{source=\"queue:one\"}").await > 0.0);
    drop(held);
    assert_eq!(waits.await.unwrap(), 200);
    until("nobody waits, and all pass", async || gateway.get("/low", &[]).await.status == 200).await;

    let gateway = Gateway::of(&shop("eventLoop: { start: 20ms, full: 40ms }")).await;
    until("it was busy, and sheds", async || {
        // This thread is the gateway's: it can do nothing meanwhile.
        std::thread::sleep(Duration::from_millis(300));
        gateway.get("/low", &[]).await.status == 503
    })
    .await;
    assert!(refused(&gateway).await >= 1.0);
    until("it is idle, and all pass", async || gateway.get("/low", &[]).await.status == 200).await;
}

/// An upstream whose answers say what they cost.
async fn costly() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(|| async { (StatusCode::OK, [("x-units", "7")], Body::from("served")) });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// `usage.unitsHeader`, `rotateBytes`, `stream`, `maxLength`, `maxEntries`.
#[tokio::test]
async fn usage_is_counted_and_kept_as_a_file_says() {
    let server = Arc::new(Server::start());
    let directory = Directory::new("fields-usage");
    let rule = |name: &str| {
        format!(
            "{{ name: {name}, matches: [{{ path: {{ value: /{name} }} }}], backendRefs: [{{ name: one }}] }}"
        )
    };
    let names = ["a", "b", "c", "d"];
    let text = file(&format!(
        "redis: {{ shared: {{ url: {:?} }} }}\n\
         usage:\n  {{ interval: 50ms, instance: eu-2, unitsHeader: x-units, maxEntries: 2, spool: spool,\n    \
         file: {{ path: usage.jsonl, rotateBytes: 4096 }}, redis: {{ server: shared, stream: bills, maxLength: 3 }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: shop, rules: [{}] }}]\n",
        server.url(),
        costly().await,
        names.map(rule).join(",\n"),
    ));
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let files = || {
        let all = fs::read_dir(directory.path(".")).unwrap().map(|entry| entry.unwrap().path());
        let ours = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            name.starts_with("usage.jsonl") && !name.ends_with(".lock")
        };
        all.filter(ours).collect::<Vec<_>>()
    };
    let mut sent = 0;
    let late = Instant::now() + PATIENCE;
    while files().len() < 3 {
        assert!(Instant::now() < late, "{:?}", files());
        for name in names {
            assert_eq!(gateway.get(&format!("/{name}"), &[]).await.status, 200);
            sent += 1;
        }
    }
    gateway.configured.gateway().cut().await;
    let mut events = Vec::new();
    for path in files() {
        let text = fs::read_to_string(&path).unwrap();
        // A batch is not divided: of two entries, and one for all others.
        assert!(text.len() < 4096 + 2048, "{}: {}", path.display(), text.len());
        events.extend(text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()));
    }
    let sum = |field: &str| events.iter().map(|event| event[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("requests"), sum("units")), (sent, 7 * sent), "{}", events[0]);
    assert!(events.iter().any(|event| event["route"] == "_other"), "of more than two routes at once");
    let kept = server.ask("XLEN portcullis:{usage}:bills");
    let kept: u64 = kept.trim().trim_start_matches(':').parse().unwrap();
    assert!((1..events.len() as u64).contains(&kept), "about three, and not all of {}: {kept}", events.len());
    assert_eq!(server.ask("EXISTS portcullis:{usage}:events"), ":0\r\n");
}

/// `usage.maxWaitingBytes`: what does not fit is given up, and counted.
#[tokio::test]
async fn usage_that_cannot_be_delivered_waits_up_to_what_a_file_says() {
    let directory = Directory::new("fields-waiting");
    let one = upstream("one").await;
    let text = file(&format!(
        "usage: {{ interval: 1ms, maxWaitingBytes: 65536, file: {{ path: missing/usage.jsonl }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: shop, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    directory.write("gateway.yaml", &text);
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let (mut most, late) = (0.0_f64, Instant::now() + PATIENCE);
    while metric(&gateway, "usage_lost_requests_total{sink=\"file\"}").await == 0.0 {
        assert!(Instant::now() < late, "{most} bytes wait");
        for _ in 0..20 {
            assert_eq!(gateway.get("/", &[]).await.status, 200);
        }
        most = most.max(metric(&gateway, "usage_waiting_bytes{sink=\"file\"}").await);
    }
    assert!((32_768.0..=65_536.0).contains(&most), "{most}");
}
