//! What has been tried against verifiers of tokens.

use super::*;

fn hs256() -> (Signer, Jwt) {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer);
    (signer, jwt)
}

#[test]
fn no_spelling_of_none_is_taken() {
    let (_, jwt) = hs256();
    for name in ["none", "None", "NONE", "nOnE", "", "null", "none\0", " none"] {
        let header = b64(json!({ "alg": name }).to_string().as_bytes());
        for signature in ["", "AA"] {
            let token = format!("{header}.{}.{signature}", b64(good().to_string().as_bytes()));
            assert_eq!(error(&jwt, &token), Some(TokenError::Algorithm), "{name:?}");
        }
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let rsa = Signer::new(Algorithm::Rs256);
    let pem = include_bytes!("../../../../tests/vectors/jwt/pem/rsa2048.pem");
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        // The forger signs with all that is public of the key.
        for public in [pem.to_vec(), rsa.jwk().to_string().into_bytes()] {
            let Secret::Mac(_) = Signer::new(algorithm).secret else { unreachable!() };
            let forger = Signer { algorithm, secret: Secret::Mac(Box::new(hmac::Key::new(hash, &public))) };
            let of_pem = of_keys(KeySet::new([Key::pem(pem).unwrap()]).unwrap());
            assert_eq!(error(&of_pem, &forger.token(&good())), Some(TokenError::Algorithm));
            assert_eq!(error(&jwt(&rsa), &forger.token(&good())), Some(TokenError::Algorithm));
        }
        for own in [Algorithm::Es256, Algorithm::EdDsa].map(Signer::new) {
            let public = own.jwk().to_string();
            let secret = Secret::Mac(Box::new(hmac::Key::new(hash, public.as_bytes())));
            let forged = Signer { algorithm, secret }.token(&good());
            assert_eq!(error(&jwt(&own), &forged), Some(TokenError::Algorithm));
        }
    }
}

#[test]
fn the_key_and_the_provider_both_limit_the_algorithms() {
    let signer = Signer::new(Algorithm::Rs512);
    let token = signer.token(&good());
    let only = |key: Key| of_keys(KeySet::new([key]).unwrap());
    assert_eq!(error(&only(signer.key()), &token), None);
    assert_eq!(
        error(&only(signer.key().only(&[Algorithm::Rs256]).unwrap()), &token),
        Some(TokenError::Algorithm)
    );
    assert_eq!(
        error(&only(signer.key()).algorithms([Algorithm::Rs256]), &token),
        Some(TokenError::Algorithm)
    );
    let mut jwk = signer.jwk();
    jwk["alg"] = json!("PS512");
    assert_eq!(error(&only(Key::jwk(&jwk.to_string()).unwrap()), &token), Some(TokenError::Algorithm));
}

#[test]
fn headers_that_are_not_understood_are_refused() {
    let (signer, jwt) = hs256();
    for (header, expected) in [
        (r#"{"alg":"HS256","crit":["exp"]}"#, Some(TokenError::Critical)),
        (r#"{"alg":"HS256","crit":[]}"#, Some(TokenError::Critical)),
        (r#"{"alg":"HS256","crit":null}"#, Some(TokenError::Critical)),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, Some(TokenError::Critical)),
        (r#"{"alg":"HS256","b64":false}"#, Some(TokenError::Critical)),
        (r#"{"alg":"HS256","b64":true}"#, None),
        (r#"{"alg":"HS256","b64":0}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256","alg":"HS256"}"#, Some(TokenError::Header)),
        (r#"{"alg":"none","alg":"HS256"}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256","x":1,"x":2}"#, Some(TokenError::Header)),
        (r#"{"alg":"\u0048S256"}"#, None),
        (r#"{"alg":["HS256"]}"#, Some(TokenError::Header)),
        (r#"{"alg":null}"#, Some(TokenError::Header)),
        (r#"{"alg":"hs256"}"#, Some(TokenError::Algorithm)),
        (r#"{"alg":"HS256","kid":7}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256","kid":null}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256","typ":7}"#, Some(TokenError::Header)),
        (r#"{"typ":"JWT"}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256"} "#, None),
        (r#"{"alg":"HS256"}{}"#, Some(TokenError::Header)),
        (r#"{"alg":"HS256",}"#, Some(TokenError::Header)),
        (r#"["HS256"]"#, Some(TokenError::Header)),
        ("\u{feff}{\"alg\":\"HS256\"}", Some(TokenError::Header)),
        ("", Some(TokenError::Header)),
        // Keys that a token brings along.
        (
            r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"jku":"https://evil.example","x5u":"x","x5c":["x"]}"#,
            None,
        ),
    ] {
        assert_eq!(error(&jwt, &signer.token_of(header, &good().to_string())), expected, "{header}");
    }
}

#[test]
fn a_key_that_a_token_brings_along_verifies_nothing() {
    let (ours, thief) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let header = json!({ "alg": "ES256", "jwk": thief.jwk(), "kid": "x" }).to_string();
    assert_eq!(
        error(&jwt(&ours), &thief.token_of(&header, &good().to_string())),
        Some(TokenError::Signature)
    );
}

#[test]
fn types_of_other_kinds_of_tokens_are_refused() {
    let (signer, jwt) = hs256();
    let typed =
        |typ: &str| signer.token_of(&json!({ "alg": "HS256", "typ": typ }).to_string(), &good().to_string());
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        assert_eq!(error(&jwt, &typed(typ)), None, "{typ}");
    }
    for typ in ["secevent+jwt", "dpop+jwt", "logout+jwt", "JWE", "", "application/", "application/x/jwt", "é"]
    {
        assert_eq!(error(&jwt, &typed(typ)), Some(TokenError::Type), "{typ}");
    }
    let access_only = jwt.types(["at+jwt"]);
    assert_eq!(error(&access_only, &typed("application/at+jwt")), None);
    assert_eq!(error(&access_only, &typed("JWT")), Some(TokenError::Type));
    let untyped = signer.token_of(r#"{"alg":"HS256"}"#, &good().to_string());
    assert_eq!(error(&access_only, &untyped), Some(TokenError::Type));
}

#[test]
fn key_ids_are_names_and_nothing_else() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = of_keys(KeySet::new([signer.key().named("2026-11")]).unwrap());
    let with_kid =
        |kid: &str| signer.token_of(&json!({ "alg": "HS256", "kid": kid }).to_string(), &good().to_string());
    assert_eq!(error(&jwt, &with_kid("2026-11")), None);
    for kid in [
        "",
        "../../dev/null",
        "2026-11\0",
        "2026-11'; --",
        "https://evil.example/jwks",
        "2026-1１",
        " 2026-11",
    ] {
        assert_eq!(error(&jwt, &with_kid(kid)), Some(TokenError::UnknownKey), "{kid:?}");
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let (signer, jwt) = hs256();
    let token = signer.token(&good());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.a.b"),
        format!(".{header}.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature} "),
        format!("{header}.{payload}.{signature}\n"),
        format!("{header}.{payload}.{signature}A"),
        format!("{header}.{payload}.{}", &signature[1..]),
        format!("{header}.{payload}.{}", "A".repeat(5_000)),
        token.replace('.', "。"),
        "é.é.é".into(),
    ] {
        assert!(error(&jwt, &bad).is_some(), "{bad:?}");
    }
    // Standard base64 where base64url is meant.
    let payload = json!({ "exp": NOW + 300, "x": "???>>>" }).to_string();
    let url = signer.token_of(r#"{"alg":"HS256"}"#, &payload);
    assert!(url.contains('_') || url.contains('-'));
    assert_eq!(error(&jwt, &url.replace('_', "/").replace('-', "+")), Some(TokenError::Malformed));
    // The last character of a signature of 32 bytes has two bits that mean nothing: one spelling only.
    let last = URL_SAFE_NO_PAD.encode([0; 32]).len() - 1;
    assert_eq!(signature.len(), last + 1);
    let spellings = ('A'..='Z').chain('a'..='z').filter(|c| {
        let token = format!("{header}.{}.{}{c}", token.split('.').nth(1).unwrap(), &signature[..last]);
        error(&jwt, &token).is_none()
    });
    assert!(spellings.count() <= 1);
}

#[test]
fn signatures_of_nothing_are_refused() {
    for algorithm in [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa] {
        let signer = Signer::new(algorithm);
        let token = signer.token(&good());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let length = URL_SAFE_NO_PAD.decode(signature).unwrap().len();
        for (first, second) in [(0, 0), (0, 1), (1, 0), (0xff, 0xff)] {
            let mut forged = vec![first; length];
            forged[length / 2..].fill(second);
            let forged = format!("{signed}.{}", b64(&forged));
            assert_eq!(
                error(&jwt(&signer), &forged),
                Some(TokenError::Signature),
                "{algorithm} {first} {second}"
            );
        }
        assert_eq!(error(&jwt(&signer), &format!("{signed}.")), Some(TokenError::Signature));
    }
}

/// ECDSA signatures have a second form, in DER, which RFC 7518 does not have.
#[test]
fn a_signature_in_der_is_refused() {
    let signer = Signer::new(Algorithm::Es256);
    let document = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let point = document.public_key().as_ref();
    let keys = KeySet::new([Key::ec(point).unwrap()]).unwrap();
    let token = signer.token(&good());
    let (signed, _) = token.rsplit_once('.').unwrap();
    let der = document.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let jwt = of_keys(keys);
    assert_eq!(error(&jwt, &format!("{signed}.{}", b64(der.as_ref()))), Some(TokenError::Signature));
}

#[test]
fn size_is_bounded_before_any_work() {
    let (signer, jwt) = hs256();
    let padded = |length: usize| {
        let empty = signer.token(&with("pad", json!(""))).len();
        signer.token(&with("pad", json!("x".repeat((length - empty) / 4 * 3))))
    };
    assert_eq!(error(&jwt, &padded(Jwt::MAX_SIZE - 64)), None);
    assert_eq!(error(&jwt, &padded(Jwt::MAX_SIZE + 64)), Some(TokenError::TooLarge));
    assert_eq!(error(&jwt, &"a".repeat(1 << 20)), Some(TokenError::TooLarge));
    assert_eq!(error(&jwt.max_size(100), &signer.token(&good())), Some(TokenError::TooLarge));
}

#[test]
fn large_headers_are_bounded_and_deep_json_does_no_harm() {
    let (signer, jwt) = hs256();
    let header = |length: usize| format!(r#"{{"alg":"HS256","x5c":"{}"}}"#, "x".repeat(length));
    assert_eq!(error(&jwt, &signer.token_of(&header(3_000), &good().to_string())), None);
    assert_eq!(error(&jwt, &signer.token_of(&header(5_000), &good().to_string())), Some(TokenError::Header));
    // What nobody nests in earnest is refused, wherever it stands, before the stack ends.
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let payload = |value: &str| format!(r#"{{"iss":"{ISSUER}","aud":"shop","exp":{},"x":{value}}}"#, NOW + 9);
    let check = |header: &str, payload: &str| error(&jwt, &signer.token_of(header, payload));
    let header = |value: &str| format!(r#"{{"alg":"HS256","x":{value}}}"#);
    assert_eq!(check(&header(&nested(100)), &payload(&nested(100))), None);
    assert_eq!(check(&header(&nested(1_000)), &payload("1")), Some(TokenError::Header));
    for deep in [nested(4_000), r#"{"a":"#.repeat(2_000) + "1" + &"}".repeat(2_000)] {
        assert_eq!(check(&header("1"), &payload(&deep)), Some(TokenError::Claims));
        let roles = payload(&deep).replace("\"x\"", "\"roles\"");
        assert_eq!(check(&header("1"), &roles), Some(TokenError::Claims));
    }
}

#[test]
fn nothing_of_a_token_or_key_shows_in_debug() {
    let (signer, jwt) = hs256();
    let (principal, claims) = jwt.verify(&signer.token(&with("email", json!("alice@example.com")))).unwrap();
    let shown = format!("{jwt:?} {claims:?} {:?}", signer.key());
    assert!(!shown.contains("alice@example.com") && !shown.contains("7, 7, 7"), "{shown}");
    assert!(!format!("{principal:?}").contains("alice@example.com"));
}
