//! Until when a caller waits, told on to the upstream.
use portcullis::config::Config;

use super::world::{Gateway, file, upstream};

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
    // Who says nothing has the rule's time, of which nobody is told.
    assert_eq!(told(&gateway.get("/", &[]).await.text), None);
    let late = gateway.get("/slow/60000", &[("x-timeout-ms", "50")]).await;
    assert_eq!(late.status, 504);
    assert!(late.text.contains("caller_deadline"), "{}", late.text);
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

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/deadlines_end_to_end.md");
    let yaml = guide.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
