//! A provider that is a function, on a clock that stands still unless it is waited for.

mod discovered;
mod faulty;
mod fetched;

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

#[test]
fn results_are_counted_under_their_own_names() {
    for (at, result) in FetchResult::ALL.iter().enumerate() {
        assert_eq!(*result as usize, at, "{result}");
    }
}
