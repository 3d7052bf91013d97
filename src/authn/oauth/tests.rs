use std::time::{Duration, SystemTime};

use aws_lc_rs::{
    encoding::{AsDer as _, EcPrivateKeyRfc5915Der, Pkcs8V1Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, advance};

use super::{
    stub::{Manner, Stub},
    *,
};
use crate::{
    authn::jwt::{Algorithm, Jwt, Key, KeyError, KeySet},
    fetch::Fetch,
    reject::Reason,
    time::ManualClock,
};

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

/// A key that signs, and the one that verifies.
fn ec(curve: &'static EcdsaSigningAlgorithm, name: &str) -> (EcdsaKeyPair, Value) {
    let key = EcdsaKeyPair::generate(curve).unwrap();
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    (key, json!({ "kty": "EC", "crv": name, "kid": "2026-11", "x": x, "y": y }))
}

fn keys() -> Vec<(Vec<u8>, Algorithm, Value)> {
    let mut keys = Vec::new();
    for (curve, name, algorithm) in [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", Algorithm::Es256),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", Algorithm::Es384),
        (&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", Algorithm::Es512),
    ] {
        let (key, jwk) = ec(curve, name);
        keys.push((pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref()), algorithm, jwk.clone()));
        let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
        keys.push((pem("EC PRIVATE KEY", der.as_ref()), algorithm, jwk));
    }
    let ed = Ed25519KeyPair::generate().unwrap();
    let x = URL_SAFE_NO_PAD.encode(ed.public_key().as_ref());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "2026-11", "x": x });
    keys.push((pem("PRIVATE KEY", ed.to_pkcs8().unwrap().as_ref()), Algorithm::EdDsa, jwk));
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
    let [n, e] = [public.n, public.e].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let jwk = json!({ "kty": "RSA", "kid": "2026-11", "n": n, "e": e });
    let der: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    keys.push((pem("PRIVATE KEY", der.as_ref()), Algorithm::Rs256, jwk));
    keys
}

fn taken(status: StatusCode, body: &[u8]) -> Result<String, Odd> {
    match (status.as_u16(), std::str::from_utf8(body)) {
        (200, Ok(text)) if text != "odd" => Ok(text.to_owned()),
        _ => Err(Odd("not understood")),
    }
}

async fn ask(endpoint: &Endpoint) -> Result<String, Unavailable> {
    ask_with(endpoint, Words::Ours).await
}

async fn ask_with(endpoint: &Endpoint, words: Words) -> Result<String, Unavailable> {
    endpoint.ask(Form::default().with("token", "t"), words, taken).await
}

#[test]
fn forms_are_encoded_as_the_standard_says() {
    // RFC 6749 appendix B.
    let mut encoded = String::new();
    form::encode(" %&+£€", &mut encoded);
    assert_eq!(encoded, "+%25%26%2B%C2%A3%E2%82%AC");
    let form = Form::default().with("a b", "c=d").with("*-._", "~");
    assert_eq!(form.into_bytes(), "a+b=c%3Dd&*-._=%7E");
}

#[tokio::test]
async fn each_client_proves_itself_in_its_own_way() {
    let stub = Stub::says("fine");
    // RFC 6749 section 2.3.1.
    ask(&stub.endpoint(Client::secret_basic("s6BhdRkqt3", "gX1fBat3bV"))).await.unwrap();
    let call = stub.last();
    assert_eq!(call.uri, "https://id.example/ask?hush=1");
    assert_eq!(call.headers[header::AUTHORIZATION], "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW");
    assert!(call.headers[header::AUTHORIZATION].is_sensitive());
    assert_eq!(call.headers[header::CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert_eq!(call.headers[header::ACCEPT], "application/json");
    assert_eq!(call.form.into_iter().collect::<Vec<_>>(), [("token".to_owned(), "t".to_owned())]);

    ask(&stub.endpoint(Client::secret_basic("https://a:b", "p w+%"))).await.unwrap();
    let line = stub.last().headers[header::AUTHORIZATION].to_str().unwrap().to_owned();
    let pair = STANDARD.decode(line.strip_prefix("Basic ").unwrap()).unwrap();
    assert_eq!(String::from_utf8(pair).unwrap(), "https%3A%2F%2Fa%3Ab:p+w%2B%25");

    ask(&stub.endpoint(Client::secret_post("gate way", "p&w"))).await.unwrap();
    let call = stub.last();
    assert_eq!((call.form["client_id"].as_str(), call.form["client_secret"].as_str()), ("gate way", "p&w"));
    assert!(!call.headers.contains_key(header::AUTHORIZATION));

    ask(&stub.endpoint(Client::public("gateway"))).await.unwrap();
    assert_eq!(stub.last().form["client_id"], "gateway");
}

/// RFC 7523 section 3: who, to whom, until when, once.
#[tokio::test]
async fn what_a_client_signs_is_verified_by_any_key_of_its_kind() {
    let stub = Stub::says("fine");
    let hands = ManualClock::new(SystemTime::now());
    for (pem, algorithm, jwk) in keys() {
        let key = SigningKey::pem(&pem).unwrap().named("2026-11");
        assert_eq!(key.algorithm(), algorithm);
        let client = Client::private_key_jwt("gateway", key);
        let ours = stub.endpoint(client.clone()).clock(hands.clock());
        let verifier = |audience: &str| {
            Jwt::new(KeySet::new([Key::jwk(&jwk.to_string()).unwrap()]).unwrap())
                .issuer("gateway")
                .audiences([audience.to_owned()])
                .algorithms([algorithm])
                .require(["sub", "jti", "iat"])
                .clock(hands.clock())
        };
        ask(&ours).await.unwrap();
        let first = stub.last().form;
        assert_eq!(first["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert!(!first.contains_key("client_id") && !first.contains_key("client_secret"));
        let (principal, claims) =
            verifier("https://id.example/ask?hush=1").verify(&first["client_assertion"]).unwrap();
        assert_eq!(principal.subject(), "gateway");
        let number = |name: &str| claims.claim(name).unwrap().as_u64().unwrap();
        assert_eq!(number("exp") - number("iat"), 60);

        ask(&stub.endpoint(client.audience("https://id.example")).clock(hands.clock())).await.unwrap();
        let (_, second) =
            verifier("https://id.example").verify(&stub.last().form["client_assertion"]).unwrap();
        assert_ne!(claims.claim("jti"), second.claim("jti"), "each is used once");
    }
    let (pem, _, jwk) = keys().pop().unwrap();
    let key = SigningKey::pem(&pem).unwrap().with_algorithm(Algorithm::Ps256).unwrap();
    ask(&stub.endpoint(Client::private_key_jwt("gateway", key))).await.unwrap();
    let jwt = Jwt::new(KeySet::new([Key::jwk(&jwk.to_string()).unwrap()]).unwrap())
        .algorithms([Algorithm::Ps256])
        .danger_any_audience();
    assert!(jwt.verify(&stub.last().form["client_assertion"]).is_ok());
}

#[test]
fn what_is_no_private_key_is_none() {
    let (key, _) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256");
    let der = key.to_pkcs8v1().unwrap();
    let good = pem("PRIVATE KEY", der.as_ref());
    assert_eq!(
        SigningKey::pem(&good).unwrap().with_algorithm(Algorithm::Es384).unwrap_err(),
        KeyError::Algorithm
    );
    let twice = [good.clone(), good.clone()].concat();
    for bad in [
        &b""[..],
        b"-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----\n-----END PUBLIC KEY-----",
        b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----",
        b"\xff",
        &twice,
        &pem("PUBLIC KEY", der.as_ref()),
        &pem("ENCRYPTED PRIVATE KEY", der.as_ref()),
        &pem("PRIVATE KEY", b"junk"),
        &vec![b' '; 64 * 1024 + 1],
    ] {
        assert!(SigningKey::pem(bad).is_err(), "{}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn an_endpoint_is_a_url_over_tls() {
    let client = || Client::public("gateway");
    let fetch = Stub::says("").fetch();
    let new = |url: &str| Endpoint::new(url, client(), fetch.clone()).err();
    assert_eq!(new("https://id.example/token?x=1"), None);
    assert_eq!(new("http://id.example/token"), Some(InvalidEndpoint::Insecure));
    for url in
        ["", "/token", "id.example", "ftp://id.example/", "https://u:p@id.example/", "https://id.example/#x"]
    {
        assert_eq!(new(url), Some(InvalidEndpoint::NoUrl), "{url}");
    }
    assert!(Endpoint::danger_plain("http://id.example/token", client(), fetch).is_ok());
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_answer_is_told_apart_from_one() {
    let stub = Stub::says("fine");
    for (manner, why) in [
        (Manner::Says(200, "odd".into()), "not understood"),
        (Manner::Says(400, "{}".into()), "not understood"),
        (Manner::Says(302, String::new()), "the provider sends elsewhere"),
        (Manner::Says(401, String::new()), "the provider does not take us for its client"),
        (Manner::Says(403, String::new()), "the provider does not take us for its client"),
        (Manner::Says(404, String::new()), "the provider answered with an error"),
        (Manner::Says(429, String::new()), "the provider says that we ask too often"),
        (Manner::Says(500, String::new()), "the provider answered with an error"),
        (Manner::Never, "the provider did not answer"),
        (Manner::Fails, "the provider did not answer"),
        (Manner::Floods, "the provider did not answer"),
    ] {
        let endpoint = stub.endpoint(Client::public("gateway"));
        stub.behave(manner);
        let unavailable = ask(&endpoint).await.unwrap_err();
        assert_eq!(unavailable.to_string(), why);
        let rejection = unavailable.reject(Reason::ProviderUnavailable);
        assert_eq!(rejection.retry_delay(), Some(Duration::from_secs(2)));
        assert!(!format!("{rejection:?}").contains("1_hush"));
    }
}

#[tokio::test(start_paused = true)]
async fn who_fails_too_often_is_left_alone_for_a_while() {
    let stub = Stub::says("fine");
    let endpoint = stub.endpoint(Client::public("gateway"));
    stub.behave(Manner::Says(500, String::new()));
    for _ in 0..5 {
        assert!(ask(&endpoint).await.is_err());
    }
    assert!(endpoint.may_ask(Instant::now()).is_err());
    stub.behave(Manner::Says(200, "fine".into()));
    let refused = ask(&endpoint.clone()).await.unwrap_err();
    assert_eq!((stub.calls(), refused.to_string().as_str()), (5, "the provider has failed too often"));
    advance(Duration::from_secs(1)).await;
    assert!(endpoint.may_ask(Instant::now()).is_ok());
    assert_eq!(ask(&endpoint).await.unwrap(), "fine");
    assert_eq!(ask(&endpoint).await.unwrap(), "fine");
    assert_eq!(stub.calls(), 7);
}

#[tokio::test(start_paused = true)]
async fn what_one_caller_is_answered_says_little_about_the_provider() {
    let stub = Stub::says("fine");
    let says = |status| Manner::Says(status, String::new());
    let doubtful = [302, 400, 403, 404, 413, 414, 422, 431, 500, 503, 999].map(says).into_iter();
    let doubtful = doubtful.chain([Manner::Says(200, "odd".into()), Manner::Floods, Manner::Never]);
    let certain = [401, 429].map(says).into_iter().chain([Manner::Fails]);
    for (manner, is_certain) in
        doubtful.map(|manner| (manner, false)).chain(certain.map(|manner| (manner, true)))
    {
        stub.behave(manner.clone());
        let opens = async |words: fn(u64) -> Words| {
            let endpoint = stub.endpoint(Client::public("gateway"));
            for n in 0..5 {
                assert!(ask_with(&endpoint, words(n)).await.is_err());
            }
            endpoint.may_ask(Instant::now()).is_err()
        };
        assert_eq!(opens(|_| Words::Of(7)).await, is_certain, "{manner:?}");
        // What five callers are told is so, and where the words are our own nothing gets better by asking again.
        assert!(opens(Words::Of).await, "{manner:?}");
        assert!(opens(|_| Words::Ours).await, "{manner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_with_an_odd_token_leaves_the_turn_to_the_next() {
    let stub = Stub::says("fine");
    let endpoint = stub.endpoint(Client::public("gateway"));
    stub.behave(Manner::Says(500, String::new()));
    for _ in 0..5 {
        assert!(ask(&endpoint).await.is_err());
    }
    advance(Duration::from_secs(1)).await;
    stub.behave(Manner::Says(403, String::new()));
    assert!(ask_with(&endpoint, Words::Of(66)).await.is_err());
    stub.behave(Manner::Says(200, "fine".into()));
    assert!(ask_with(&endpoint, Words::Of(66)).await.is_err(), "it had its turn");
    assert_eq!(stub.calls(), 6);
    assert_eq!(ask_with(&endpoint, Words::Of(7)).await.unwrap(), "fine");
    assert_eq!(ask_with(&endpoint, Words::Of(66)).await.unwrap(), "fine");
}

#[test]
fn debug_shows_no_secret() {
    let (pem, ..) = keys().pop().unwrap();
    let key = SigningKey::pem(&pem).unwrap().named("2026-11");
    for client in [
        Client::secret_basic("gateway", "hush"),
        Client::secret_post("gateway", "hush"),
        Client::private_key_jwt("gateway", key.clone()),
    ] {
        let fetch: Fetch = Stub::says("").fetch();
        let endpoint = Endpoint::new("https://id.example/ask?hush=1", client.clone(), fetch).unwrap();
        let shown =
            format!("{client:?} {endpoint:?} {endpoint} {key:?} {:?}", Form::default().with("a", "hush"));
        assert!(shown.contains("gateway") && !shown.contains("hush"), "{shown}");
    }
}
