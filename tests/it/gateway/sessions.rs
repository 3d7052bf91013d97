//! Clients that stay where they are, as the file says it.
use std::{collections::BTreeSet, net::SocketAddr};

use portcullis::config::Config;

use super::world::{Answer, Directory, Gateway, PATIENCE, file, upstream};

async fn three() -> [SocketAddr; 3] {
    [upstream("one").await, upstream("two").await, upstream("three").await]
}

fn name(answer: &Answer) -> String {
    answer.text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn given(answer: &Answer) -> Option<String> {
    let set = answer.headers.get("set-cookie")?.to_str().unwrap();
    Some(set.split(';').next().unwrap().to_owned())
}

/// Clients that are new: where each is, and its cookie.
async fn clients(gateway: &Gateway, path: &str, count: usize) -> Vec<(String, String)> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let answer = gateway.get(path, &[]).await;
        clients.push((name(&answer), given(&answer).unwrap()));
    }
    clients
}

async fn all_stay(gateway: &Gateway, path: &str, clients: &[(String, String)]) {
    for (place, cookie) in clients {
        let answer = gateway.get(path, &[("cookie", cookie)]).await;
        assert_eq!((&name(&answer), given(&answer)), (place, None));
    }
}

fn one_upstream(all: [SocketAddr; 3], top: &str, session: &str) -> String {
    let list = all.map(|at| format!("'{at}'")).join(", ");
    file(&format!(
        "{top}upstreams: {{ one: {{ endpoints: [{list}] }} }}\n\
         routes: [{{ name: r, rules: [{{ name: carts, backendRefs: [{{ name: one }}], sessionPersistence: {session} }}] }}]\n"
    ))
}

#[tokio::test]
async fn a_client_stays_also_across_reloads_and_instances() {
    let directory = Directory::new("sessions");
    let all = three().await;
    directory.write("gateway.yaml", &one_upstream(all, "", "{}"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let first = gateway.get("/", &[]).await;
    let set = first.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("session-") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let known = clients(&gateway, "/", 6).await;
    assert_eq!(known.iter().map(|(place, _)| place).collect::<BTreeSet<_>>().len(), 3);
    all_stay(&gateway, "/", &known).await;
    // Another order, and a longer name: they are known all the same.
    directory
        .write("gateway.yaml", &one_upstream([all[2], all[0], all[1]], "shutdown: { grace: 7s }\n", "{}"));
    let loaded =
        |status: &serde_json::Value| status["upstreams"][0]["endpoints"][0]["address"] == all[2].to_string();
    gateway.until(loaded).await;
    all_stay(&gateway, "/", &known).await;

    directory.write("key", "000102030405060708090a0b0c0d0e0f\n");
    let keyed = format!("sessionKey: {{ file: {} }}\n", directory.path("key").display());
    let text = one_upstream(all, &keyed, "{ sessionName: cart }");
    let (one, other) = (Gateway::of(&text).await, Gateway::of(&text).await);
    let known = clients(&one, "/", 6).await;
    all_stay(&other, "/", &known).await;
}

/// As the Gateway API has it: a session goes before the weights of a rule, also before a weight of zero.
#[tokio::test]
async fn a_session_goes_before_weights() {
    let directory = Directory::new("session-weights");
    let [a, b, c] = three().await;
    let text = |old: u32, new: u32| {
        file(&format!(
            "upstreams:\n  orders:\n    endpoints:\n    - {{ address: '{a}', labels: {{ version: v1 }} }}\n    \
             - {{ address: '{b}', labels: {{ version: v1 }} }}\n    - {{ address: '{c}', labels: {{ version: v2 }} }}\n\
             routes:\n- name: r\n  rules:\n  - name: carts\n    sessionPersistence: {{}}\n    policies: {{ split: {{ variantHeader: x-variant }} }}\n    \
             backendRefs:\n    - {{ name: orders, subset: {{ version: v1 }}, weight: {old} }}\n    \
             - {{ name: orders, subset: {{ version: v2 }}, weight: {new} }}\n"
        ))
    };
    directory.write("gateway.yaml", &text(1, 1));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let known = clients(&gateway, "/", 20).await;
    assert_eq!(known.iter().map(|(place, _)| place).collect::<BTreeSet<_>>().len(), 3);
    all_stay(&gateway, "/", &known).await;
    directory.write("gateway.yaml", &text(0, 1));
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut in_a_row = 0;
    while in_a_row < 20 {
        in_a_row = if name(&gateway.get("/", &[]).await) == "three" { in_a_row + 1 } else { 0 };
        assert!(tokio::time::Instant::now() < until);
    }
    all_stay(&gateway, "/", &known).await;
    let old = known.iter().find(|(place, _)| place == "one").unwrap();
    let answer = gateway.get("/", &[("cookie", &old.1)]).await;
    assert_eq!(answer.headers["x-variant"], "orders{version=v1}");
}

/// The canary says who goes to which version; a session is within that.
#[tokio::test]
async fn a_canary_goes_before_sessions() {
    let [a, b, c] = three().await;
    let gateway = Gateway::of(&file(&format!(
        "upstreams: {{ old: {{ endpoints: ['{a}', '{b}'] }}, new: {{ endpoints: ['{c}'] }} }}\n\
         routes:\n- name: r\n  rules:\n  - {{ name: plain, matches: [{{ path: {{ value: /plain }} }}], sessionPersistence: {{ sessionName: s }}, \
         backendRefs: [{{ name: new }}] }}\n  - {{ name: carts, sessionPersistence: {{ sessionName: s }}, \
         policies: {{ split: {{ canary: {{ steer: pause }} }} }}, backendRefs: [{{ name: old }}, {{ name: new }}] }}\n"
    )))
    .await;
    let at_new = &clients(&gateway, "/plain", 1).await[0].1;
    for _ in 0..3 {
        assert_ne!(name(&gateway.get("/", &[("cookie", at_new)]).await), "three");
    }
    let old = clients(&gateway, "/", 4).await;
    all_stay(&gateway, "/", &old).await;
}

#[tokio::test]
async fn what_is_asked_for_is_done() {
    let all = three().await;
    let session = "{ sessionName: cart, absoluteTimeout: 1h, idleTimeout: 10m, strict: true, \
                   cookieConfig: { lifetimeType: Permanent, path: /shop, sameSite: Strict, secure: true } }";
    let gateway = Gateway::of(&one_upstream(all, "", session)).await;
    let answer = gateway.get("/", &[]).await;
    let set = answer.headers["set-cookie"].to_str().unwrap();
    assert!(
        set.starts_with("cart=")
            && set.ends_with("; Path=/shop; HttpOnly; SameSite=Strict; Secure; Max-Age=3600"),
        "{set}"
    );
    // What clients make up is not there.
    let forged = format!("cart={}", "0".repeat(64));
    let answer = gateway.get("/", &[("cookie", &forged)]).await;
    assert_eq!((answer.status, given(&answer).is_some()), (200, true));

    let gateway = Gateway::of(&one_upstream(all, "", "{ type: Header, sessionName: x-cart }")).await;
    let answer = gateway.get("/", &[]).await;
    let token = answer.headers["x-cart"].to_str().unwrap();
    assert!(!answer.headers.contains_key("set-cookie"));
    for _ in 0..3 {
        assert_eq!(name(&gateway.get("/", &[("x-cart", token)]).await), name(&answer));
    }
}

/// In a client of the mesh: by a header, across destinations of several versions.
#[tokio::test]
async fn a_client_of_the_mesh_hands_on_a_header() {
    let [a, b, c] = three().await;
    let directory = Directory::new("session-client");
    let text = |kind: &str| {
        format!(
            "apiVersion: portcullis/v1alpha1\n\
             upstreams: {{ v1: {{ endpoints: ['{a}', '{b}'] }}, v2: {{ endpoints: ['{c}'] }} }}\n\
             destinations: {{ carts: {{ backendRefs: [{{ name: v1 }}, {{ name: v2 }}], sessionPersistence: {kind} }} }}\n"
        )
    };
    directory.write("client.yaml", &text("{ type: Header }"));
    let configured = Config::file(directory.path("client.yaml")).client().await.unwrap();
    let call = async |token: Option<&str>| {
        let request = http::Request::get("http://carts/");
        let request = token.into_iter().fold(request, |request, token| request.header("x-session", token));
        let answer = configured.client().send(request.body(portcullis::body::Body::empty()).unwrap()).await;
        let token = answer.headers().get("x-session").map(|value| value.to_str().unwrap().to_owned());
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        (String::from_utf8_lossy(&body).split(' ').next().unwrap().to_owned(), token)
    };
    let mut places = BTreeSet::new();
    for _ in 0..12 {
        let (place, token) = call(None).await;
        let token = token.unwrap();
        for _ in 0..3 {
            assert_eq!(call(Some(&token)).await, (place.clone(), None));
        }
        places.insert(place);
    }
    assert_eq!(places.len(), 3, "{places:?}");
    directory.write("client.yaml", &text("{}"));
    let refused = Config::file(directory.path("client.yaml")).client().await.unwrap_err().to_string();
    assert!(refused.contains("destinations.carts.sessionPersistence.type: expected `Header`"), "{refused}");
}
