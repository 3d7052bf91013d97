//! Who gets a request, as the file says it.
use portcullis::config::Config;
use serde_json::json;

use super::world::{Gateway, file, upstream, yaml_of};

/// The files of the guide are accepted as they stand.
#[test]
fn the_files_of_the_guide_are_sound() {
    let guide = include_str!("../../../docs/guides/choose_a_balancer.md");
    let files = yaml_of(guide);
    assert_eq!(files.len(), 2);
    for yaml in files {
        let check = Config::text("gateway.yaml", yaml).check();
        assert!(check.is_accepted(), "{check}");
    }
}

/// Of the upstream that has told this.
fn name(told: &str) -> &str {
    told.split_whitespace().next().unwrap()
}

#[tokio::test]
async fn weights_priorities_and_zones_are_obeyed_and_shown() {
    let (heavy, light, spare) = (upstream("heavy").await, upstream("light").await, upstream("spare").await);
    let gateway = Gateway::of(&file(&format!(
        "upstreams:\n  \
           one:\n    \
             balance: {{ policy: roundRobin, zone: a, panicThreshold: 0%, slowStart: {{ window: 1m, minWeight: 20% }} }}\n    \
             endpoints:\n    \
             - {{ address: '{heavy}', weight: 3, zone: a }}\n    \
             - {{ address: '{light}', zone: a }}\n    \
             - {{ address: '{spare}', priority: 1, zone: a }}\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
    )))
    .await;
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..40 {
        let answer = gateway.get("/", &[]).await;
        assert_eq!(answer.status, 200);
        *counts.entry(name(&answer.text).to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [30, 10], "{counts:?}");
    let status = gateway.status().await;
    let shown = |at: usize| {
        let endpoint = &status["upstreams"][0]["endpoints"][at];
        json!([
            endpoint["address"],
            endpoint["weight"],
            endpoint["priority"],
            endpoint["zone"],
            endpoint["withheld"]
        ])
    };
    assert_eq!(shown(0), json!([heavy.to_string(), 3, 0, "a", []]));
    assert_eq!(shown(2), json!([spare.to_string(), 1, 1, "a", []]));
}

#[tokio::test]
async fn a_key_chooses_the_endpoint() {
    let all = [upstream("one").await, upstream("two").await, upstream("three").await];
    for policy in ["ringHash", "maglev"] {
        let list = all.iter().map(|at| format!("'{at}'")).collect::<Vec<_>>().join(", ");
        let gateway = Gateway::of(&file(&format!(
            "upstreams:\n  \
               one: {{ endpoints: [{list}], balance: {{ policy: {policy}, key: {{ header: x-user }}, hashBalanceFactor: 200 }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}] }}] }}]\n"
        )))
        .await;
        let mut seen = std::collections::BTreeSet::new();
        for user in 0..20 {
            let user = format!("user-{user}");
            let of = async || name(&gateway.get("/", &[("x-user", &user)]).await.text).to_owned();
            let first = of().await;
            assert_eq!(of().await, first, "{policy}");
            seen.insert(first);
        }
        assert_eq!(seen.len(), 3, "{policy}: {seen:?}");
    }
}
