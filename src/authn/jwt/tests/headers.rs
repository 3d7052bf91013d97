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

/// Read once or twice, a token is what it is: whatever of its header is changed.
#[test]
fn a_header_like_a_kept_one_is_another() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer).memory(0);
    let token = signer.token_of(r#"{"alg":"HS256","kid":"a"}"#, &good().to_string());
    let length = token.find('.').unwrap();
    for _ in 0..2 {
        assert_eq!(error(&jwt, &token), None);
        for at in 0..length {
            for byte in
                [b'A', b'a', b'0', b'-', b'_'].into_iter().filter(|byte| *byte != token.as_bytes()[at])
            {
                let mut other = token.clone().into_bytes();
                other[at] = byte;
                assert!(error(&jwt, std::str::from_utf8(&other).unwrap()).is_some(), "{at}");
            }
        }
        assert!(error(&jwt, &token[1..]).is_some());
        assert!(error(&jwt, &format!("{}{}", &token[..length - 1], &token[length..])).is_some());
        assert_eq!(kept(&jwt), 1);
    }
}
