//! Versions of one upstream by labels, as the file says it.
use std::{collections::BTreeMap, net::SocketAddr};

use portcullis::config::Config;
use serde_json::json;

use super::world::{Client, Directory, Gateway, PATIENCE, file, upstream};

/// Of the upstream that has told this.
fn name(told: &str) -> String {
    told.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Two of the first version, one of the second.
async fn three() -> [SocketAddr; 3] {
    [upstream("one-a").await, upstream("one-b").await, upstream("two").await]
}

fn versions([a, b, two]: [SocketAddr; 3], subsets: &str, rest: &str) -> String {
    file(&format!(
        "upstreams:\n  \
           orders:\n    \
             {subsets}\n    \
             endpoints:\n    \
             - {{ address: '{a}', labels: {{ version: v1 }} }}\n    \
             - {{ address: '{b}', labels: {{ version: v1 }} }}\n    \
             - {{ address: '{two}', labels: {{ version: v2 }} }}\n\
         {rest}"
    ))
}

async fn counts(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    times: usize,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..times {
        let answer = gateway.get(path, headers).await;
        let told = if answer.status == 200 { name(&answer.text) } else { answer.status.to_string() };
        *counts.entry(told).or_insert(0) += 1;
    }
    counts
}

fn of<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[tokio::test]
async fn rules_pick_by_labels() {
    let rules = "routes:\n- name: r\n  rules:\n  \
         - { matches: [{ path: { value: /new } }], backendRefs: [{ name: orders, subset: { version: v2 } }] }\n  \
         - { matches: [{ path: { value: /none } }], backendRefs: [{ name: orders, subset: { version: v3 } }] }\n  \
         - name: both\n    matches: [{ path: { value: /both } }]\n    policies: { split: { by: { header: x-user }, variantHeader: x-variant } }\n    \
           backendRefs: [{ name: orders, subset: { version: v1 } }, { name: orders, subset: { version: v2 } }]\n  \
         - { backendRefs: [{ name: orders }] }\n";
    let gateway = Gateway::of(&versions(three().await, "", rules)).await;
    assert_eq!(counts(&gateway, "/new", &[], 6).await, of([("two", 6)]));
    assert_eq!(counts(&gateway, "/", &[], 6).await, of([("one-a", 2), ("one-b", 2), ("two", 2)]));
    assert_eq!(counts(&gateway, "/none", &[], 2).await, of([("503", 2)]));
    let mut seen = BTreeMap::new();
    for user in 0..20 {
        let answer = gateway.get("/both", &[("x-user", &user.to_string())]).await;
        let variant = answer.headers["x-variant"].to_str().unwrap().to_owned();
        let version = if name(&answer.text) == "two" { "v2" } else { "v1" };
        assert_eq!(variant, format!("orders{{version={version}}}"));
        *seen.entry(variant).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    let status = gateway.status().await;
    assert_eq!(status["upstreams"].as_array().unwrap().len(), 1);
    assert_eq!(status["upstreams"][0]["endpoints"].as_array().unwrap().len(), 3);
    assert_eq!(status["upstreams"][0]["endpoints"][2]["labels"], json!({ "version": "v2" }));
}

#[tokio::test]
async fn callers_pick_where_they_may_and_others_stand_in() {
    let rules = "routes: [{ name: r, rules: [\
         { matches: [{ path: { value: /old } }], backendRefs: [{ name: orders, subset: { version: v1 } }] }, \
         { backendRefs: [{ name: orders }] }] }]\n";
    let all = three().await;
    let asks = |version| [("x-version", version)];
    for (fallback, third) in [
        ("", of([("503", 6)])),
        (", fallbackPolicy: noFallback", of([("503", 6)])),
        (", fallbackPolicy: anyEndpoint", of([("one-a", 2), ("one-b", 2), ("two", 2)])),
        (", fallbackPolicy: defaultSubset, defaultSubset: { version: v1 }", of([("one-a", 3), ("one-b", 3)])),
    ] {
        let subsets = format!("subsets: {{ fromHeaders: {{ version: x-version }}{fallback} }}");
        let gateway = Gateway::of(&versions(all, &subsets, rules)).await;
        assert_eq!(counts(&gateway, "/", &asks("v2"), 4).await, of([("two", 4)]), "{fallback}");
        assert_eq!(counts(&gateway, "/", &asks("v3"), 6).await, third, "{fallback}");
        assert_eq!(counts(&gateway, "/", &[], 3).await.len(), 3, "{fallback}");
        assert_eq!(
            counts(&gateway, "/old", &asks("v2"), 4).await,
            of([("one-a", 2), ("one-b", 2)]),
            "{fallback}"
        );
    }
}

#[tokio::test]
async fn a_reload_deals_labels_anew() {
    let directory = Directory::new("subsets");
    let all @ [a, b, two] = three().await;
    let rules =
        "routes: [{ name: r, rules: [{ backendRefs: [{ name: orders, subset: { version: v2 } }] }] }]\n";
    directory.write("gateway.yaml", &versions(all, "", rules));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    assert_eq!(counts(&gateway, "/", &[], 3).await, of([("two", 3)]));
    let at = gateway.at("public");
    let slow = tokio::spawn(async move { Client::new().get(at, "/slow/1500", &[]).await });
    directory.write("gateway.yaml", &versions([two, b, a], "", rules));
    let until = tokio::time::Instant::now() + PATIENCE;
    while counts(&gateway, "/", &[], 1).await != of([("one-a", 1)]) {
        assert!(tokio::time::Instant::now() < until);
    }
    assert_eq!(counts(&gateway, "/", &[], 3).await, of([("one-a", 3)]));
    assert_eq!(name(&slow.await.unwrap().text), "two", "what was on its way is served");
}

#[tokio::test]
async fn a_retry_stays_in_its_subset_and_a_mirror_has_its_own() {
    let [_, b, two] = three().await;
    let dead = super::world::nobody();
    let rules = "routes: [{ name: r, rules: [{ retry: { attempts: 2 }, \
         filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: orders, subset: { version: v2 } } } }], \
         backendRefs: [{ name: orders, subset: { version: v1 } }] }] }]\n";
    let gateway = Gateway::of(&versions([dead, b, two], "", rules)).await;
    assert_eq!(counts(&gateway, "/", &[], 10).await, of([("one-b", 10)]));
    assert_eq!(gateway.status().await["mirrors"][0]["mirror"], "orders{version=v2}");
}

/// The same in a client of the mesh.
#[tokio::test]
async fn a_client_calls_a_subset_by_a_name_of_its_own() {
    let [a, b, two] = three().await;
    let directory = Directory::new("subset-client");
    directory.write(
        "client.yaml",
        &format!(
            "apiVersion: portcullis/v1alpha1\n\
             upstreams:\n  orders:\n    endpoints:\n    - '{a}'\n    - {{ address: '{b}', labels: {{ version: v1 }} }}\n    \
             - {{ address: '{two}', labels: {{ version: v2 }} }}\n\
             destinations: {{ next: {{ backendRefs: [{{ name: orders, subset: {{ version: v2 }} }}] }} }}\n"
        ),
    );
    let configured = Config::file(directory.path("client.yaml")).client().await.unwrap();
    for _ in 0..3 {
        let request = http::Request::get("http://next/").body(portcullis::body::Body::empty()).unwrap();
        let answer = configured.client().send(request).await;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(name(&String::from_utf8_lossy(&body)), "two");
    }
}
