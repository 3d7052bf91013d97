//! What authentication and authorization cost, with the signature and beside it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that may stop")]

use std::{
    convert::Infallible,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    task::{Context, Waker},
    time::SystemTime,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, KeyPair as _, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use divan::{AllocProfiler, Bencher, black_box};
use http::{HeaderName, Request, Response, header};
use portcullis::{
    admission::authz::Authorize,
    authn::{
        api_key::{self, ApiKey, KeyTable, Minted, Pepper},
        jwt::{Jwt, Key, KeySet, Keys},
    },
    body::Body,
    gate::Gate,
    head::Head,
    identity::Principal,
};
use serde_json::json;
use tower::{Layer as _, Service as _};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const SECRET: &[u8; 32] = &[7; 32];

fn signed(algorithm: &str) -> String {
    static JTI: AtomicU64 = AtomicU64::new(0);

    let jti = JTI.fetch_add(1, Ordering::Relaxed);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let header = json!({ "alg": algorithm, "kid": "2026-11", "typ": "JWT" });
    let claims = json!({
        "iss": "https://id.shop.example", "aud": "shop", "sub": "248289761001", "exp": now + 3600, "nbf": now, "iat": now,
        "scope": "orders.read orders.write", "jti": format!("0198c5d2-7b7e-7000-8000-{jti:012}"), "client_id": "web",
    });
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}")
}

fn token(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn hs256() -> (Jwt, String) {
    let signed = signed("HS256");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    (jwt(Key::secret(SECRET).unwrap()), token(&signed, signature.as_ref()))
}

fn jwt_of(key: &EcdsaKeyPair) -> Jwt {
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y }).to_string();
    jwt(Key::jwk(&jwk).unwrap())
}

fn es256() -> (Jwt, String, ParsedPublicKey, Vec<u8>) {
    let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signed = signed("ES256");
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec();
    let public =
        ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.public_key().as_ref()).unwrap();
    (jwt_of(&key), token(&signed, &signature), public, signature)
}

fn jwt(key: Key) -> Jwt {
    let keys = KeySet::new([key.named("2026-11")]).unwrap();
    Jwt::new(keys).issuer("https://id.shop.example").audiences(["shop"])
}

fn check(bencher: Bencher<'_, '_>, gate: &impl Gate, name: &HeaderName, value: &str) {
    bencher
        .with_inputs(|| {
            let mut request = Request::get("/orders").header(name, value).body(()).unwrap();
            request.extensions_mut().insert(());
            request
        })
        .bench_local_refs(|request| gate.check(&mut Head::of(request)).is_ok());
}

#[divan::bench]
fn hs256_signature_alone(bencher: Bencher<'_, '_>) {
    let signed = signed("HS256");
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, signed.as_bytes());
    bencher.bench_local(|| hmac::verify(&key, black_box(signed.as_bytes()), signature.as_ref()).is_ok());
}

#[divan::bench]
fn hs256_gate(bencher: Bencher<'_, '_>) {
    let (jwt, token) = hs256();
    check(bencher, &jwt.memory(0), &header::AUTHORIZATION, &format!("Bearer {token}"));
}

#[divan::bench]
fn hs256_gate_seen_before(bencher: Bencher<'_, '_>) {
    let (jwt, token) = hs256();
    check(bencher, &jwt, &header::AUTHORIZATION, &format!("Bearer {token}"));
}

#[divan::bench]
fn hs256_gate_that_tells_a_claim(bencher: Bencher<'_, '_>) {
    let (jwt, token) = hs256();
    let jwt = jwt.memory(0).claim_header(HeaderName::from_static("x-user"), "sub");
    check(bencher, &jwt, &header::AUTHORIZATION, &format!("Bearer {token}"));
}

#[divan::bench]
fn es256_signature_alone(bencher: Bencher<'_, '_>) {
    let (_, token, key, signature) = es256();
    let (signed, _) = token.rsplit_once('.').unwrap();
    bencher.bench_local(|| key.verify_sig(black_box(signed.as_bytes()), &signature).is_ok());
}

#[divan::bench]
fn es256_gate(bencher: Bencher<'_, '_>) {
    let (jwt, token, ..) = es256();
    check(bencher, &jwt.memory(0), &header::AUTHORIZATION, &format!("Bearer {token}"));
}

/// Each signature is another one: nothing about it can be foreseen, as with one that is verified again and again.
#[divan::bench]
fn es256_signature_first_sight(bencher: Bencher<'_, '_>) {
    let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let public =
        ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.public_key().as_ref()).unwrap();
    let random = SystemRandom::new();
    bencher
        .with_inputs(|| {
            let signed = signed("ES256");
            let signature = key.sign(&random, signed.as_bytes()).unwrap();
            (signed, signature)
        })
        .bench_local_refs(|(signed, signature)| {
            public.verify_sig(signed.as_bytes(), signature.as_ref()).is_ok()
        });
}

/// Each token is another one, and is remembered.
#[divan::bench]
fn es256_gate_first_sight(bencher: Bencher<'_, '_>) {
    let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let jwt = jwt_of(&key);
    let random = SystemRandom::new();
    bencher
        .with_inputs(|| {
            let signed = signed("ES256");
            let token = token(&signed, key.sign(&random, signed.as_bytes()).unwrap().as_ref());
            let bearer = format!("Bearer {token}");
            let mut request = Request::get("/orders").header(header::AUTHORIZATION, bearer).body(()).unwrap();
            request.extensions_mut().insert(());
            request
        })
        .bench_local_refs(|request| jwt.check(&mut Head::of(request)).is_ok());
}

/// Calls of one sample where two threads are measured. Of a single one they would measure how they waited for each other.
const TOGETHER: u32 = 200;

/// As requests come: made anew each time, with bytes of its own, beside which the gate stands alone. With two threads both
/// have the same token.
#[divan::bench(threads = [1, 2], sample_size = TOGETHER)]
fn es256_gate_seen_before(bencher: Bencher<'_, '_>) {
    let (jwt, token, ..) = es256();
    seen_by_all(bencher, &jwt, &header::AUTHORIZATION, || format!("Bearer {token}"));
}

/// The same, each thread with a token of its own: what is left is what two threads cost each other anyway.
#[divan::bench(threads = [1, 2], sample_size = TOGETHER)]
fn es256_gate_seen_before_each_its_own(bencher: Bencher<'_, '_>) {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }

    let key = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let fresh = || {
        let signed = signed("ES256");
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("Bearer {}", token(&signed, signature.as_ref()))
    };
    let tokens = [fresh(), fresh()];
    let own = || THREAD.with(|thread| tokens[thread % 2].clone());
    seen_by_all(bencher, &jwt_of(&key), &header::AUTHORIZATION, own);
}

/// A shared copy of the value would be counted by all threads when the gate takes it out of the request.
fn seen_by_all(
    bencher: Bencher<'_, '_>,
    gate: &impl Gate,
    name: &HeaderName,
    value: impl Fn() -> String + Sync,
) {
    bencher
        .with_inputs(|| {
            let mut request = Request::new(());
            request.headers_mut().insert(name, header::HeaderValue::try_from(value()).unwrap());
            request.extensions_mut().insert(());
            request
        })
        .bench_refs(|request| gate.check(&mut Head::of(request)).is_ok());
}

#[divan::bench]
fn es256_gate_seen_before_with_a_claim_told(bencher: Bencher<'_, '_>) {
    let (jwt, token, ..) = es256();
    let jwt = jwt.claim_header(HeaderName::from_static("x-user"), "sub");
    check(bencher, &jwt, &header::AUTHORIZATION, &format!("Bearer {token}"));
}

#[divan::bench]
fn token_of_another_issuer(bencher: Bencher<'_, '_>) {
    let (jwt, token, ..) = es256();
    check(bencher, &jwt.issuer("https://other.example"), &header::AUTHORIZATION, &format!("Bearer {token}"));
}

#[divan::bench]
fn no_token(bencher: Bencher<'_, '_>) {
    check(bencher, &hs256().0, &header::ACCEPT, "*/*");
}

/// The layer around a ready service refuses who shows no token: the answer with its challenge and body is made, too.
#[divan::bench]
fn layer_without_a_token(bencher: Bencher<'_, '_>) {
    let ready = async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::empty()));
    let mut service = hs256().0.layer().layer(tower::service_fn(ready));
    let mut cx = Context::from_waker(Waker::noop());
    let request = || Request::get("/orders").header(header::ACCEPT, "*/*").body(()).unwrap();
    bencher.with_inputs(request).bench_local_values(|request| {
        assert!(pin!(service.call(request)).poll(&mut cx).is_ready());
    });
}

/// A key among others, found by its name: the cost of HS256 for any number of them.
#[divan::bench(args = [1, 100, 256])]
fn hs256_gate_of_keys(bencher: Bencher<'_, '_>, keys: usize) {
    let (_, token) = hs256();
    let jwt = Jwt::new(set_of(keys)).issuer("https://id.shop.example").audiences(["shop"]).memory(0);
    check(bencher, &jwt, &header::AUTHORIZATION, &format!("Bearer {token}"));
}

/// The same while another thread puts a fresh set of 100 keys in place all the time.
#[divan::bench]
fn hs256_gate_while_keys_are_replaced(bencher: Bencher<'_, '_>) {
    let (_, token) = hs256();
    let keys = Keys::from(set_of(100));
    let jwt = Jwt::new(keys.clone()).issuer("https://id.shop.example").audiences(["shop"]).memory(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                keys.replace(set_of(100));
            }
        });
        check(bencher, &jwt, &header::AUTHORIZATION, &format!("Bearer {token}"));
        stop.store(true, Ordering::Relaxed);
    });
}

/// A set with the key of the token in its middle.
fn set_of(keys: usize) -> KeySet {
    let named = |n: usize| if n == keys / 2 { "2026-11".to_owned() } else { format!("key {n}") };
    KeySet::new((0..keys).map(|n| Key::secret(SECRET).unwrap().named(named(n)))).unwrap()
}

#[divan::bench]
fn api_key_gate(bencher: Bencher<'_, '_>) {
    let (gate, minted) = keys(None);
    check(bencher, &gate, &HeaderName::from_static("x-api-key"), minted[500].reveal());
}

/// What it takes to put a principal into a request that has been told other things: its box.
#[divan::bench]
fn principal_told(bencher: Bencher<'_, '_>) {
    let principal = Principal::new("partners", "", "acme");
    bencher
        .with_inputs(|| {
            let mut request = Request::new(());
            request.extensions_mut().insert(());
            request
        })
        .bench_local_refs(|request| request.extensions_mut().insert(principal.clone()));
}

/// With two threads both have the same key.
#[divan::bench(threads = [1, 2], sample_size = TOGETHER)]
fn api_key_gate_of_all(bencher: Bencher<'_, '_>) {
    let (gate, minted) = keys(None);
    seen_by_all(bencher, &gate, &HeaderName::from_static("x-api-key"), || minted[500].reveal().to_owned());
}

fn keys(pepper: Option<&Pepper>) -> (ApiKey, Vec<Minted>) {
    let mint = |_| {
        let minted = api_key::mint("shop", "acme").unwrap();
        pepper.into_iter().fold(minted, Minted::peppered)
    };
    let minted: Vec<_> = (0..1_000).map(mint).collect();
    let entries = minted.iter().map(|minted| minted.entry().clone());
    let peppers = pepper.cloned().into_iter().collect();
    (ApiKey::new(KeyTable::peppered("partners", peppers, entries).unwrap()), minted)
}

#[divan::bench]
fn api_key_gate_with_a_pepper(bencher: Bencher<'_, '_>) {
    let (gate, minted) = keys(Some(&Pepper::new("2026", SECRET).unwrap()));
    check(bencher, &gate, &HeaderName::from_static("x-api-key"), minted[500].reveal());
}

/// A key that is written rightly and is not known, or of which the failures of an address are counted already.
#[divan::bench(args = ["unknown", "malformed"])]
fn api_key_refused(bencher: Bencher<'_, '_>, which: &str) {
    let (gate, _) = keys(None);
    let stranger = api_key::mint("shop", "stranger").unwrap();
    let key = if which == "unknown" { stranger.reveal() } else { "x" };
    let mut request = Request::get("/").header("x-api-key", key).body(()).unwrap();
    let mut head = Head::of(&mut request);
    bencher.bench_local(|| gate.check(&mut head).is_err());
}

/// The look-up, the hash and the comparison, without a request.
#[divan::bench]
fn api_key_table(bencher: Bencher<'_, '_>) {
    let minted: Vec<_> = (0..1_000).map(|_| api_key::mint("shop", "acme").unwrap()).collect();
    let table = KeyTable::new("partners", minted.iter().map(|minted| minted.entry().clone())).unwrap();
    let now = SystemTime::now();
    bencher.bench_local(|| table.verify(black_box(minted[500].reveal()), now).is_ok());
}

#[divan::bench]
fn authorize(bencher: Bencher<'_, '_>) {
    let gate = Authorize::new().any_scope(["orders.read", "orders.write"]).all_roles(["buyer"]);
    let principal =
        Principal::new("p", "", "alice").with_scopes(["profile orders.write"]).with_roles(["buyer"]);
    let mut request = Request::new(());
    request.extensions_mut().insert(principal);
    let mut head = Head::of(&mut request);
    bencher.bench_local(|| gate.check(&mut head).is_ok());
}
