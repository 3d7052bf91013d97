//! Keys over the network, from a real provider, over plain HTTP and over TLS.
#![cfg(all(feature = "axum", feature = "jwt", feature = "tls"))]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use http::{Request, StatusCode, Version, header};
use portcullis::{
    authn::{
        jwks::{FetchResult, RemoteKeys, RemoteKeysBuilder, RemoteState},
        jwt::{Claims, Jwt},
    },
    backoff::Backoff,
    body::Body,
    fetch::Fetch,
    tls::ClientTls,
    upstream::Client,
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

use crate::support::log::Log;
use crate::support::provider::{KEYS, Kind, Manner, OAUTH, OPENID, Provider, claims};

/// How long a machine under load may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

fn plain() -> Fetch {
    Fetch::new(Client::builder().build())
}

fn trusting(provider: &Provider) -> Fetch {
    Fetch::new(Client::builder().tls(ClientTls::roots(provider.roots().as_bytes()).unwrap()).build())
}

/// The keys of a provider, fetched as often as a test needs it.
fn keys_of(provider: &Provider) -> RemoteKeysBuilder {
    hasty(RemoteKeys::discover(provider.issuer(), plain()).danger_plain_http())
}

fn hasty(builder: RemoteKeysBuilder) -> RemoteKeysBuilder {
    builder
        .lifetime(50 * MS)
        .min_lifetime(50 * MS)
        .cooldown(20 * MS)
        .backoff(Backoff::new(5 * MS).max(50 * MS))
        .timeout(Duration::from_secs(2))
        .wait(PATIENCE)
}

fn jwt(provider: &Provider, keys: &RemoteKeys) -> Jwt {
    Jwt::new(keys).issuer(&provider.issuer()).audiences(["shop"])
}

fn app(jwt: Jwt) -> Router {
    let who = async |claims: Claims| claims.claim("sub").unwrap().as_str().unwrap().to_owned();
    Router::new().route("/", get(who)).layer(jwt.layer())
}

async fn ask(app: &Router, token: &str) -> StatusCode {
    let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
    app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap().status()
}

/// Waits until it is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(5 * MS).await;
    }
}

fn count(keys: &RemoteKeys, result: FetchResult) -> u64 {
    keys.status().fetches.into_iter().find(|fetch| fetch.0 == result).unwrap().1
}

#[tokio::test]
async fn every_kind_of_key_is_found_over_plain_http_and_over_tls() {
    for secure in [false, true] {
        let provider = if secure { Provider::start_tls().await } else { Provider::start().await };
        for kind in [Kind::Rs256, Kind::EdDsa] {
            provider.publish(kind);
        }
        let builder = if secure {
            RemoteKeys::discover(provider.issuer(), trusting(&provider))
        } else {
            RemoteKeys::discover(provider.issuer(), plain()).danger_plain_http()
        };
        let keys = builder.build().unwrap();
        keys.ready().await.unwrap();
        let app = app(jwt(&provider, &keys));
        for id in ["key-1", "key-2", "key-3"] {
            provider.sign_with(id);
            assert_eq!(ask(&app, &provider.token("alice")).await, 200, "{id}");
        }
        let (hits, version) = (provider.hits(OPENID), provider.version().unwrap());
        assert_eq!((hits, provider.hits(KEYS), provider.connections()), (1, 1, 1), "one connection for both");
        assert_eq!(version, if secure { Version::HTTP_2 } else { Version::HTTP_11 });
        assert_eq!(keys.status().keys, 3);
    }
}

/// What is said of keys that could not be fetched, once that has been tried.
async fn missed(keys: &RemoteKeys) -> String {
    assert!(keys.ready().await.is_err());
    until("a fetch has failed", async || count(keys, FetchResult::Unreachable) > 0).await;
    keys.ready().await.unwrap_err().to_string()
}

/// Tests run on one thread each, so that all of it is this one's.
#[tokio::test]
async fn what_becomes_of_fetches_is_logged() {
    let (log, _guard) = Log::start();
    let lines = |message: &str| -> Vec<serde_json::Value> {
        let all = log.of("portcullis::authn::jwks::keeper");
        all.into_iter().filter(|event| event["fields"]["message"] == message).collect()
    };
    let mut provider = Provider::start().await;
    provider.publish_strange(json!({ "kty": "oct", "kid": "shared", "k": "A".repeat(86) }));
    let keys = keys_of(&provider).stale_for(Duration::ZERO).build().unwrap();
    keys.ready().await.unwrap();
    let source = provider.issuer();
    let known = &lines("the keys are known")[0];
    assert_eq!((&known["level"], &known["fields"]["keys"]), (&json!("INFO"), &json!(1)));
    assert_eq!(known["fields"]["source"], source);
    let left_out = &lines("a key is left out")[0];
    assert_eq!((&left_out["level"], &left_out["fields"]["key"]), (&json!("WARN"), &json!(1)));
    assert!(left_out["fields"]["error"].as_str().is_some_and(|why| !why.is_empty()));

    let fetched = count(&keys, FetchResult::Success);
    until("it is fetched again", async || count(&keys, FetchResult::Success) > fetched + 2).await;
    // On a machine that has much to do they may be too old meanwhile, and known again.
    let known_again = lines("the keys are too old to be used any more").len();
    let said = (lines("the keys are known").len(), lines("a key is left out").len());
    assert_eq!(said, (1 + known_again, 1), "said once");

    provider.kill().await;
    until("they are too old", async || keys.status().state == RemoteState::Unknown).await;
    assert!(!lines("the keys are too old to be used any more").is_empty());
    until("it is missed again", async || lines("the keys were not fetched").len() > 1).await;
    let missed = &lines("the keys were not fetched")[1]["fields"];
    assert_eq!((&missed["source"], &missed["failures"]), (&json!(source), &json!(2)));
    assert!(missed["error"].is_string() && missed["retry_in"].is_string(), "{missed}");
    let known = lines("the keys are known").len();
    provider.revive().await;
    until("they are known again", async || lines("the keys are known").len() > known).await;
}

#[tokio::test]
async fn an_issuer_with_a_path_has_its_metadata_in_one_of_two_places() {
    for place in [
        "/realms/shop/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/shop",
    ] {
        let provider = Provider::start().await.with_path("/realms/shop");
        provider.metadata_at(place);
        let keys = keys_of(&provider).build().unwrap();
        keys.ready().await.unwrap();
        assert_eq!(provider.hits(place), 1);
        assert_eq!((provider.hits(OPENID), provider.hits(OAUTH)), (0, 0));
    }
}

#[tokio::test]
async fn a_provider_that_cannot_prove_its_name_is_not_believed() {
    let (provider, other) = (Provider::start_tls().await, Provider::start_tls_for("id.example").await);
    let strange = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let with =
        |roots: &str| Fetch::new(Client::builder().tls(ClientTls::roots(roots.as_bytes()).unwrap()).build());
    for (what, issuer, fetch) in [
        ("another root", provider.issuer(), with(&strange)),
        ("another name", other.issuer(), trusting(&other)),
        ("no TLS here", provider.issuer(), plain()),
        ("no TLS there", Provider::start().await.issuer().replace("http:", "https:"), trusting(&provider)),
    ] {
        let keys = RemoteKeys::discover(issuer, fetch).wait(Duration::ZERO).build().unwrap();
        let error = missed(&keys).await;
        assert_eq!(keys.status().state, RemoteState::Unknown, "{what}: {error}");
    }
    assert_eq!(provider.hits(OPENID) + other.hits(OPENID), 0);
    // The right root and name.
    let keys = RemoteKeys::at(provider.keys_url(), trusting(&provider)).build().unwrap();
    keys.ready().await.unwrap();
}

#[tokio::test]
async fn whatever_the_provider_does_users_with_valid_tokens_do_not_notice() {
    let provider = Provider::start().await;
    let elsewhere = Provider::start().await;
    let keys = keys_of(&provider).timeout(200 * MS).build().unwrap();
    keys.ready().await.unwrap();
    let app = app(jwt(&provider, &keys));
    let token = provider.token("alice");
    let manners = [
        (Manner::Slow(500 * MS), FetchResult::Timeout),
        (Manner::Stuck, FetchResult::Timeout),
        (Manner::Status(500), FetchResult::Refused),
        (Manner::Status(404), FetchResult::Refused),
        (Manner::Status(429), FetchResult::Refused),
        (Manner::Content("<html>Please sign in</html>".into()), FetchResult::Unusable),
        (Manner::Content("{}".into()), FetchResult::Unusable),
        (Manner::Content(json!({ "keys": [] }).to_string()), FetchResult::Unusable),
        (Manner::Huge(64 << 20), FetchResult::TooLarge),
        (Manner::Redirect(elsewhere.keys_url()), FetchResult::Redirected),
        (Manner::Flapping, FetchResult::Refused),
    ];
    for (manner, result) in manners {
        let before = count(&keys, result);
        provider.behave(manner.clone());
        until(&format!("{manner:?}"), async || {
            assert_eq!(ask(&app, &token).await, 200, "{manner:?}");
            count(&keys, result) > before + 1
        })
        .await;
        provider.behave(Manner::Honest);
        let good = count(&keys, FetchResult::Success);
        until("it is honest again", async || count(&keys, FetchResult::Success) > good).await;
    }
    assert_eq!(elsewhere.hits(KEYS), 0, "a redirect leads nowhere else");
    // It lies about who it is, and says that its keys are those of another.
    let forged = elsewhere.signer().token(&claims(&provider.issuer(), "mallory"));
    provider.behave_at(OPENID, Manner::Impostor);
    provider.keys_at(&elsewhere.keys_url());
    provider.behave_at(KEYS, Manner::Status(503));
    until("the impostor is seen", async || {
        assert_eq!(ask(&app, &token).await, 200);
        assert_ne!(ask(&app, &forged).await, 200);
        count(&keys, FetchResult::WrongIssuer) > 1
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_dies_and_comes_back_is_noticed_by_nobody() {
    let mut provider = Provider::start().await;
    let keys = keys_of(&provider).build().unwrap();
    keys.ready().await.unwrap();
    let app = app(jwt(&provider, &keys));
    let token = provider.token("alice");
    provider.kill().await;
    until("it is missed", async || {
        assert_eq!(ask(&app, &token).await, 200);
        count(&keys, FetchResult::Unreachable) > 5
    })
    .await;
    assert_eq!(keys.status().state, RemoteState::Stale);
    provider.rotate(Kind::EdDsa);
    let rotated = provider.token("bob");
    assert_eq!(ask(&app, &rotated).await, 503, "it may well be one of the provider's");
    provider.revive().await;
    until("it is back", async || ask(&app, &rotated).await == 200).await;
    assert_eq!(ask(&app, &token).await, 200);
}

#[tokio::test]
async fn a_cold_start_without_the_provider_is_503_and_heals() {
    let mut provider = Provider::start().await;
    let token = provider.token("alice");
    provider.kill().await;
    let keys = keys_of(&provider).wait(Duration::ZERO).build().unwrap();
    let app = app(jwt(&provider, &keys));
    let error = missed(&keys).await;
    assert!(error.starts_with("the keys are not known yet: nothing could be fetched"), "{error}");
    for bad in [token.clone(), "nonsense".repeat(3), provider.signer().token_as("made-up", &claims("x", "y"))]
    {
        let status = ask(&app, &bad).await;
        // What is no token at all, or of another issuer, needs no key to be told.
        assert_eq!(status, if bad == token { 503 } else { 401 });
    }
    provider.revive().await;
    until("it is back", async || ask(&app, &token).await == 200).await;
}

#[tokio::test]
async fn one_bad_key_spoils_nothing() {
    let provider = Provider::start().await;
    provider.publish_strange(json!({ "kty": "RSA", "kid": "small", "n": "AQAB", "e": "AQAB" }));
    provider.publish_strange(json!({ "kty": "oct", "kid": "shared", "k": "A".repeat(86) }));
    provider.publish_strange(json!(7));
    let keys = keys_of(&provider).build().unwrap();
    keys.ready().await.unwrap();
    assert_eq!(ask(&app(jwt(&provider, &keys)), &provider.token("alice")).await, 200);
    let status = keys.status();
    assert_eq!((status.keys, status.skipped), (1, 3));
}

#[tokio::test]
async fn what_the_provider_says_of_its_lifetime_is_kept() {
    let provider = Provider::start().await;
    provider.header("cache-control", "public, max-age=3000");
    provider.header("age", "1000");
    let keys = RemoteKeys::at(provider.keys_url(), plain()).danger_plain_http().build().unwrap();
    keys.ready().await.unwrap();
    let next = keys.status().next.unwrap().as_secs();
    assert!((1500..=1800).contains(&next), "{next}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_all_kinds_rotate_under_load_with_zero_wrong_answers() {
    let provider = Arc::new(Provider::start_tls().await);
    let builder = hasty(RemoteKeys::discover(provider.issuer(), trusting(&provider)));
    let keys = builder.timeout(200 * MS).build().unwrap();
    keys.ready().await.unwrap();
    let app = app(jwt(&provider, &keys));
    let stop = Arc::new(AtomicBool::new(false));
    let asked = [(); 4].map(|()| Arc::<AtomicUsize>::default());
    let users: Vec<_> = (0..)
        .zip(&asked)
        .map(|(user, asked)| {
            let (app, provider) = (app.clone(), Arc::clone(&provider));
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(asked));
            tokio::spawn(async move {
                let stranger = crate::support::provider::Signer::new("key-1", Kind::Es256);
                let forged = stranger.token(&claims(&provider.issuer(), "mallory"));
                while !stop.load(Ordering::Relaxed) {
                    let token = provider.token(&format!("user {user}"));
                    assert_eq!(ask(&app, &token).await, 200);
                    assert_eq!(ask(&app, &forged).await, 401);
                    asked.fetch_add(2, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let manners = [
        (Manner::Slow(500 * MS), FetchResult::Timeout),
        (Manner::Flapping, FetchResult::Refused),
        (Manner::Huge(8 << 20), FetchResult::TooLarge),
        (Manner::Status(500), FetchResult::Refused),
    ];
    // As providers do it: published, fetched by everybody, signed with, and the one before withdrawn when no token of it
    // is left. And while the new one is there, everything else goes wrong.
    let mut before = provider.signer().id;
    let all_asked = || asked.each_ref().map(|asked| asked.load(Ordering::Relaxed));
    let kinds = [Kind::EdDsa, Kind::Es256, Kind::Rs256].into_iter().cycle().take(12);
    for (kind, (manner, result)) in kinds.zip(manners.into_iter().cycle()) {
        let next = provider.publish(kind);
        let failed = count(&keys, result);
        provider.behave_at(KEYS, manner);
        until("it goes wrong", async || count(&keys, result) > failed + 1).await;
        provider.behave_at(KEYS, Manner::Honest);
        let fetched = count(&keys, FetchResult::Success);
        until("all have fetched it", async || count(&keys, FetchResult::Success) > fetched + 1).await;
        provider.sign_with(&next.id);
        // Each has done with the token that it had before.
        let served = all_asked();
        until("all use it", async || all_asked().iter().zip(served).all(|(now, before)| *now > before + 2))
            .await;
        if before != "key-1" {
            provider.withdraw(&before);
        }
        before = next.id;
    }
    stop.store(true, Ordering::Relaxed);
    for user in users {
        user.await.unwrap();
    }
    assert!(all_asked().iter().all(|asked| *asked > 12 * 2), "{:?}", all_asked());
}

#[tokio::test]
async fn a_withdrawn_key_verifies_nothing_even_what_was_seen_before() {
    let provider = Provider::start().await;
    let keys = keys_of(&provider).build().unwrap();
    keys.ready().await.unwrap();
    let app = app(jwt(&provider, &keys));
    let old = provider.token("alice");
    for _ in 0..3 {
        assert_eq!(ask(&app, &old).await, 200);
    }
    let before = provider.signer().id;
    provider.rotate(Kind::Rs256);
    provider.withdraw(&before);
    until("it is noticed", async || ask(&app, &old).await == 401).await;
    assert_eq!(ask(&app, &provider.token("alice")).await, 200);
}

#[tokio::test]
async fn a_key_that_is_used_at_once_is_found_and_never_called_bad() {
    let provider = Provider::start().await;
    let keys = RemoteKeys::discover(provider.issuer(), plain()).danger_plain_http().cooldown(50 * MS);
    let keys = keys.build().unwrap();
    keys.ready().await.unwrap();
    let app = app(jwt(&provider, &keys));
    for kind in [Kind::Es256, Kind::EdDsa, Kind::Rs256] {
        sleep(60 * MS).await; // the cool-down
        provider.rotate(kind);
        let token = provider.token("alice");
        until("it is found", async || match ask(&app, &token).await {
            StatusCode::SERVICE_UNAVAILABLE => false,
            status => {
                assert_eq!(status, 200);
                true
            }
        })
        .await;
    }
    assert_eq!(provider.hits(KEYS), 4);
}

#[tokio::test]
async fn the_client_fails_in_words() {
    let nobody: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let call = async |client: Client, url: String| {
        let request = Request::get(url).body(Body::empty()).unwrap();
        client.oneshot(request).await.map(|_| ()).unwrap_err().reason().label()
    };
    let client = Client::builder().connect_timeout(500 * MS).build();
    assert_eq!(call(client.clone(), format!("http://{nobody}/")).await, "connect_failed");
    assert_eq!(call(client.clone(), format!("https://{nobody}/")).await, "connect_failed");
    assert_eq!(call(client, "http://no-such-host.invalid/".into()).await, "no_endpoint");
    let provider = Provider::start().await;
    let none = Client::builder().max_connections(0).build();
    assert_eq!(call(none, provider.keys_url()).await, "overloaded");
    // It is asked under another name, at the address that the resolver tells.
    let at = provider.address();
    let resolver = move |_: &str, _: u16| -> portcullis::upstream::Resolving {
        Box::pin(async move { Ok(portcullis::upstream::Addresses::new([nobody, at])) })
    };
    let client = Client::builder().resolver(resolver).build();
    let request = Request::get("http://id.example/keys").body(Body::empty()).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 200);
}
