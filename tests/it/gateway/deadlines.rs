//! Until when a caller waits, told on to the upstream.
use portcullis::config::Config;

use std::time::Duration;

use super::world::{Gateway, file, upstream, yaml_of};

async fn gateway(rule: &str) -> Gateway {
    let one = upstream("one").await;
    Gateway::of(&file(&format!(
        "upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], {rule} }}] }}]\n"
    )))
    .await
}

/// What the upstream was told, in milliseconds.
fn told(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("x-timeout-ms: ")).map(|told| told.parse().unwrap())
}

#[tokio::test]
async fn the_upstream_is_told_what_is_left() {
    let gateway = gateway("policies: { deadlineHeader: x-timeout-ms }, timeouts: { request: 30s }").await;
    for (given, most) in [("20000", 20_000), ("90000", 30_000)] {
        let left = told(&gateway.get("/", &[("x-timeout-ms", given)]).await.text).unwrap();
        assert!((1..=most).contains(&left), "{left} of {most}");
    }
    // Who says nothing has the rule's time. What may stream for longer is not told of it.
    assert!((1..=30_000).contains(&told(&gateway.get("/", &[]).await.text).unwrap()));
    assert_eq!(told(&gateway.get("/", &[("accept", "text/event-stream")]).await.text), None);
    let late = gateway.get("/slow/60000", &[("x-timeout-ms", "50")]).await;
    assert_eq!(late.status, 504);
    assert!(late.text.contains("caller_deadline"), "{}", late.text);
}

/// A gRPC call may stream where the rule says no time: then nobody is told one that its caller did not say.
#[tokio::test]
async fn a_grpc_server_is_told_what_bounds_the_whole_call() {
    let grpc =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("grpc-timeout: ").map(str::to_owned));
    let call = ("content-type", "application/grpc");
    for (rule, given, most) in [
        ("", None, None),
        ("retry: {}", None, None),
        ("retry: {}", Some("20S"), Some(20_000_000)),
        ("", Some("20S"), Some(20_000_000)),
        ("timeouts: { request: 30s }", None, Some(30_000_000)),
        ("timeouts: { request: 30s }, retry: {}", None, Some(30_000_000)),
        ("timeouts: { request: 30s }", Some("90S"), Some(30_000_000)),
    ] {
        let gateway = gateway(rule).await;
        let given: Vec<_> = given.map(|given| ("grpc-timeout", given)).into_iter().chain([call]).collect();
        let told = grpc(&gateway.get("/", &given).await.text);
        let left = told.as_ref().map(|told| told.strip_suffix('u').unwrap().parse::<u32>().unwrap());
        assert!(left <= most && left.is_some() == most.is_some(), "{rule} {given:?}: {told:?}");
    }
}

/// Wherever the queue stands, a wait is the caller's time: it ends with it, and what is told after it is less.
#[tokio::test]
async fn a_wait_is_the_callers_time() {
    for (policies, in_front) in [(", concurrency: [one]", ""), ("", ", concurrency: [one]")] {
        let one = upstream("one").await;
        let gateway = Gateway::of(&file(&format!(
            "concurrency: {{ one: {{ max: 1, queue: {{ length: 2, timeout: 30s }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] {in_front} }} }}\n\
             routes: [{{ name: r, rules: [{{ policies: {{ deadlineHeader: x-timeout-ms {policies} }}, \
             timeouts: {{ request: 60s }}, backendRefs: [{{ name: one }}] }}] }}]\n"
        )))
        .await;
        let places = |status: &serde_json::Value| {
            let limit = &status["load"]["concurrency"][0];
            (limit["inFlight"].as_u64().unwrap(), limit["waiting"].as_u64().unwrap())
        };
        let ask = |path: &'static str, given: &'static str| {
            let (client, at) = (gateway.client.clone(), gateway.at("public"));
            tokio::spawn(async move { client.get(at, path, &[("x-timeout-ms", given)]).await })
        };
        let holds = ask("/slow/20000", "60000");
        gateway.until(|status| places(status) == (1, 0)).await;
        let late = ask("/", "50").await.unwrap();
        assert!([503, 504].contains(&late.status), "{late:?}");

        let waits = ask("/", "20000");
        gateway.until(|status| places(status) == (1, 1)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        holds.abort();
        let left = told(&waits.await.unwrap().text).unwrap();
        assert!((1..=19_700).contains(&left), "{left}");
    }
}

/// Each attempt is told what is left of it, or of the whole.
#[tokio::test]
async fn an_attempt_has_its_own_time() {
    let rule = "policies: { deadlineHeader: x-timeout-ms }, retry: {}, \
                timeouts: { request: 30s, backendRequest: 10s }";
    let gateway = gateway(rule).await;
    let left = told(&gateway.get("/", &[]).await.text).unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
    let late = gateway.get("/slow/60000", &[("x-timeout-ms", "100")]).await;
    assert_eq!(late.status, 504);
    assert!(late.text.contains("caller_deadline"), "{}", late.text);
    assert_eq!(gateway.status().await["retries"]["rules"][0]["retries"], 0);
}

/// Less than is left, so that the upstream's own word about it comes in time.
#[tokio::test]
async fn the_upstream_is_told_less_by_the_margin() {
    let rule = "policies: { deadlineHeader: x-timeout-ms, deadlineMargin: 5s }, timeouts: { request: 30s }";
    let gateway = gateway(rule).await;
    let left = told(&gateway.get("/", &[("x-timeout-ms", "20000")]).await.text).unwrap();
    assert!((1..=15_000).contains(&left), "{left}");
}

/// Who takes the rule's time away has not taken the caller's.
#[tokio::test]
async fn without_a_time_of_the_rule_the_callers_holds() {
    let gateway = gateway("policies: { deadlineHeader: x-timeout-ms }, timeouts: { request: 0s }").await;
    assert_eq!(told(&gateway.get("/", &[]).await.text), None);
    let late = gateway.get("/slow/60000", &[("x-timeout-ms", "50")]).await;
    assert_eq!(late.status, 504);
    assert!(late.text.contains("caller_deadline"), "{}", late.text);
}

/// A response that dies in its middle ends long before the whole request may.
#[tokio::test]
async fn a_body_may_keep_silent_for_so_long() {
    let rule = "policies: { timeouts: { bodyIdle: 20ms } }, timeouts: { request: 0s }";
    let gateway = gateway(rule).await;
    // A line each 50 ms.
    assert!(gateway.client.send("GET", gateway.at("public"), "/trickle/1000", &[]).await.is_err());
    assert_eq!(gateway.get("/", &[]).await.status, 200);
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/deadlines_end_to_end.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
