//! Keys, good and bad, and sets of them.

use super::*;

fn refused(jwk: &Value) -> KeyError {
    Key::jwk(&jwk.to_string()).expect_err(&jwk.to_string())
}

fn changed(signer: &Signer, name: &str, value: Value) -> Value {
    let mut jwk = signer.jwk();
    jwk[name] = value;
    jwk
}

#[test]
fn pem_keys_are_what_they_are() {
    macro_rules! pem {
        ($name:literal) => {
            Key::pem(include_bytes!(concat!("../../../../tests/vectors/jwt/pem/", $name, ".pem")))
        };
    }
    let algorithms =
        |key: Result<Key, KeyError>| key.unwrap().algorithms().map(Algorithm::name).collect::<Vec<_>>();
    assert_eq!(algorithms(pem!("p256")), ["ES256"]);
    assert_eq!(algorithms(pem!("p384")), ["ES384"]);
    assert_eq!(algorithms(pem!("p521")), ["ES512"]);
    assert_eq!(algorithms(pem!("ed25519")), ["EdDSA"]);
    let rsa = ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];
    assert_eq!(algorithms(pem!("rsa2048")), rsa);
    assert_eq!(algorithms(pem!("rsa2048-pkcs1")), rsa);

    assert_eq!(pem!("rsa1024").unwrap_err(), KeyError::Size);
    assert_eq!(pem!("secp256k1").unwrap_err(), KeyError::Curve);
    assert_eq!(pem!("x25519").unwrap_err(), KeyError::Type);
    assert_eq!(pem!("ed448").unwrap_err(), KeyError::Type);
    let certificate = pem!("certificate").unwrap_err().to_string();
    assert!(certificate.contains("openssl x509 -noout -pubkey"), "{certificate}");
    for text in [
        "",
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
        "\u{0}",
        "-----BEGIN PUBLIC KEY-----\nAAAA",
    ] {
        assert!(Key::pem(text.as_bytes()).is_err(), "{text}");
    }
    let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_eq!(Key::pem(private.as_bytes()).unwrap_err(), KeyError::Private);
    let two = include_str!("../../../../tests/vectors/jwt/pem/p256.pem").repeat(2);
    assert!(matches!(Key::pem(two.as_bytes()).unwrap_err(), KeyError::Malformed(_)));
}

#[test]
fn secrets_are_as_long_as_the_hash() {
    let algorithms = |length| {
        Key::secret(&vec![1; length]).map(|key| key.algorithms().map(Algorithm::name).collect::<Vec<_>>())
    };
    for short in [0, 1, 31] {
        assert_eq!(algorithms(short), Err(KeyError::Size), "{short}");
    }
    assert_eq!(algorithms(32).unwrap(), ["HS256"]);
    assert_eq!(algorithms(47).unwrap(), ["HS256"]);
    assert_eq!(algorithms(48).unwrap(), ["HS256", "HS384"]);
    assert_eq!(algorithms(64).unwrap(), ["HS256", "HS384", "HS512"]);
    assert_eq!(Key::secret(&[1; 32]).unwrap().only(&[Algorithm::Hs512]).unwrap_err(), KeyError::Algorithm);
}

#[test]
fn keys_for_other_purposes_are_refused() {
    let signer = Signer::new(Algorithm::Es256);
    for purpose in ["enc", "SIG", "", "sig "] {
        assert_eq!(refused(&changed(&signer, "use", json!(purpose))), KeyError::Purpose, "{purpose}");
    }
    for ops in [json!([]), json!(["sign"]), json!(["encrypt", "wrapKey"]), json!(["Verify"])] {
        assert_eq!(refused(&changed(&signer, "key_ops", ops.clone())), KeyError::Purpose, "{ops}");
    }
    let mut both = changed(&signer, "use", json!("enc"));
    both["key_ops"] = json!(["verify"]);
    assert_eq!(refused(&both), KeyError::Purpose);
    both["use"] = json!("sig");
    assert!(Key::jwk(&both.to_string()).is_ok());
    assert_eq!(refused(&changed(&signer, "d", json!("AA"))), KeyError::Private);
}

#[test]
fn algorithm_type_curve_and_size_must_fit() {
    let (p256, p384) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es384));
    let (rsa, ed) = (Signer::new(Algorithm::Rs256), Signer::new(Algorithm::EdDsa));
    for (jwk, expected) in [
        (changed(&p256, "alg", json!("ES384")), KeyError::Algorithm),
        (changed(&p256, "alg", json!("RS256")), KeyError::Algorithm),
        (changed(&p256, "alg", json!("ECDH-ES")), KeyError::Algorithm),
        (changed(&p256, "alg", json!("none")), KeyError::Algorithm),
        (changed(&rsa, "alg", json!("HS256")), KeyError::Algorithm),
        (changed(&rsa, "alg", json!("RSA-OAEP")), KeyError::Algorithm),
        (changed(&p256, "crv", json!("P-384")), KeyError::Curve),
        (changed(&p384, "crv", json!("P-256")), KeyError::Curve),
        (changed(&p256, "crv", json!("secp256k1")), KeyError::Curve),
        (changed(&p256, "crv", json!(null)), KeyError::Curve),
        (changed(&p256, "x", p256.jwk()["y"].clone()), KeyError::Curve),
        (changed(&ed, "crv", json!("Ed448")), KeyError::Curve),
        (changed(&ed, "crv", json!("X25519")), KeyError::Curve),
        (changed(&ed, "x", json!("AAAA")), KeyError::Curve),
        (changed(&rsa, "n", json!(b64(&[0xff; 255]))), KeyError::Size),
        (changed(&rsa, "n", json!(b64(&[0; 512]))), KeyError::Size),
        (changed(&rsa, "n", json!(b64(&[&[0; 256][..], &[0xff; 128]].concat()))), KeyError::Size),
        (changed(&rsa, "n", json!(b64(&[0xff; 1_025]))), KeyError::Size),
        (changed(&rsa, "n", json!("====")), KeyError::Malformed("n")),
        (changed(&rsa, "n", json!(null)), KeyError::Malformed("n")),
        (changed(&rsa, "kty", json!("EC")), KeyError::Curve),
        (changed(&rsa, "kty", json!("rsa")), KeyError::Type),
        (changed(&rsa, "kty", json!("oct")), KeyError::Malformed("k")),
        (json!({ "kty": "oct", "k": "" }), KeyError::Size),
        (json!({ "kty": "oct", "k": b64(&[1; 31]) }), KeyError::Size),
        (json!({ "kty": "oct", "k": b64(&[1; 32]), "alg": "HS512" }), KeyError::Algorithm),
        (changed(&p256, "kid", json!("x".repeat(2_000))), KeyError::Malformed("kid is too long")),
    ] {
        assert_eq!(refused(&jwk), expected, "{jwk}");
    }
    for text in ["", "{}", "[]", "{\"kty\":\"EC\",\"kty\":\"RSA\"}", "{\"kty\":7}"] {
        assert!(matches!(Key::jwk(text), Err(KeyError::Malformed(_))), "{text}");
    }
    // An even exponent, and one of 1, make no RSA.
    for e in [&[2][..], &[1], &[0], &[]] {
        assert!(Key::jwk(&changed(&rsa, "e", json!(b64(e))).to_string()).is_err(), "{e:?}");
    }
}

#[test]
fn one_bad_key_does_not_discard_the_good_ones() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa));
    let document = json!({ "keys": [
        changed(&a, "kid", json!("a")),
        { "kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB" },
        7,
        { "kty": "OKP", "crv": "Ed448", "x": "AAAA" },
        { "kty": "unheard-of" },
        null,
        changed(&b, "kid", json!("b")),
        changed(&b, "kid", json!(7)),
    ], "other": true });
    let keys = KeySet::jwks(&document.to_string()).unwrap();
    assert_eq!(keys.keys().filter_map(Key::id).collect::<Vec<_>>(), ["a", "b"]);
    let skipped: Vec<_> = keys.skipped().iter().map(|s| (s.index, s.error)).collect();
    let malformed = KeyError::Malformed("not a JSON Web Key");
    assert_eq!(
        skipped,
        [
            (1, KeyError::Purpose),
            (2, malformed),
            (3, KeyError::Curve),
            (4, KeyError::Type),
            (5, malformed),
            (7, malformed)
        ]
    );
    let jwt = of_keys(keys);
    assert_eq!(error(&jwt, &b.token_of(r#"{"alg":"EdDSA","kid":"b"}"#, &good().to_string())), None);
}

#[test]
fn documents_are_bounded() {
    for text in ["", "{}", "[]", "null", "{\"keys\":{}}", "{\"keys\":[]}{}", "{\"keys\":[],\"keys\":[]}"] {
        assert_eq!(KeySet::jwks(text).unwrap_err(), KeySetError::Malformed, "{text}");
    }
    assert_eq!(KeySet::jwks(r#"{"keys":[]}"#).unwrap_err(), KeySetError::NoKey(Vec::new()));
    let bad = KeySet::jwks(r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#).unwrap_err();
    assert_eq!(bad.to_string(), format!("no usable key among 1: key 0: {}", KeyError::Size));
    let many = format!(r#"{{"keys":[{}]}}"#, vec!["{}"; MAX_KEYS + 1].join(","));
    assert_eq!(KeySet::jwks(&many).unwrap_err(), KeySetError::TooMany);
    assert_eq!(KeySet::jwks(&" ".repeat(MAX_DOCUMENT + 1)).unwrap_err(), KeySetError::TooLarge);
    let too_many = (0..=MAX_KEYS).map(|_| Key::secret(&[1; 32]).unwrap());
    assert_eq!(KeySet::new(too_many).unwrap_err(), KeySetError::TooMany);
}

#[test]
fn the_key_id_selects_and_without_one_keys_are_tried() {
    let signers: Vec<Signer> = (0..12).map(|_| Signer::new(Algorithm::Es256)).collect();
    let named = |i: usize| signers[i].key().named(format!("k{i}"));
    let token = |i: usize, kid: Option<&str>| {
        let header = kid.map_or(json!({ "alg": "ES256" }), |kid| json!({ "alg": "ES256", "kid": kid }));
        signers[i].token_of(&header.to_string(), &good().to_string())
    };
    let all = of_keys(KeySet::new((0..12).map(named)).unwrap());
    assert_eq!(error(&all, &token(11, Some("k11"))), None);
    assert_eq!(error(&all, &token(11, Some("k10"))), Some(TokenError::Signature));
    assert_eq!(error(&all, &token(11, Some("k12"))), Some(TokenError::UnknownKey));
    assert_eq!(error(&all, &token(7, None)), None);
    // Only so many are tried.
    assert_eq!(error(&all, &token(8, None)), Some(TokenError::Signature));

    // A key without a name, from a PEM file perhaps, is tried whatever the token says.
    let mixed = of_keys(KeySet::new([named(0), signers[1].key()]).unwrap());
    assert_eq!(error(&mixed, &token(1, Some("whatever"))), None);
    assert_eq!(error(&mixed, &token(0, Some("k0"))), None);
    assert_eq!(error(&mixed, &token(0, Some("whatever"))), Some(TokenError::Signature));

    // One name for two kinds of key (RFC 7517 section 4.5).
    let ed = Signer::new(Algorithm::EdDsa);
    let twins = of_keys(KeySet::new([named(0), ed.key().named("k0")]).unwrap());
    assert_eq!(error(&twins, &ed.token_of(r#"{"alg":"EdDSA","kid":"k0"}"#, &good().to_string())), None);
    assert_eq!(error(&twins, &token(0, Some("k0"))), None);
}

#[tokio::test(start_paused = true)]
async fn who_fetches_keys_is_told_when_they_are_wanted() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = Keys::unknown();
    let jwt = of_keys(keys.clone());
    let token = signer.token_of(r#"{"alg":"ES256","kid":"new"}"#, &good().to_string());
    let idle = tokio::time::timeout(Duration::from_secs(60), keys.wanted()).await;
    assert!(idle.is_err());

    assert_eq!(error(&jwt, &token), Some(TokenError::KeysUnknown));
    keys.wanted().await;
    keys.replace(KeySet::new([signer.key().named("old")]).unwrap());
    assert_eq!(error(&jwt, &token), Some(TokenError::UnknownKey));
    keys.wanted().await;
    keys.replace(KeySet::new([signer.key().named("new")]).unwrap());
    assert_eq!(error(&jwt, &token), None);
    let idle = tokio::time::timeout(Duration::from_secs(60), keys.wanted()).await;
    assert!(idle.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_names_no_key_may_be_of_one_that_came_after_the_named_ones() {
    let (old, new) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let keys = Keys::from(KeySet::new([old.key().named("old")]).unwrap());
    let jwt = of_keys(keys.clone());
    let token = |signer: &Signer| signer.token_of(r#"{"alg":"ES256"}"#, &good().to_string());
    assert_eq!(error(&jwt, &token(&old)), None);
    assert_eq!(error(&jwt, &token(&new)), Some(TokenError::Signature));
    tokio::time::timeout(Duration::from_secs(60), keys.wanted())
        .await
        .expect("nobody was told to look again");
    keys.replace(KeySet::new([old.key().named("old"), new.key().named("new")]).unwrap());
    assert_eq!(error(&jwt, &token(&new)), None);
}

#[test]
fn keys_are_replaced_under_load_without_a_wrong_answer() {
    let (old, new, never) =
        (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let keys = Keys::from(KeySet::new([old.key(), new.key()]).unwrap());
    let jwt = of_keys(keys.clone());
    let [old_token, new_token, never_token] = [&old, &new, &never].map(|signer| signer.token(&good()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(error(&jwt, &new_token), None);
                    assert_eq!(error(&jwt, &never_token), Some(TokenError::Signature));
                }
            });
        }
        for _ in 0..100 {
            keys.replace(KeySet::new([new.key()]).unwrap());
            // What left the set verifies nothing from then on.
            assert_eq!(error(&jwt, &old_token), Some(TokenError::Signature));
            keys.replace(KeySet::new([old.key(), new.key()]).unwrap());
            assert_eq!(error(&jwt, &old_token), None);
        }
    });
}

#[test]
fn a_key_that_stays_is_the_same_one() {
    let (a, b, c) =
        (Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa), Signer::new(Algorithm::Es256));
    let set = |keys: Vec<Key>| KeySet::new(keys).unwrap();
    let keys = Keys::from(set(vec![a.key().named("a"), b.key().named("b"), c.key()]));
    let first = keys.current().unwrap();
    let held: Vec<_> = first.shared().cloned().collect();
    // In another order, under another name, without one that was there.
    keys.replace(set(vec![c.key(), b.key().named("new"), a.key().named("a")]));
    let second = keys.current().unwrap();
    assert_eq!(held.iter().map(|key| second.has(key)).collect::<Vec<_>>(), [true, false, true]);
    // One that comes back is not the one that left.
    keys.replace(set(vec![b.key().named("b")]));
    let third = keys.current().unwrap();
    assert!(held.iter().all(|key| !third.has(key)));
    // The same name for another key.
    keys.replace(set(vec![c.key().named("b")]));
    assert!(third.shared().all(|key| !keys.current().unwrap().has(key)));
    // The same key for fewer algorithms.
    let rsa = Signer::new(Algorithm::Rs256);
    keys.replace(set(vec![rsa.key()]));
    let wide = keys.current().unwrap();
    keys.replace(set(vec![rsa.key().only(&[Algorithm::Rs256]).unwrap()]));
    assert!(wide.shared().all(|key| !keys.current().unwrap().has(key)));
}
