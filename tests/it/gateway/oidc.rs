//! A gateway whose keys are an identity provider's.
#![cfg(feature = "tls")]

use std::{net::SocketAddr, time::Duration};

use portcullis::config::Config;

use super::world::{Client, Directory, Gateway, PATIENCE, Process, file, upstream};
use crate::support::provider::{KEYS, Kind, OPENID, Provider};

/// One rule that asks for a token, and one that does not.
fn guarded(jwt: &str, upstream: SocketAddr) -> String {
    file(&format!(
        "authentication:\n  customers:\n    jwt:\n{jwt}\
         upstreams: {{ one: {{ endpoints: ['{upstream}'] }} }}\n\
         routes:\n\
         - name: r\n  \
           rules:\n  \
           - matches: [{{ path: {{ type: PathPrefix, value: /open }} }}]\n    \
             policies: {{ authenticate: none }}\n    \
             backendRefs: [{{ name: one }}]\n  \
           - policies: {{ authenticate: [customers] }}\n    \
             backendRefs: [{{ name: one }}]\n"
    ))
}

fn plain(provider: &Provider, more: &str) -> String {
    format!(
        "      issuer: {}\n      audiences: [shop]\n      jwks: {{ fetch: {{ dangerPlainHttp: true{more} }} }}\n",
        provider.issuer()
    )
}

async fn status_of(gateway: &Gateway, token: &str) -> u16 {
    gateway.get("/", &[("authorization", &format!("Bearer {token}"))]).await.status
}

#[tokio::test]
async fn two_lines_guard_an_api_with_a_provider_of_openid_connect() {
    let provider = Provider::start_tls().await;
    let directory = Directory::new("oidc");
    let jwt = format!("      issuer: {}\n      audiences: [shop]\n", provider.issuer());
    directory.write("gateway.yaml", &guarded(&jwt, upstream("one").await));
    directory.write("roots.pem", provider.roots());
    let path = |name: &str| directory.path(name).to_str().unwrap().to_owned();
    // The roots of this machine, for this process.
    let roots = [("SSL_CERT_FILE", path("roots.pem"))];
    let mut process = Process::start_with(&["--config", &path("gateway.yaml")], &roots);
    let at = process.addresses(2).await["public"];
    let client = Client::new();
    for kind in [Kind::Es256, Kind::Rs256, Kind::EdDsa] {
        let signer = provider.signer();
        let bearer = format!("Bearer {}", provider.token("alice"));
        assert_eq!(client.get(at, "/", &[("authorization", &bearer)]).await.status, 200, "{}", signer.id);
        provider.publish(kind);
    }
    let refused = client.get(at, "/", &[]).await;
    assert_eq!((refused.status, refused.headers.contains_key("www-authenticate")), (401, true));
    let stranger = Provider::start().await.token("alice");
    let stranger = client.get(at, "/", &[("authorization", &format!("Bearer {stranger}"))]).await;
    assert_eq!(stranger.status, 401);
    assert_eq!(client.get(at, "/open", &[]).await.status, 200);
    assert_eq!((provider.hits(OPENID), provider.hits(KEYS)), (1, 1), "before traffic, once");
    process.signal("TERM");
}

#[tokio::test]
async fn a_dead_provider_blocks_only_the_rules_that_name_it() {
    let mut provider = Provider::start().await;
    let token = provider.token("alice");
    provider.kill().await;
    let text = guarded(&plain(&provider, ""), upstream("one").await);
    let gateway = Gateway::of(&text).await;
    let answer = gateway.get("/", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true));
    assert_eq!(gateway.get("/", &[]).await.status, 401, "who shows nothing needs no keys");
    assert_eq!(gateway.get("/open", &[]).await.status, 200);
    assert_eq!(gateway.client.get(gateway.at("admin"), "/readyz", &[]).await.status, 200);

    let status = gateway.status().await;
    let keys = &status["keySets"][0];
    assert_eq!((&keys["provider"], &keys["state"]), (&"customers".into(), &"unknown".into()), "{status:#}");
    assert_eq!(keys["source"], provider.issuer());
    assert!(keys["lastError"].as_str().unwrap().starts_with("nothing could be fetched"), "{status:#}");
    assert!(keys["fetches"]["unreachable"].as_u64().unwrap() > 0);

    provider.revive().await;
    let status = gateway.until(|status| status["keySets"][0]["state"] == "fresh").await;
    assert_eq!((&status["keySets"][0]["keys"], &status["keySets"][0]["lastError"]), (&1.into(), &().into()));
    assert_eq!(status_of(&gateway, &token).await, 200);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for line in [
        r#"portcullis_key_set_fetches_total{provider="customers",result="success"} 1"#,
        r#"portcullis_key_set_keys{provider="customers"} 1"#,
        r#"portcullis_key_set_skipped_keys{provider="customers"} 0"#,
        r#"portcullis_key_set_age_seconds{provider="customers"} "#,
        r#"portcullis_key_set_fetches_total{provider="customers",result="unreachable"} "#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

/// Long after its keys should have been fetched again.
#[tokio::test]
async fn a_provider_that_is_gone_is_noticed_by_nobody_with_a_valid_token() {
    let mut provider = Provider::start().await;
    let text = guarded(&plain(&provider, ", lifetime: 1s, minLifetime: 1s"), upstream("one").await);
    let gateway = Gateway::of(&text).await;
    assert_eq!(status_of(&gateway, &provider.token("alice")).await, 200);
    provider.kill().await;
    let asked = async {
        for user in 0.. {
            // Each has a token that nobody has seen before.
            assert_eq!(status_of(&gateway, &provider.token(&format!("user {user}"))).await, 200);
            assert_eq!(gateway.client.get(gateway.at("admin"), "/readyz", &[]).await.status, 200);
            let keys = &gateway.status().await["keySets"][0];
            if keys["state"] == "stale" && keys["fetches"]["unreachable"].as_u64() >= Some(3) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is missed");
    provider.revive().await;
    gateway.until(|status| status["keySets"][0]["state"] == "fresh").await;
    assert_eq!(status_of(&gateway, &provider.token("alice")).await, 200);
}

#[tokio::test]
async fn a_reload_keeps_the_keys_and_fetches_none() {
    let mut provider = Provider::start().await;
    let directory = Directory::new("oidc-reload");
    let one = upstream("one").await;
    let write = |more: &str, rest: &str| {
        directory.write("next.yaml", &(guarded(&plain(&provider, more), one) + rest));
        std::fs::rename(directory.path("next.yaml"), directory.path("gateway.yaml")).unwrap();
    };
    write("", "");
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let token = provider.token("alice");
    assert_eq!(status_of(&gateway, &token).await, 200);
    // Something else changes; then how keys are fetched does.
    write("", "# changed\n");
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(status_of(&gateway, &token).await, 200);
    write(", staleFor: 1h, timeout: 2s", "");
    gateway.until(|status| status["generation"] == 3).await;
    assert_eq!(status_of(&gateway, &token).await, 200);
    assert_eq!((provider.hits(OPENID), provider.hits(KEYS)), (1, 1));
    // And without the provider.
    provider.kill().await;
    write(", staleFor: 2h", "");
    gateway.until(|status| status["generation"] == 4).await;
    assert_eq!(status_of(&gateway, &token).await, 200);
    // Another place has other keys, though the provider's name stays.
    provider.revive().await;
    let url = format!(
        "      issuer: {}\n      audiences: [shop]\n      jwks: {{ url: '{}', fetch: {{ dangerPlainHttp: true }} }}\n",
        provider.issuer(),
        provider.keys_url()
    );
    directory.write("gateway.yaml", &guarded(&url, one));
    gateway.until(|status| status["generation"] == 5).await;
    assert_eq!(status_of(&gateway, &token).await, 200);
    assert_eq!((provider.hits(OPENID), provider.hits(KEYS)), (1, 2));
    let status = gateway.status().await;
    assert_eq!(status["keySets"].as_array().unwrap().len(), 1, "{status:#}");
}

#[tokio::test]
async fn providers_of_one_source_share_its_keys() {
    let provider = Provider::start().await;
    let jwt = |audience: &str| {
        format!(
            "{{ jwt: {{ issuer: '{}', audiences: [{audience}], jwks: {{ fetch: {{ dangerPlainHttp: true }} }} }} }}",
            provider.issuer()
        )
    };
    let text = file(&format!(
        "authentication: {{ a: {}, b: {} }}\n\
         upstreams: {{ one: {{ endpoints: ['{}'] }} }}\n\
         routes: [{{ name: r, rules: [{{ policies: {{ authenticate: [a, b] }}, \
         backendRefs: [{{ name: one }}] }}] }}]\n",
        jwt("other"),
        jwt("shop"),
        upstream("one").await
    ));
    let gateway = Gateway::of(&text).await;
    assert_eq!(status_of(&gateway, &provider.token("alice")).await, 200);
    assert_eq!((provider.hits(OPENID), provider.hits(KEYS)), (1, 1));
    let status = gateway.status().await;
    assert_eq!(status["keySets"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_check_asks_nobody_and_says_what_is_wrong_where_it_stands() {
    let provider = Provider::start().await;
    let at = "127.0.0.1:9".parse().unwrap();
    assert!(Config::text("f", guarded(&plain(&provider, ""), at)).check().is_accepted());
    assert_eq!(provider.connections(), 0);
    let directory = Directory::new("oidc-check");
    directory.write("no.pem", "nothing");
    let faults = |jwt: &str| {
        directory.write("gateway.yaml", &guarded(&format!("      {jwt}\n"), at));
        Config::file(directory.path("gateway.yaml")).check().to_string()
    };
    for (jwt, problem) in [
        (
            "{ issuer: 'http://id.example', audiences: [a] }",
            "7:9: authentication.customers.jwt.issuer: expected https",
        ),
        (
            "{ issuer: customers, audiences: [a] }",
            "7:9: authentication.customers.jwt.issuer: expected a URL such as",
        ),
        (
            "{ issuer: i, audiences: [a], jwks: { url: 'ftp://id.example' } }",
            "7:44: authentication.customers.jwt.jwks.url: expected a URL such as",
        ),
        (
            "{ issuer: i, audiences: [a], jwks: { url: 'https://id.example/k', file: f } }",
            "authentication.customers.jwt.jwks: expected only one of `file`, `inline` and `url`",
        ),
        (
            "{ issuer: 'https://id.example', audiences: [a], jwks: { fetch: { roots: { file: no.pem } } } }",
            "authentication.customers.jwt.jwks.fetch.roots.file: no root certificate was found",
        ),
        (
            "{ issuer: i, audiences: [a], jwks: { inline: '{}', fetch: { timeout: 1s } } }",
            "authentication.customers.jwt.jwks.fetch: is for keys that are fetched",
        ),
        (
            "{ issuer: 'https://id.example', audiences: [a], jwks: { fetch: { lifetime: soon } } }",
            "authentication.customers.jwt.jwks.fetch.lifetime: expected a duration",
        ),
        (
            "{ issuer: 'https://id.example', audiences: [a], jwks: { fetch: { cooldown: 0s } } }",
            "authentication.customers.jwt.jwks.fetch.cooldown: expected a second or more",
        ),
        (
            "{ issuer: 'https://id.example', audiences: [a], jwks: { fetch: { minLifetime: 1h, maxLifetime: 1m } } }",
            "authentication.customers.jwt.jwks.fetch.maxLifetime: expected no less than `minLifetime`",
        ),
    ] {
        let said = faults(jwt);
        assert!(said.contains(problem), "{problem:?} in {said}");
        assert!(said.ends_with("refused"), "{said}");
    }
}
