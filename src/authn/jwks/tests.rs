//! A provider that is a function, on a clock that stands still unless it is waited for.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{
    authn::jwt::{Jwt, Keys, TokenError},
    body::{Body, BoxError},
    chance::Chance,
    fetch::Fetch,
    time::ManualClock,
};

const ISSUER: &str = "https://id.example";
const KEYS: &str = "https://id.example/keys";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Signer(&'static str, Ed25519KeyPair);

impl Signer {
    fn new(id: &'static str) -> Self {
        Self(id, Ed25519KeyPair::generate().unwrap())
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.1.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.0, "x": x })
    }

    fn token(&self) -> String {
        self.token_as(self.0)
    }

    fn token_as(&self, id: &str) -> String {
        let header = json!({ "alg": "EdDSA", "kid": id });
        let claims = json!({ "iss": ISSUER, "sub": "alice", "aud": "shop", "exp": 4_000_000_000_u64 });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.1.sign(signed.as_bytes())))
    }
}

type Answering = dyn Fn(&str) -> Result<Response<Body>, BoxError> + Send;

/// What answers, after a while, and what it was asked.
#[derive(Clone)]
struct Provider {
    answer: Arc<Mutex<Box<Answering>>>,
    delay: Arc<Mutex<Duration>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn new(answer: impl Fn(&str) -> Result<Response<Body>, BoxError> + Send + 'static) -> Self {
        Self { answer: Arc::new(Mutex::new(Box::new(answer))), delay: Arc::default(), asked: Arc::default() }
    }

    fn of(keys: &[&Signer]) -> Self {
        let set = set(keys);
        Self::new(move |_| Ok(ok(set.clone())))
    }

    fn becomes(&self, answer: impl Fn(&str) -> Result<Response<Body>, BoxError> + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn has(&self, keys: &[&Signer]) {
        let set = set(keys);
        self.becomes(move |_| Ok(ok(set.clone())));
    }

    fn dies(&self) {
        self.becomes(|_| Err("connection refused".into()));
    }

    fn takes(&self, delay: Duration) {
        *self.delay.lock().unwrap() = delay;
    }

    fn fetch(&self) -> Fetch {
        let provider = self.clone();
        Fetch::new(service_fn(move |request: Request<Body>| {
            let provider = provider.clone();
            async move {
                let url = request.uri().to_string();
                provider.asked.lock().unwrap().push(url.clone());
                let delay = *provider.delay.lock().unwrap();
                sleep(delay).await;
                let answer = provider.answer.lock().unwrap();
                answer(&url)
            }
        }))
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn urls(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn keys(&self) -> RemoteKeysBuilder {
        RemoteKeys::at(KEYS, self.fetch()).chance(Chance::seeded(1))
    }
}

fn set(keys: &[&Signer]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

fn ok(text: impl Into<Body>) -> Response<Body> {
    Response::new(text.into())
}

fn fresh_for(seconds: u64, text: String) -> Response<Body> {
    let mut response = ok(text);
    let control = format!("max-age={seconds}").parse().unwrap();
    response.headers_mut().insert(header::CACHE_CONTROL, control);
    response
}

fn jwt(keys: impl Into<Keys>) -> Jwt {
    let clock = ManualClock::new(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    Jwt::new(keys).issuer(ISSUER).audiences(["shop"]).clock(clock.clock())
}

fn error(jwt: &Jwt, token: &str) -> Option<TokenError> {
    jwt.verify(token).err()
}

fn count(keys: &RemoteKeys, result: FetchResult) -> u64 {
    keys.status().fetches.into_iter().find(|fetch| fetch.0 == result).unwrap().1
}

/// Lets the other tasks run, and their clocks with them.
async fn pass(time: Duration) {
    // Step by step: a jump would let a task that should have run thrice run once.
    let end = Instant::now() + time;
    while Instant::now() < end {
        let step = (end - Instant::now()).min(SECOND);
        advance(step).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_there_before_traffic_and_all_layers_share_them() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    pass(HOUR).await;
    assert_eq!(provider.asked(), 0, "nobody has used it");
    assert_eq!(keys.status().state, RemoteState::Unknown);
    let (one, other) = (jwt(&keys), jwt(keys.clone()));
    keys.ready().await.unwrap();
    keys.ready().await.unwrap();
    for jwt in [&one, &other] {
        assert_eq!(error(jwt, &signer.token()), None);
    }
    assert_eq!(provider.urls(), [KEYS]);
    let status = keys.status();
    assert_eq!((status.state, status.keys, status.age), (RemoteState::Fresh, 1, Some(Duration::ZERO)));
    assert_eq!(count(&keys, FetchResult::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn while_keys_are_unknown_nobody_is_told_that_a_token_is_bad() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    provider.dies();
    let keys = provider.keys().wait(2 * SECOND).build().unwrap();
    let layer = jwt(&keys).layer();
    let before = Instant::now();
    let error = keys.ready().await.unwrap_err();
    assert_eq!(before.elapsed(), 2 * SECOND, "waiting is bounded");
    let told =
        "the keys are not known yet: nothing could be fetched: no answer came back: connection refused";
    assert_eq!(error.to_string(), told);

    let inner = service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) });
    let call = async |token: &str, kind: &str| {
        let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.header(header::CONTENT_TYPE, kind).body(Body::empty()).unwrap();
        layer.layer(inner).oneshot(request).await.unwrap()
    };
    for token in [signer.token(), Signer::new("a").token(), signer.token_as("made-up")] {
        let answer = call(&token, "text/plain").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert!(!answer.headers().contains_key(header::WWW_AUTHENTICATE));
        let answer = call(&token, "application/grpc").await;
        assert_eq!(answer.headers()["grpc-status"], "14");
    }
    provider.has(&[&signer]);
    pass(MINUTE).await;
    assert_eq!(call(&signer.token(), "text/plain").await.status(), StatusCode::OK);
    assert_eq!(call(&Signer::new("a").token(), "text/plain").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(call("", "text/plain").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn the_first_token_starts_it_where_nobody_waited() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let jwt = jwt(provider.keys().build().unwrap());
    for _ in 0..100 {
        assert_eq!(error(&jwt, &signer.token()), Some(TokenError::KeysUnknown));
    }
    pass(SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), None);
    assert_eq!(provider.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_set_comes_ahead_of_the_end_and_nobody_waits_for_it() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let set = set(&[&old]);
    let provider = Provider::new(move |_| Ok(fresh_for(1000, set.clone())));
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    pass(799 * SECOND).await;
    assert_eq!(provider.asked(), 1);
    provider.has(&[&new]);
    provider.takes(4 * SECOND);
    pass(101 * SECOND - SECOND / 2).await;
    // It may be on its way.
    assert_eq!(provider.asked(), 2);
    assert!(error(&jwt, &old.token()).is_none() || error(&jwt, &new.token()).is_none());
    assert_eq!(keys.status().state, RemoteState::Fresh);
    pass(5 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(error(&jwt, &old.token()), Some(TokenError::UnknownKey), "what has left verifies nothing");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_once_for_all_who_ask() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let provider = Provider::of(&[&old]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    // Right after a fetch its word counts.
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::UnknownKey));
    pass(11 * SECOND).await;
    assert_eq!(provider.asked(), 2, "and it is looked again when the cool-down is over");

    provider.has(&[&old, &new]);
    provider.takes(3 * SECOND);
    pass(10 * SECOND).await;
    for _ in 0..1000 {
        assert_eq!(
            error(&jwt, &new.token()),
            Some(TokenError::KeysUnknown),
            "it may be one of the provider's"
        );
        assert_eq!(error(&jwt, &old.token()), None, "nobody else notices");
    }
    pass(SECOND).await;
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::KeysUnknown), "on its way");
    pass(3 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(provider.asked(), 3);
    pass(MINUTE).await;
    assert_eq!(provider.asked(), 3, "who asked has been answered");
    assert!(provider.urls().iter().all(|url| url == KEYS), "no name of a key leaves us");
}

#[tokio::test(start_paused = true)]
async fn a_name_with_a_new_key_is_fetched_anew() {
    let (old, new) = (Signer::new("key"), Signer::new("key"));
    let provider = Provider::of(&[&old]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    pass(11 * SECOND).await;
    provider.has(&[&new]);
    provider.takes(SECOND);
    for _ in 0..1000 {
        // The key of that name is here: by all that is known the token is bad.
        assert_eq!(error(&jwt, &new.token()), Some(TokenError::Signature));
    }
    assert_eq!(error(&jwt, &old.token()), None, "nobody else notices");
    pass(2 * SECOND).await;
    assert_eq!((error(&jwt, &new.token()), provider.asked()), (None, 2));
    // Strangers' signatures cause no more fetches than made-up names do.
    for _ in 0..100 {
        assert_eq!(error(&jwt, &old.token()), Some(TokenError::Signature));
        pass(SECOND).await;
    }
    assert!((11..=12).contains(&provider.asked()), "{}", provider.asked());
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_names_no_keys_may_have_new_ones_too() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let nameless = |signer: &Signer| {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        json!({ "keys": [jwk] }).to_string()
    };
    let (before, after) = (nameless(&old), nameless(&new));
    let provider = Provider::new(move |_| Ok(ok(before.clone())));
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt, &old.token()), None);
    provider.becomes(move |_| Ok(ok(after.clone())));
    pass(11 * SECOND).await;
    assert_eq!(error(&jwt, &new.token()), Some(TokenError::KeysUnknown));
    pass(SECOND).await;
    assert_eq!(error(&jwt, &new.token()), None);
    assert_eq!(error(&jwt, &old.token()), Some(TokenError::Signature));
}

#[tokio::test(start_paused = true)]
async fn strangers_with_made_up_names_cannot_make_us_hammer_the_provider() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    for second in 0..100 {
        for n in 0..50 {
            let made_up = signer.token_as(&format!("{second}-{n}"));
            assert!(matches!(error(&jwt, &made_up), Some(TokenError::UnknownKey | TokenError::KeysUnknown)));
        }
        pass(SECOND).await;
        assert_eq!(error(&jwt, &signer.token()), None);
    }
    assert!((10..=11).contains(&provider.asked()), "{}", provider.asked());
    // The same while it cannot be reached.
    provider.dies();
    let before = provider.asked();
    for second in 0..100 {
        let _ = error(&jwt, &signer.token_as(&format!("{second}")));
        pass(SECOND).await;
    }
    assert!(provider.asked() - before <= 14, "{}", provider.asked() - before);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_gone_for_an_hour_is_not_noticed() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    provider.dies();
    let before = provider.asked();
    for _ in 0..120 {
        pass(MINUTE).await;
        assert_eq!(error(&jwt, &signer.token()), None);
    }
    let tries = provider.asked() - before;
    assert!((100..=240).contains(&tries), "the waits grow to a minute: {tries}");
    assert_eq!(keys.status().state, RemoteState::Stale);
    assert_eq!(count(&keys, FetchResult::Unreachable), tries as u64);
    assert_eq!(error(&jwt, &signer.token_as("new")), Some(TokenError::KeysUnknown));
    // And it is back.
    provider.has(&[&signer]);
    pass(MINUTE).await;
    let status = keys.status();
    assert_eq!((status.state, status.last_error), (RemoteState::Fresh, None));
    pass(HOUR).await;
    assert_eq!(count(&keys, FetchResult::Unreachable), tries as u64);
}

#[tokio::test(start_paused = true)]
async fn a_set_is_used_for_a_day_after_its_lifetime_and_no_longer() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    provider.dies();
    pass(24 * HOUR + 10 * MINUTE - SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), None);
    pass(2 * SECOND).await;
    assert_eq!(error(&jwt, &signer.token()), Some(TokenError::KeysUnknown));
    let status = keys.status();
    assert_eq!((status.state, status.keys, status.age), (RemoteState::Unknown, 0, None));
    provider.has(&[&signer]);
    pass(MINUTE).await;
    assert_eq!(error(&jwt, &signer.token()), None);
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_left_out_and_the_others_live() {
    let (good, left) = (Signer::new("good"), Signer::new("left"));
    let mut for_encryption = left.jwk();
    for_encryption["use"] = json!("enc");
    let strange = [
        json!({ "kty": "quantum", "kid": "q" }),
        json!(null),
        json!("text"),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
        json!({ "kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode([7; 64]) }),
        for_encryption,
    ];
    let all: Vec<_> = strange.into_iter().chain([good.jwk()]).collect();
    let provider = Provider::new(move |_| Ok(ok(json!({ "keys": all }).to_string())));
    let keys = provider.keys().build().unwrap();
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt(&keys), &good.token()), None);
    assert_eq!(error(&jwt(&keys), &left.token()), Some(TokenError::UnknownKey));
    let status = keys.status();
    assert_eq!((status.keys, status.skipped), (1, 6));
    let set = keys.keys().current().unwrap();
    assert!(set.skipped().iter().any(|skipped| skipped.error == crate::authn::jwt::KeyError::Published));
}

#[tokio::test(start_paused = true)]
async fn whatever_a_provider_does_the_last_good_set_stays() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    let jwt = jwt(&keys);
    keys.ready().await.unwrap();
    let with = |status: u16| Response::builder().status(status);
    let to = move |place: &str| with(302).header(header::LOCATION, place).body(Body::empty()).unwrap();
    let many = json!({ "keys": (0..257).map(|_| signer.jwk()).collect::<Vec<_>>() }).to_string();
    let good = set(&[&signer]);
    let answers: Vec<(Box<Answering>, FetchResult)> = vec![
        (Box::new(|_| Err("reset".into())), FetchResult::Unreachable),
        (Box::new(|_| panic!("a client that panics")), FetchResult::Unreachable),
        (Box::new(move |_| Ok(with(500).body(Body::empty()).unwrap())), FetchResult::Refused),
        (Box::new(move |_| Ok(with(404).body(good.clone().into()).unwrap())), FetchResult::Refused),
        (Box::new(move |_| Ok(to("https://evil.example/keys"))), FetchResult::Redirected),
        (Box::new(move |_| Ok(to("http://id.example/keys"))), FetchResult::Redirected),
        (Box::new(move |_| Ok(to("/keys"))), FetchResult::Redirected),
        (Box::new(|_| Ok(ok("x".repeat(600 * 1024)))), FetchResult::TooLarge),
        (Box::new(|_| Ok(ok("<html>Sign in"))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok(""))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok(vec![0xff, 0xfe]))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok("{\"keys\":[]}"))), FetchResult::Unusable),
        (Box::new(|_| Ok(ok("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"))), FetchResult::Unusable),
        (Box::new(move |_| Ok(ok(many.clone()))), FetchResult::Unusable),
    ];
    for (answer, result) in answers {
        let before = count(&keys, result);
        provider.becomes(answer);
        pass(11 * MINUTE).await;
        assert!(count(&keys, result) > before, "{result}");
        assert_eq!(error(&jwt, &signer.token()), None);
        assert!(keys.status().last_error.is_some());
        provider.answer.clear_poison();
        provider.has(&[&signer]);
        pass(2 * MINUTE).await;
        assert_eq!(keys.status().state, RemoteState::Fresh);
    }
    provider.takes(6 * SECOND);
    pass(11 * MINUTE).await;
    assert!(count(&keys, FetchResult::Timeout) > 0);
    assert_eq!(error(&jwt, &signer.token()), None);
}

fn metadata(issuer: &str, keys: &str) -> String {
    json!({ "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["code"] }).to_string()
}

#[tokio::test(start_paused = true)]
async fn an_issuer_is_asked_where_its_keys_are() {
    let signer = Signer::new("a");
    let set = set(&[&signer]);
    let provider = Provider::new(move |url| {
        Ok(if url.ends_with("/keys") {
            ok(set.clone())
        } else {
            ok(metadata(ISSUER, "https://keys.example/keys"))
        })
    });
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).build().unwrap();
    assert_eq!(keys.source(), ISSUER);
    keys.ready().await.unwrap();
    assert_eq!(error(&jwt(&keys), &signer.token()), None);
    let openid = "https://id.example/.well-known/openid-configuration";
    assert_eq!(provider.urls(), [openid, "https://keys.example/keys"]);
    // It is believed for a day.
    pass(20 * MINUTE).await;
    assert!(provider.urls().iter().all(|url| url == "https://keys.example/keys"));
    pass(24 * HOUR).await;
    assert_eq!(provider.urls().iter().filter(|url| *url == openid).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_have_moved_are_found() {
    let signer = Signer::new("a");
    let at = |place: &'static str, signer: &Signer| {
        let set = set(&[signer]);
        move |url: &str| {
            Ok(match url {
                _ if url == place => ok(set.clone()),
                _ if url.contains("well-known") => ok(metadata(ISSUER, place)),
                _ => Response::builder().status(404).body(Body::empty()).unwrap(),
            })
        }
    };
    let provider = Provider::new(at("https://id.example/1", &signer));
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).build().unwrap();
    keys.ready().await.unwrap();
    provider.becomes(at("https://id.example/2", &signer));
    pass(11 * MINUTE).await;
    assert_eq!((count(&keys, FetchResult::Refused), keys.status().state), (1, RemoteState::Fresh));
}

#[tokio::test(start_paused = true)]
async fn the_standard_for_oauth_is_asked_where_the_other_has_nothing() {
    const REALM: &str = "https://id.example/realms/shop";
    let signer = Signer::new("a");
    let (set, document) = (set(&[&signer]), metadata(REALM, KEYS));
    let oauth = "https://id.example/.well-known/oauth-authorization-server/realms/shop";
    let provider = Provider::new(move |url| {
        Ok(match url {
            KEYS => ok(set.clone()),
            _ if url == oauth => ok(document.clone()),
            _ => Response::builder().status(404).body(Body::empty()).unwrap(),
        })
    });
    let keys = RemoteKeys::discover(REALM, provider.fetch()).build().unwrap();
    keys.ready().await.unwrap();
    let openid = "https://id.example/realms/shop/.well-known/openid-configuration";
    assert_eq!(provider.urls(), [openid, oauth, KEYS]);
    // Where neither has anything, the first one's answer is told.
    provider.becomes(|_| Ok(Response::builder().status(403).body(Body::empty()).unwrap()));
    let keys = RemoteKeys::discover(ISSUER, provider.fetch()).wait(SECOND).build().unwrap();
    let error = keys.ready().await.unwrap_err();
    assert_eq!(error.to_string(), "the keys are not known yet: the answer's status is 403");
}

#[tokio::test(start_paused = true)]
async fn metadata_of_another_issuer_is_not_believed() {
    let signer = Signer::new("a");
    for (document, result, told) in [
        (metadata("https://evil.example", KEYS), FetchResult::WrongIssuer, "another issuer"),
        (metadata("https://id.example/", KEYS), FetchResult::WrongIssuer, "another issuer"),
        (metadata(ISSUER, "http://id.example/keys"), FetchResult::Unusable, "jwks_uri: expected https"),
        ("{}".to_owned(), FetchResult::Unusable, "not a provider's metadata"),
    ] {
        let set = set(&[&signer]);
        let provider =
            Provider::new(move |url| Ok(ok(if url == KEYS { set.clone() } else { document.clone() })));
        let keys = RemoteKeys::discover(ISSUER, provider.fetch()).wait(SECOND).build().unwrap();
        let error = keys.ready().await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(count(&keys, result) > 0);
        assert!(provider.urls().iter().all(|url| url.contains("openid-configuration")), "no second opinion");
    }
}

#[tokio::test(start_paused = true)]
async fn plain_http_is_a_danger_that_is_chosen() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let at = |url: &str| RemoteKeys::at(url, provider.fetch());
    assert_eq!(at("http://127.0.0.1:9000/keys").build().unwrap_err(), InvalidUrl::Insecure);
    assert_eq!(
        RemoteKeys::discover("http://127.0.0.1:9000", provider.fetch()).build().unwrap_err(),
        InvalidUrl::Insecure
    );
    at("http://127.0.0.1:9000/keys").danger_plain_http().build().unwrap().ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_who_uses_the_keys() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    let keys = provider.keys().build().unwrap();
    let layer = jwt(&keys).layer();
    keys.ready().await.unwrap();
    assert_eq!(alive(), before + 1);
    let clone = layer.clone();
    drop((keys, layer));
    pass(30 * MINUTE).await;
    assert_eq!(alive(), before + 1, "a layer uses them");
    assert!(provider.asked() > 2);
    drop(clone);
    pass(SECOND).await;
    assert_eq!(alive(), before);
    // Also in the middle of a fetch.
    provider.takes(HOUR);
    let keys = provider.keys().wait(SECOND).build().unwrap();
    keys.ready().await.unwrap_err();
    assert_eq!(alive(), before + 2);
    drop(keys);
    pass(SECOND).await;
    assert_eq!(alive(), before);
}

#[test]
fn it_is_built_without_a_runtime() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let jwt = jwt(provider.keys().build().unwrap());
    assert_eq!(error(&jwt, &signer.token()), Some(TokenError::KeysUnknown));
}

#[tokio::test(start_paused = true)]
async fn a_successor_takes_over_what_is_known() {
    let (a, b) = (Signer::new("a"), Signer::new("b"));
    let provider = Provider::of(&[&a]);
    let first = provider.keys().build().unwrap();
    first.ready().await.unwrap();
    pass(5 * MINUTE).await;
    let held = first.keys().current().unwrap();
    let second = provider.keys().timeout(SECOND).inherit(&first).build().unwrap();
    assert!(Arc::ptr_eq(&held, &second.keys().current().unwrap()), "the very same keys");
    drop(first);
    second.ready().await.unwrap();
    assert_eq!(provider.asked(), 1);
    assert_eq!(second.status().age, Some(5 * MINUTE));
    provider.has(&[&a, &b]);
    pass(4 * MINUTE).await;
    assert_eq!(provider.asked(), 2, "when it would have been fetched anyway");
    assert_eq!(error(&jwt(&second), &b.token()), None);

    let elsewhere = RemoteKeys::at("https://id.example/others", provider.fetch()).inherit(&second);
    let elsewhere = elsewhere.build().unwrap();
    assert!(elsewhere.keys().current().is_none(), "another place has other keys");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_changes_nothing_keeps_every_key_the_same() {
    let signer = Signer::new("a");
    let provider = Provider::of(&[&signer]);
    let keys = provider.keys().build().unwrap();
    keys.ready().await.unwrap();
    let held: Vec<_> = keys.keys().current().unwrap().shared().cloned().collect();
    pass(HOUR).await;
    assert!(provider.asked() > 5);
    let now = keys.keys().current().unwrap();
    assert!(held.iter().all(|key| now.has(key)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_without_a_wrong_answer() {
    let signers: Vec<_> = ["0", "1", "2", "3", "4", "5"].map(Signer::new).into();
    let provider = Provider::of(&[&signers[0], &signers[1]]);
    let keys = provider
        .keys()
        .lifetime(Duration::from_millis(4))
        .min_lifetime(Duration::from_millis(4))
        .cooldown(Duration::from_millis(1))
        .build()
        .unwrap();
    keys.ready().await.unwrap();
    let (jwt, at) = (jwt(&keys), AtomicUsize::new(0));
    let tokens: Vec<_> = signers.iter().map(Signer::token).collect();
    let stranger = Signer::new("0").token();
    std::thread::scope(|scope| {
        let (jwt, at, tokens, stranger) = (&jwt, &at, &tokens, &stranger);
        for _ in 0..2 {
            scope.spawn(move || {
                while at.load(Ordering::Acquire) < 60 {
                    // The provider signs with a key that it has published before, and withdraws it later.
                    let present = at.load(Ordering::Acquire);
                    let outcome = error(jwt, &tokens[present % 6]);
                    let overtaken = at.load(Ordering::Acquire) != present;
                    assert!(outcome.is_none() || overtaken, "{outcome:?}");
                    assert!(error(jwt, stranger).is_some());
                }
            });
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for step in 1..=60 {
                    let (now, next) = (&signers[step % 6], &signers[(step + 1) % 6]);
                    let fetched = provider.asked();
                    provider.has(&[&signers[(step - 1) % 6], now, next]);
                    while provider.asked() < fetched + 2 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    at.store(step, Ordering::Release);
                }
            });
        });
    });
    assert!(provider.asked() > 100);
}

#[test]
fn results_are_counted_under_their_own_names() {
    for (at, result) in FetchResult::ALL.iter().enumerate() {
        assert_eq!(*result as usize, at, "{result}");
    }
}
