//! Limits on what is in flight, and what is refused when there is too much.
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::world::{Answer, Gateway, PATIENCE, file, nobody, upstream, yaml_of};
use crate::support::grpc::health;

/// A gateway with one place of which `policies` and `upstream` say where it stands.
async fn with_one_place(limit: &str, policies: &str, in_front: &str) -> Gateway {
    let one = upstream("one").await;
    Gateway::of(&file(&format!(
        "concurrency: {{ one: {{ {limit} }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] {in_front} }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ {policies} }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await
}

fn places(status: &serde_json::Value) -> (u64, u64) {
    let limit = &status["load"]["concurrency"][0];
    (limit["inFlight"].as_u64().unwrap(), limit["waiting"].as_u64().unwrap())
}

fn assert_refused(answer: &Answer) {
    assert_eq!((answer.status, &answer.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(answer.text.contains("overloaded"), "{}", answer.text);
}

/// A response that goes on until it is told to be read.
async fn trickle(gateway: &Gateway, lines: u32) -> http::Response<hyper::body::Incoming> {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let uri = format!("http://{}/trickle/{lines}", gateway.at("public")).parse().unwrap();
    timeout(PATIENCE, client.get(uri)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_place_is_held_until_the_body_has_ended() {
    for (limit, policies, in_front) in [
        ("max: 1", "concurrency: [one]", ""),
        ("max: 1", "", ", concurrency: [one]"),
        ("max: 1, key: clientIp", "concurrency: [one]", ""),
        (
            "adaptive: { initial: 1, min: 1 }, partitions: { by: route, shares: { a: 50% } }",
            "",
            ", concurrency: [one]",
        ),
    ] {
        let gateway = with_one_place(limit, policies, in_front).await;
        let response = trickle(&gateway, 20).await;
        assert_eq!(response.status(), 200);
        assert_refused(&gateway.get("/", &[]).await);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.iter().filter(|byte| **byte == b'\n').count(), 20);
        gateway.until(|status| places(status) == (0, 0)).await;
        assert_eq!(gateway.get("/", &[]).await.status, 200);
        // A client that goes away in the middle of a body holds nothing.
        drop(trickle(&gateway, 10_000).await);
        gateway.until(|status| places(status) == (0, 0)).await;
    }
}

#[tokio::test]
async fn a_listener_has_a_limit_too() {
    let one = upstream("one").await;
    let text = file(&format!(
        "concurrency: {{ one: {{ max: 1 }} }}\nupstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    ));
    let gateway = Gateway::of(&text.replace("name: public,", "name: public, concurrency: [one],")).await;
    let response = trickle(&gateway, 10_000).await;
    assert_refused(&gateway.get("/", &[]).await);
    drop(response);
    gateway.until(|status| places(status) == (0, 0)).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
}

#[tokio::test]
async fn who_waits_is_served_and_who_goes_away_waits_no_longer() {
    for (policies, in_front) in [("concurrency: [one]", ""), ("", ", concurrency: [one]")] {
        let queue = "max: 1, queue: { length: 2, timeout: 30s }";
        let gateway = with_one_place(queue, policies, in_front).await;
        let response = trickle(&gateway, 10_000).await;
        let (client, at) = (gateway.client.clone(), gateway.at("public"));
        let waits = tokio::spawn(async move { client.get(at, "/", &[]).await });
        gateway.until(|status| places(status) == (1, 1)).await;

        let mut vanishes = TcpStream::connect(at).await.unwrap();
        vanishes.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        gateway.until(|status| places(status) == (1, 2)).await;
        assert_refused(&gateway.get("/", &[]).await);
        drop(vanishes);
        gateway.until(|status| places(status) == (1, 1)).await;

        drop(response);
        assert_eq!(waits.await.unwrap().status, 200);
        gateway.until(|status| places(status) == (0, 0)).await;
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_refused() {
    let queue = "max: 1, queue: { length: 2, timeout: 50ms, order: newest }";
    let gateway = with_one_place(queue, "concurrency: [one]", "").await;
    let response = trickle(&gateway, 10_000).await;
    assert_refused(&gateway.get("/", &[]).await);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in [
        r#"portcullis_concurrency_limit{limit="one"} 1"#,
        r#"portcullis_concurrency_in_flight{limit="one"} 1"#,
        r#"portcullis_concurrency_waiting{limit="one"} 0"#,
        r#"portcullis_concurrency_queued_total{limit="one"} 1"#,
        r#"portcullis_concurrency_refusals_total{limit="one",reason="timeout"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop(response);
}

#[tokio::test]
async fn a_tunnel_holds_its_place_until_it_closes() {
    for (policies, in_front) in [("concurrency: [one]", ""), ("", ", concurrency: [one]")] {
        let gateway = with_one_place("max: 1", policies, in_front).await;
        let url = format!("ws://{}/socket", gateway.at("public"));
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        socket.send(tungstenite::Message::text("hello")).await.unwrap();
        socket.next().await.unwrap().unwrap();
        assert_eq!(places(&gateway.status().await), (1, 0));
        assert_refused(&gateway.get("/", &[]).await);
        socket.close(None).await.unwrap();
        drop(socket);
        gateway.until(|status| places(status) == (0, 0)).await;
    }
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_words() {
    let (grpc, reporter) = health().await;
    reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;
    let gateway = Gateway::of(&file(&format!(
        "concurrency: {{ one: {{ max: 1 }} }}\nupstreams: {{ one: {{ endpoints: ['{grpc}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ concurrency: [one] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let channel =
        Endpoint::from_shared(format!("http://{}", gateway.at("public"))).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let asked = HealthCheckRequest { service: "shop".into() };
    // A stream that does not end.
    let mut watch = client.watch(asked.clone()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let refused = client.check(asked.clone()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "overloaded"));
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    drop(watch);
    gateway.until(|status| places(status) == (0, 0)).await;
    client.check(asked).await.unwrap();
}

/// Whatever the file says anew of a limit, who is in flight and who waits counts on; a faulty file changes nothing.
#[tokio::test]
async fn a_reload_keeps_what_is_in_flight() {
    let (one, two) = (upstream("one").await, upstream("two").await);
    let text = |upstream, limit: &str| {
        file(&format!(
            "concurrency: {{ one: {{ {limit} }} }}
upstreams: {{ one: {{ endpoints: ['{upstream}'] }} }}
\
             routes: [{{ name: r, rules: [{{ policies: {{ concurrency: [one] }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        ))
    };
    let directory = super::world::Directory::new("in-flight");
    directory.write("gateway.yaml", &text(one, "max: 1"));
    let gateway = Gateway::start(portcullis::config::Config::file(directory.path("gateway.yaml"))).await;
    let reload = async |upstream, limit: &str, generation: u64| {
        directory.write("gateway.yaml", &text(upstream, limit));
        gateway.until(|status| status["generation"] == generation).await;
    };
    let first = trickle(&gateway, 10_000).await;
    reload(two, "max: 1", 2).await;
    assert_refused(&gateway.get("/", &[]).await);
    reload(two, "max: 2, retryAfter: 1s", 3).await;
    let second = trickle(&gateway, 10_000).await;
    assert_eq!(places(&gateway.status().await), (2, 0));
    assert_refused(&gateway.get("/", &[]).await);

    reload(two, "max: 2, queue: { length: 5, timeout: 30s }", 4).await;
    let (client, at) = (gateway.client.clone(), gateway.at("public"));
    let waits = tokio::spawn(async move { client.get(at, "/", &[]).await });
    gateway.until(|status| places(status) == (2, 1)).await;
    directory.write("gateway.yaml", &text(two, "max: 3, queue: { length: 5, timeout: 0s }"));
    gateway.until(|status| status["lastLoad"]["faults"].as_array().is_some_and(|all| !all.is_empty())).await;
    assert_eq!(places(&gateway.status().await), (2, 1), "a faulty file lets nobody in");
    reload(two, "max: 3, queue: { length: 5, timeout: 30s, order: newest }", 5).await;
    assert_eq!(waits.await.unwrap().status, 200, "there is one place more, and nobody has left");

    reload(two, "max: 1", 6).await;
    gateway.until(|status| places(status) == (2, 0)).await;
    drop(first);
    gateway.until(|status| places(status) == (1, 0)).await;
    assert_refused(&gateway.get("/", &[]).await);
    drop(second);
    gateway.until(|status| places(status) == (0, 0)).await;
    assert_eq!(gateway.get("/", &[]).await.status, 200);
}

/// In shadow a limit counts, and lets everybody pass; whom it skips it does not count.
#[tokio::test]
async fn a_limit_in_shadow_refuses_nobody() {
    let limit = "max: 1, shadow: true, queue: { length: 1 }, skip: [{ paths: [/trickle/10000] }]";
    let gateway = with_one_place(limit, "concurrency: [one]", "").await;
    let skipped = trickle(&gateway, 10_000).await;
    assert_eq!(places(&gateway.status().await), (0, 0));
    let two = [trickle(&gateway, 9_999).await, trickle(&gateway, 9_999).await];
    assert_eq!(places(&gateway.status().await), (2, 0));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains(r#"portcullis_concurrency_spared_total{limit="one"} 1"#), "{metrics}");
    drop((skipped, two));
    gateway.until(|status| places(status) == (0, 0)).await;
}

#[tokio::test]
async fn memory_that_is_used_up_refuses_all_but_what_is_critical() {
    let one = upstream("one").await;
    let gateway = Gateway::of(&file(&format!(
        "overload: {{ memory: {{ start: 1%, full: 2%, bytes: 1000000 }}, eventLoop: {{ start: 30s, full: 60s }} }}\n\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [\n\
         {{ matches: [{{ path: {{ type: Exact, value: /vital }} }}], policies: {{ priority: critical }}, \
         backendRefs: [{{ name: one }}] }},\n\
         {{ policies: {{ priority: low }}, backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    gateway.until(|status| status["load"]["overload"]["pressure"] == 0.95).await;
    assert_eq!(gateway.get("/vital", &[]).await.status, 200);
    assert_refused(&gateway.get("/", &[]).await);
    let grpc = gateway.get("/", &[("content-type", "application/grpc")]).await;
    assert_eq!((grpc.status, &grpc.headers["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(gateway.client.get(gateway.at("admin"), "/readyz", &[]).await.status, 200);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in [
        r#"portcullis_overload_pressure_ratio{source="memory"} 0.95"#,
        r#"portcullis_overload_pressure_ratio{source="event_loop"} 0.0"#,
        r#"portcullis_overload_refusals_total{priority="low"} 2"#,
        r#"reason="overloaded""#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert!(metrics.contains(r#"portcullis_overload_reading{source="event_loop"}"#));
}

/// The resident memory of this process, which is the gateway's too.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Under half of the pressure what is low is refused and what is high is not; the rule, the plan and trusted peers say
/// what is which, and strangers do not.
#[tokio::test]
async fn the_important_passes_and_strangers_are_not() {
    let one = upstream("one").await;
    let gold = portcullis::authn::api_key::mint("test", "acme").unwrap().with(|entry| entry.plan("gold"));
    let free = portcullis::authn::api_key::mint("test", "other").unwrap().with(|entry| entry.plan("free"));
    let directory = super::world::Directory::new("important");
    let entries = serde_json::json!({ "keys": [gold.entry(), free.entry()] });
    directory.write("keys.yaml", &entries.to_string());
    let text = |trusted: &str| {
        let bytes = resident() * 2;
        let rule = |name: &str, policies: &str| {
            format!(
                "- {{ name: {name}, rules: [{{ matches: [{{ path: {{ value: /{name} }} }}], policies: {{ {policies} }}, backendRefs: [{{ name: one }}] }}] }}\n"
            )
        };
        file(&format!(
            "overload: {{ memory: {{ start: 10%, full: 90%, bytes: {bytes} }}, header: x-priority, plans: {{ gold: high, free: low }} }}\n\
             authentication: {{ keys: {{ apiKey: {{ keys: {{ file: keys.yaml }} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\nroutes:\n{}{}{}",
            rule("high", "authenticate: none, priority: high"),
            rule("low", "authenticate: none, priority: low"),
            rule("plans", "authenticate: [keys], priority: high"),
        ))
        .replace("name: public,", &format!("name: public, trustedProxies: [{trusted}],"))
    };
    for (trusted, heard) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        directory.write("gateway.yaml", &text(trusted));
        let gateway = Gateway::start(portcullis::config::Config::file(directory.path("gateway.yaml"))).await;
        gateway.until(|status| status["load"]["overload"]["pressure"].as_f64() > Some(0.34)).await;
        let (told_high, told_low) = if heard { (200, 503) } else { (503, 200) };
        for (path, headers, status) in [
            ("/high", vec![], 200),
            ("/low", vec![], 503),
            ("/low", vec![("x-priority", "high")], told_high),
            ("/high", vec![("x-priority", "low")], told_low),
            ("/plans", vec![("x-api-key", gold.reveal())], 200),
            ("/plans", vec![("x-api-key", free.reveal())], 503),
            ("/plans", vec![], 401),
        ] {
            let answer = gateway.get(path, &headers).await;
            assert_eq!(
                answer.status,
                status,
                "{trusted} {path} {:?}: {}",
                headers.first().map(|h| h.0),
                answer.text
            );
        }
        let answer = gateway.get("/high", &[("x-priority", "critical")]).await;
        assert_eq!(answer.text.contains("x-priority"), heard, "the word of strangers goes no further");
    }
}

#[tokio::test]
async fn a_server_that_fails_is_asked_less() {
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ gone: {{ endpoints: ['{}'], successRate: {{ fewest: 10 }} }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: gone }}] }}] }}]\n",
        nobody()
    )))
    .await;
    let mut refused = 0;
    for turn in 0..2000 {
        let answer = gateway.get("/", &[]).await;
        match answer.status {
            502 => assert!(answer.text.contains("connect_failed"), "{}", answer.text),
            _ => {
                assert!(turn >= 10);
                assert_refused(&answer);
                refused += 1;
            }
        }
        if refused == 3 {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(refused, 3);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    assert!(metrics.contains(r#"portcullis_success_rate_refusals_total{upstream="gone"} 3"#), "{metrics}");
}

/// A limit and what asks for it hold nothing of a call that was cut in its head.
#[tokio::test]
async fn half_a_request_holds_nothing() {
    let gateway = with_one_place("max: 1", "concurrency: [one]", "").await;
    let mut half = TcpStream::connect(gateway.at("public")).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await.unwrap();
    assert_eq!(gateway.get("/", &[]).await.status, 200);
    half.write_all(b"\r\n").await.unwrap();
    let mut answer = [0; 12];
    half.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/survive_overload.md");
    let yaml = yaml_of(guide)[0];
    let directory = super::world::Directory::new("survive");
    directory.write("keys.yaml", "keys: []\n");
    directory.write("gateway.yaml", yaml);
    let check = portcullis::config::Config::file(directory.path("gateway.yaml")).check();
    assert!(check.is_accepted(), "{check}");
}
