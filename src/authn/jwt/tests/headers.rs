//! Headers that are kept, read already: they save reading, and nothing else.

use super::*;
use crate::authn::jwt::headers::Headers;

fn kept(jwt: &Jwt) -> usize {
    jwt.first.keys.current().unwrap().headers.len()
}

#[test]
fn a_header_is_kept_once_a_token_with_it_is_verified() {
    let (ours, thief) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let jwt = jwt(&ours).memory(0);
    assert!(error(&jwt, &thief.token(&good())).is_some());
    assert!(error(&jwt, &ours.token_of(r#"{"alg":"ES384"}"#, &good().to_string())).is_some());
    assert_eq!(kept(&jwt), 0);
    for _ in 0..3 {
        assert_eq!(error(&jwt, &ours.token(&good())), None);
        assert_eq!(kept(&jwt), 1);
        // The signature is verified as before.
        assert_eq!(error(&jwt, &thief.token(&good())), Some(TokenError::Signature));
    }
}

#[test]
fn as_many_are_kept_as_there_is_room_for_and_all_verify() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer).memory(0);
    let of = |n: usize, pad: usize| {
        let header = format!(r#"{{"alg":"HS256","n":{n},"pad":"{}"}}"#, "x".repeat(pad));
        signer.token_of(&header, &good().to_string())
    };
    assert_eq!(error(&jwt, &of(0, Headers::LONGEST)), None);
    assert_eq!(kept(&jwt), 0);
    for round in 0..2 {
        for n in 0..2 * Headers::MOST {
            assert_eq!(error(&jwt, &of(n, 0)), None, "{n}");
            let most = if round == 0 { (n + 1).min(Headers::MOST) } else { Headers::MOST };
            assert_eq!(kept(&jwt), most);
        }
    }
}

/// The same keys are used by others with other rules.
#[test]
fn what_a_header_asks_for_is_checked_each_time() {
    let signer = Signer::new(Algorithm::Es256);
    let keys = Keys::from(KeySet::new([signer.key().named("k")]).unwrap());
    let token = |header: &str| signer.token_of(header, &good().to_string());
    let typed = token(r#"{"alg":"ES256","kid":"k","typ":"logout+jwt"}"#);
    let plain = token(r#"{"alg":"ES256","kid":"k"}"#);
    let lax = || of_keys(keys.clone()).memory(0);
    let logout = lax().types(["logout+jwt"]);
    assert_eq!(error(&logout, &typed), None);
    assert_eq!(error(&lax(), &plain), None);
    assert_eq!(kept(&logout), 2);
    assert_eq!(error(&lax(), &typed), Some(TokenError::Type));
    assert_eq!(error(&logout, &plain), Some(TokenError::Type));
    assert_eq!(error(&lax().algorithms([Algorithm::Es384]), &plain), Some(TokenError::Algorithm));
    // Another key under the name, and no key of it.
    keys.replace(KeySet::new([Signer::new(Algorithm::Es256).key().named("k")]).unwrap());
    assert_eq!(error(&lax(), &plain), Some(TokenError::Signature));
    keys.replace(KeySet::new([signer.key().named("other")]).unwrap());
    assert_eq!(error(&lax(), &plain), Some(TokenError::UnknownKey));
}

/// Headers are told apart by every byte of theirs, and not by what they are long.
#[test]
fn a_header_like_a_kept_one_is_another() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let jwt = of_keys(KeySet::new([a.key().named("a"), b.key().named("b")]).unwrap()).memory(0);
    let token = |signer: &Signer, kid: &str, typ: &str| {
        let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"{typ}"}}"#);
        signer.token_of(&header, &good().to_string())
    };
    for round in 0..2 {
        assert_eq!(error(&jwt, &token(&a, "a", "JWT")), None);
        assert_eq!(error(&jwt, &token(&a, "a", "JWX")), Some(TokenError::Type));
        assert_eq!(error(&jwt, &token(&a, "b", "JWT")), Some(TokenError::Signature));
        assert_eq!(error(&jwt, &token(&a, "c", "JWT")), Some(TokenError::UnknownKey));
        assert_eq!(kept(&jwt), 1 + round);
        assert_eq!(error(&jwt, &token(&b, "b", "JWT")), None);
        assert_eq!(error(&jwt, &token(&b, "a", "JWT")), Some(TokenError::Signature));
        assert_eq!(kept(&jwt), 2);
    }
}
