//! What is given in the place of failures, over real sockets.
#![cfg(feature = "tls")]

use std::net::SocketAddr;

use portcullis::config::Config;

use super::world::{Gateway, file, nobody, upstream};
use crate::support::{log::Log, provider::Provider};

/// A gateway before an upstream that is dead, whose breaker opens at once, and another, with this rule.
async fn gateway(other: SocketAddr, rule: &str) -> Gateway {
    guarded(other, rule, "http://127.0.0.1:1").await
}

/// The same, with an issuer of tokens.
async fn guarded(other: SocketAddr, rule: &str, issuer: &str) -> Gateway {
    let (dead, idle) = (nobody(), nobody());
    Gateway::of(&file(&format!(
        "authentication: {{ idp: {{ jwt: {{ issuer: '{issuer}', audiences: [shop], jwks: {{ fetch: {{ dangerPlainHttp: \
         true }} }} }} }} }}\n\
         authorizers: {{ iam: {{ url: 'http://{idle}/check' }} }}\n\
         rateLimits: {{ one: {{ rate: 1/h }} }}\n\
         upstreams: {{ first: {{ endpoints: ['{dead}'], circuitBreaker: {{ consecutiveFailures: 1, openFor: 1h, \
         maxOpenFor: 1h }} }}, other: {{ endpoints: ['{other}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: first }}], {rule} }}] }}]\n"
    )))
    .await
}

async fn fallbacks(gateway: &Gateway) -> (u64, u64) {
    let told = gateway.status().await["fallbacks"][0].clone();
    assert_eq!(told["rule"], "r/all");
    (told["given"].as_u64().unwrap(), told["notGiven"].as_u64().unwrap())
}

#[tokio::test]
async fn a_static_answer_is_given_while_the_upstream_is_dead_and_its_breaker_open() {
    let (log, _guard) = Log::start();
    let rule = r#"policies: { fallback: { response: { status: 203, headers: [{ name: content-type, value: application/json }],
        body: "[]" } } }"#;
    let gateway = gateway(nobody(), rule).await;
    for _ in 0..3 {
        let answer = gateway.get("/", &[]).await;
        assert_eq!((answer.status, &*answer.text), (203, "[]"));
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    assert_eq!(gateway.status().await["circuitBreakers"][0]["refused"], 2);
    assert_eq!(fallbacks(&gateway).await, (3, 0));
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_fallbacks_total{route="r/all",given="answer"} 3"#,
        r#"portcullis_fallbacks_total{route="r/all",given="server"} 0"#,
        r#"portcullis_fallbacks_not_given_total{route="r/all"} 0"#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
    let told: Vec<_> =
        log.access(3).await.iter().map(|line| (line["fallback"].clone(), line["failed"].clone())).collect();
    let expected =
        ["connect_failed", "circuit_open", "circuit_open"].map(|failed| ("answer".into(), failed.into()));
    assert_eq!(told, expected);
    // Not in gRPC: it means nothing there.
    let answer = gateway.get("/", &[("content-type", "application/grpc")]).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (200, &"14".parse().unwrap()));
}

#[tokio::test]
async fn another_upstream_is_asked_as_the_first_would_have_been() {
    let rule = "policies: { fallback: { on: [connect-failure, 5xx], backendRef: { name: other } } }, filters: [{ type: \
        RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-filtered, value: once }] } }]";
    let gateway = gateway(upstream("other").await, rule).await;
    for method in ["GET", "POST", "GET"] {
        let answer = gateway.client.send(method, gateway.at("public"), "/a", &[]).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.text.starts_with("other /a\n"), "{}", answer.text);
        assert_eq!(answer.text.matches("x-filtered: once").count(), 1);
    }
    assert_eq!(fallbacks(&gateway).await, (3, 0));
}

/// A lost connection is a case by its own name, and what nobody asked for stands.
#[tokio::test]
async fn only_the_cases_that_were_said_are_mended() {
    for (on, status) in [("connect-failure", 200), ("unavailable", 502)] {
        let rule = format!("policies: {{ fallback: {{ on: [{on}], backendRef: {{ name: other }} }} }}");
        let gateway = gateway(upstream("other").await, &rule).await;
        let answer = gateway.get("/", &[]).await;
        assert!(answer.status == status || status == 502 && answer.status == 503, "{on}: {}", answer.status);
    }
}

#[tokio::test]
async fn if_the_other_is_dead_too_the_first_failure_stands() {
    let gateway = gateway(nobody(), "policies: { fallback: { backendRef: { name: other } } }").await;
    assert!(gateway.get("/", &[]).await.status >= 502);
    assert_eq!(fallbacks(&gateway).await, (0, 1));
}

/// Who could not be let in reaches no other upstream, whatever the reason.
#[tokio::test]
async fn nobody_gets_past_a_gate_by_it() {
    for (gate, answers) in [
        ("authenticate: [idp]", [401, 401]),
        ("authorize: { authorizers: [iam] }", [503, 503]),
        ("rateLimit: [one]", [200, 429]),
    ] {
        let rule = format!(
            "policies: {{ {gate}, fallback: {{ on: [5xx, reset], codes: [401, 403, 429], backendRef: {{ name: other }} }} }}"
        );
        let gateway = gateway(upstream("other").await, &rule).await;
        let mut passed = 0;
        for status in answers {
            let answer = gateway.get("/", &[]).await;
            assert_eq!(answer.status, status, "{gate}: {}", answer.text);
            assert_eq!(answer.text.starts_with("other /"), status == 200);
            passed += u64::from(status == 200);
        }
        assert_eq!(fallbacks(&gateway).await, (passed, 0), "{gate}");
    }
}

#[tokio::test]
async fn while_the_identity_provider_is_down_nobody_gets_in_by_it() {
    let provider = Provider::start().await;
    let token = format!("Bearer {}", provider.token("alice"));
    provider.kill().await;
    let rule = "policies: { authenticate: [idp], fallback: { backendRef: { name: other } } }";
    let gateway = guarded(upstream("other").await, rule, &provider.issuer()).await;
    for (headers, status) in [(vec![], 401), (vec![("authorization", &*token)], 503)] {
        let answer = gateway.get("/", &headers).await;
        assert_eq!(answer.status, status);
        assert!(!answer.text.contains("other /"), "{}", answer.text);
    }
    assert_eq!(fallbacks(&gateway).await, (0, 0));
}

#[tokio::test]
async fn a_faulty_one_is_told_by_its_place() {
    let text = file(
        "upstreams: { one: { endpoints: ['127.0.0.1:1'] } }\n\
         routes: [{ name: r, rules: [{ name: all, backendRefs: [{ name: one }], policies: { fallback: { backendRef: \
         { name: one } } } }] }]\n",
    );
    let told = Config::text("f", &*text).check().to_string();
    let expected = "routes[0].rules[0].policies.fallback.backendRef.name: the rule has no other upstream";
    assert!(told.contains(expected), "{told}");
}
