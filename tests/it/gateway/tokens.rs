//! What the file says of tokens: several issuers, credentials that are needed together, guests.
#![cfg(feature = "jwt")]

use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use portcullis::config::Config;

use super::world::{Directory, Gateway, file, upstream};

const USERS: &[u8; 32] = &[7; 32];
const DEVICES: &[u8; 32] = &[8; 32];

fn token(secret: &[u8], typ: &str, claims: &Value) -> String {
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 300;
    let mut all = json!({ "aud": "shop", "exp": end });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let header = json!({ "alg": "HS256", "typ": typ }).to_string();
    let signed = [header, all.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn provider(name: &str, secret: &[u8], more: &str) -> String {
    let key = URL_SAFE_NO_PAD.encode(secret);
    format!(
        "  {name}:\n    jwt: {{ issuer: 'https://{name}.example', audiences: [shop], algorithms: [HS256], \
         jwks: {{ inline: '{{\"keys\":[{{\"kty\":\"oct\",\"k\":\"{key}\"}}]}}' }}, {more} }}\n"
    )
}

fn rule(path: &str, policies: &str) -> String {
    format!(
        "  - matches: [{{ path: {{ type: PathPrefix, value: {path} }} }}]\n    policies: {{ {policies} }}\n    \
         backendRefs: [{{ name: one }}]\n"
    )
}

async fn gateway() -> Gateway {
    let one = upstream("one").await;
    Gateway::of(&file(&format!(
        "authentication:\n{}{}{}\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         rateLimits: {{ each: {{ key: principal, rate: 1000/s }} }}\n\
         routes:\n- name: r\n  rules:\n{}{}{}{}{}",
        provider("users", USERS, "claimHeaders: { x-user: sub }"),
        provider(
            "devices",
            DEVICES,
            "from: { header: x-device }, profile: accessToken, requiredClaims: [model], scopesClaim: /may/do, \
             rolesClaim: groups, memory: 0, claimHeaders: { x-model: model }"
        ),
        provider("bound", USERS, "certificateBound: true"),
        rule("/either", "authenticate: [users, devices]"),
        rule("/both", "authenticate: [{ all: [users, devices] }]"),
        rule("/guest", "authenticate: { providers: [{ all: [users, devices] }], anonymous: guest }, rateLimit: [each]"),
        rule("/bound", "authenticate: [bound]"),
        rule("/scoped", "authenticate: [devices], authorize: { scopes: { all: [sell] }, roles: { any: [tills] } }"),
    )))
    .await
}

#[tokio::test]
async fn a_file_asks_for_one_credential_or_for_several() {
    let gateway = gateway().await;
    let user =
        format!("Bearer {}", token(USERS, "JWT", &json!({ "iss": "https://users.example", "sub": "ada" })));
    let device = |change: Value| {
        let mut claims = json!({
            "iss": "https://devices.example", "sub": "till 7", "client_id": "tills", "iat": 0, "jti": "1", "model": "T7",
            "may": { "do": ["sell", "refund"] }, "groups": ["tills"],
        });
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        token(DEVICES, "at+jwt", &claims)
    };
    let till = device(json!({}));
    let (user, till) = (("authorization", &*user), ("x-device", &*till));
    let junk = ("x-device", "junk");
    for (path, headers, status) in [
        ("/either", &[user][..], 200),
        ("/either", &[till], 200),
        ("/either", &[user, junk], 200),
        ("/either", &[junk], 401),
        ("/either", &[], 401),
        ("/both", &[user, till], 200),
        ("/both", &[user], 401),
        ("/both", &[till], 401),
        ("/both", &[user, junk], 401),
        ("/both", &[], 401),
        ("/guest", &[], 200),
        ("/guest", &[user, till], 200),
        ("/guest", &[user], 401),
        ("/guest", &[junk], 401),
        ("/bound", &[user], 401),
        ("/scoped", &[till], 200),
    ] {
        // The second time, tokens are remembered.
        for _ in 0..2 {
            let answer = gateway.get(path, headers).await;
            assert_eq!(answer.status, status, "{path} {headers:?}: {}", answer.text);
            let told = answer.text.to_lowercase();
            assert!(!told.contains("authorization") && !told.contains("x-device"), "{told}");
            let both = status == 200 && path == "/both";
            assert!(!both || told.contains("x-user: ada") && told.contains("x-model: t7"), "{told}");
        }
    }
    for (change, status) in [
        (json!({ "model": "" }), 401),
        (json!({ "jti": null }), 401),
        (json!({ "aud": "other" }), 401),
        (json!({ "may": { "do": "refund" } }), 403),
        (json!({ "groups": [] }), 403),
        (json!({ "may": { "do": "refund sell" }, "groups": "tills" }), 200),
    ] {
        let till = device(change.clone());
        assert_eq!(gateway.get("/scoped", &[("x-device", &till)]).await.status, status, "{change}");
    }
    let untyped = token(DEVICES, "JWT", &json!({ "iss": "https://devices.example" }));
    assert_eq!(gateway.get("/scoped", &[("x-device", &untyped)]).await.status, 401);
    let bound = token(USERS, "JWT", &json!({ "iss": "https://bound.example" }));
    assert_eq!(gateway.get("/bound", &[("authorization", &format!("Bearer {bound}"))]).await.status, 401);
}

/// Policies read what a token says in lists, whether it is remembered or not.
#[tokio::test]
async fn policies_read_claims_that_are_lists() {
    let one = upstream("one").await;
    let policy = |name: &str, action: &str, field: &str, role: &str| {
        format!(
            "  {name}: {{ action: {action}, rules: [{{ from: [{{ claims: [{{ claim: /realm/roles, {field}: [{role}] }}] }}] }}] }}\n"
        )
    };
    let gateway = Gateway::of(&file(&format!(
        "authentication:\n{}{}\
         authorization:\n{}{}{}{}\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         routes:\n- name: r\n  rules:\n{}{}{}{}",
        provider("users", USERS, ""),
        provider("others", DEVICES, "memory: 0"),
        policy("no-banned", "deny", "values", "banned"),
        policy("only-staff", "deny", "notValues", "staff"),
        policy("buyers", "allow", "values", "buyer"),
        policy("unbanned", "allow", "notValues", "banned"),
        rule("/no-banned", "authenticate: [users, others], authorize: { policies: [no-banned] }"),
        rule("/only-staff", "authenticate: [users, others], authorize: { policies: [only-staff] }"),
        rule("/buyers", "authenticate: [users, others], authorize: { policies: [buyers] }"),
        rule("/unbanned", "authenticate: [users, others], authorize: { policies: [unbanned] }"),
    )))
    .await;
    for (name, secret) in [("users", USERS), ("others", DEVICES)] {
        for (roles, expected) in [
            (json!(["buyer", "banned"]), [403, 403, 200, 403]),
            (json!(["staff", "buyer"]), [200, 200, 200, 200]),
            (json!("banned"), [403, 403, 403, 403]),
            (json!(["guest"]), [200, 403, 403, 200]),
        ] {
            let claims = json!({ "iss": format!("https://{name}.example"), "realm": { "roles": roles } });
            let bearer = format!("Bearer {}", token(secret, "JWT", &claims));
            for (path, status) in
                ["/no-banned", "/only-staff", "/buyers", "/unbanned"].into_iter().zip(expected)
            {
                for _ in 0..2 {
                    let answer = gateway.get(path, &[("authorization", &bearer)]).await;
                    assert_eq!(answer.status, status, "{path} {name} {roles}");
                }
            }
        }
    }
}

/// What is remembered of a token outlives a reload, but not the key that has verified it.
#[tokio::test]
async fn a_reload_that_changes_a_key_ends_what_was_remembered_under_it() {
    let directory = Directory::new("tokens");
    let one = upstream("one").await;
    let text = |timeout: &str| {
        file(&format!(
            "authentication: {{ users: {{ jwt: {{ issuer: 'https://users.example', audiences: [shop], \
             algorithms: [HS256], secret: {{ file: secret }} }} }} }}\n\
             upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
             routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: one }}], policies: {{ authenticate: [users] }}, \
             timeouts: {{ request: {timeout} }} }}] }}]\n"
        ))
    };
    let secret = |byte: u8| String::from_utf8(vec![byte; 32]).unwrap();
    directory.write("secret", &secret(b'a'));
    directory.write("gateway.yaml", &text("9s"));
    let gateway = Gateway::start(Config::file(directory.path("gateway.yaml"))).await;
    let token = token(secret(b'a').as_bytes(), "JWT", &json!({ "iss": "https://users.example" }));
    let bearer = format!("Bearer {token}");
    let shown = [("authorization", &*bearer)];
    assert_eq!(gateway.get("/", &shown).await.status, 200);

    directory.write("gateway.yaml", &text("8s"));
    gateway.until(|status| status["generation"] == 2).await;
    assert_eq!(gateway.get("/", &shown).await.status, 200);

    directory.write("secret", &secret(b'b'));
    gateway.until(|status| status["generation"] == 3).await;
    assert_eq!(gateway.get("/", &shown).await.status, 401);
    directory.write("secret", &secret(b'a'));
    gateway.until(|status| status["generation"] == 4).await;
    assert_eq!(gateway.get("/", &shown).await.status, 200);
}

/// They are nobody's account: each counts by its address.
#[tokio::test]
async fn tokens_without_a_subject_share_no_account() {
    let one = upstream("one").await;
    let text = file(&format!(
        "authentication:\n{}\
         upstreams: {{ one: {{ endpoints: ['{one}'] }} }}\n\
         rateLimits: {{ few: {{ key: principal, rate: 2/d }} }}\n\
         quotas: {{ calls: {{ key: principal, period: day, allowance: 2 }} }}\n\
         routes:\n- name: r\n  rules:\n{}{}",
        provider("users", USERS, ""),
        rule("/limit", "authenticate: [users], rateLimit: [few]"),
        rule("/quota", "authenticate: [users], quota: [calls]"),
    ));
    let gateway =
        Gateway::of(&text.replace("name: public,", "name: public, trustedProxies: [127.0.0.1/32],")).await;
    let ask = async |path, jti: &str, sub: Option<&str>, from: &str| {
        let mut claims = json!({ "iss": "https://users.example", "jti": jti });
        claims.as_object_mut().unwrap().extend(sub.map(|sub| ("sub".to_owned(), json!(sub))));
        let token = format!("Bearer {}", token(USERS, "JWT", &claims));
        gateway.get(path, &[("authorization", &token), ("x-forwarded-for", from)]).await.status
    };
    for path in ["/limit", "/quota"] {
        for (jti, from) in [("1", "192.0.2.1"), ("2", "192.0.2.2")] {
            let mut told = Vec::new();
            for _ in 0..3 {
                told.push(ask(path, jti, None, from).await);
            }
            assert_eq!(told, [200, 200, 429], "{path} {from}");
        }
        // Another token from there is the same account, as that of somebody with a name is not.
        assert_eq!(ask(path, "3", None, "192.0.2.1").await, 429, "{path}");
        assert_eq!(ask(path, "4", Some("ada"), "192.0.2.1").await, 200, "{path}");
        assert_eq!(ask(path, "5", Some(""), "192.0.2.2").await, 429, "{path}");
    }
}
