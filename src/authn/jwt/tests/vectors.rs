//! Tokens that others made.

use jsonwebtoken::{DecodingKey, EncodingKey, crypto::aws_lc::DEFAULT_PROVIDER};
use proptest::prelude::*;

use super::*;

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    jwk: Value,
    token: String,
    /// Whether what is signed is a JSON object.
    claims: bool,
}

/// The examples of the standards, at a time when they were valid.
#[test]
fn the_standards_examples_verify() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../tests/vectors/jwt/rfc.json")).unwrap();
    let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_300_819_300));
    for Vector { name, jwk, token, claims } in vectors {
        let keys = KeySet::new([Key::jwk(&jwk.to_string()).unwrap()]).unwrap();
        let jwt = Jwt::new(keys).clock(clock.clock());
        if claims {
            let (principal, claims) = jwt.verify(&token).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(principal.issuer(), "joe", "{name}");
            assert_eq!(claims.claim("http://example.com/is_root"), Some(json!(true)), "{name}");
        } else {
            // The signature is good, which is found out first.
            assert_eq!(error(&jwt, &token), Some(TokenError::Claims), "{name}");
        }
        let last = token.len() - 2;
        let other = if token.as_bytes()[last] == b'A' { "B" } else { "A" };
        let mut forged = token.clone();
        forged.replace_range(last..=last, other);
        assert_eq!(error(&jwt, &forged), Some(TokenError::Signature), "{name}");
    }
}

#[test]
fn each_algorithm_verifies_with_its_key_and_no_other() {
    let signers: Vec<Signer> = Algorithm::ALL.iter().map(|a| Signer::new(*a)).collect();
    for signer in &signers {
        let token = signer.token(&good());
        assert_eq!(error(&jwt(signer), &token), None, "{}", signer.algorithm);
        for other in &signers {
            let same_key = signer.jwk() == other.jwk();
            assert_eq!(
                error(&jwt(other), &token).is_none(),
                same_key,
                "{} {}",
                signer.algorithm,
                other.algorithm
            );
        }
        // A key of the same kind.
        if !matches!(signer.secret, Secret::Mac(_) | Secret::Rsa(..)) {
            let stranger = jwt(&Signer::new(signer.algorithm));
            assert_eq!(error(&stranger, &token), Some(TokenError::Signature), "{}", signer.algorithm);
        }
    }
}

/// Two implementations that were written apart agree.
#[test]
fn tokens_of_jsonwebtoken_verify_here_and_ours_there() {
    let signed = b"eyJhbGciOiJIUzI1NiJ9.e30";
    for signer in Algorithm::ALL.iter().filter(|a| **a != Algorithm::Es512).map(|a| Signer::new(*a)) {
        let theirs: jsonwebtoken::Algorithm = signer.algorithm.name().parse().unwrap();
        let jwk = serde_json::from_value(signer.jwk()).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&theirs, &key).unwrap();
        assert!(verifier.verify(signed, &signer.sign(signed)).is_ok(), "{}", signer.algorithm);

        let Secret::Mac(_) = signer.secret else { continue };
        let their_signer =
            (DEFAULT_PROVIDER.signer_factory)(&theirs, &EncodingKey::from_secret(SECRET)).unwrap();
        let signature = their_signer.try_sign(signed).unwrap();
        assert!(signer.key().verifier(signer.algorithm).unwrap().verify(signed, &signature));
    }
}

fn es256() -> &'static (Signer, Jwt, String) {
    static ONE: LazyLock<(Signer, Jwt, String)> = LazyLock::new(|| {
        let signer = Signer::new(Algorithm::Es256);
        let (jwt, token) = (jwt(&signer), signer.token(&good()));
        (signer, jwt, token)
    });
    &ONE
}

proptest! {
    #[test]
    fn nothing_made_up_verifies(text in "[ -~]{0,200}", dotted in "[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_=-]{0,40}\\.[A-Za-z0-9_=-]{0,90}") {
        prop_assert!(error(&es256().1, &text).is_some());
        prop_assert!(error(&es256().1, &dotted).is_some());
    }

    #[test]
    fn no_change_of_a_valid_token_verifies(at in any::<prop::sample::Index>(), byte in 0x21_u8..0x7f, cut in any::<prop::sample::Index>()) {
        let (_, jwt, token) = es256();
        let mut changed = token.clone().into_bytes();
        changed[at.index(token.len())] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(error(jwt, &changed).is_none(), changed == *token);
        prop_assert!(error(jwt, &token[..cut.index(token.len())]).is_some());
        let longer = format!("{token}{}", char::from(byte));
        prop_assert!(error(jwt, &longer).is_some());
    }

    #[test]
    fn no_header_or_payload_makes_it_panic(header in any::<Vec<u8>>(), payload in any::<Vec<u8>>()) {
        let (signer, jwt, _) = es256();
        let signed = format!("{}.{}", b64(&header), b64(&payload));
        let token = format!("{signed}.{}", b64(&signer.sign(signed.as_bytes())));
        prop_assert!(error(jwt, &token).is_some());
        let header = b64(br#"{"alg":"ES256"}"#);
        let signed = format!("{header}.{}", b64(&payload));
        let token = format!("{signed}.{}", b64(&signer.sign(signed.as_bytes())));
        prop_assert!(error(jwt, &token).is_some());
    }
}
