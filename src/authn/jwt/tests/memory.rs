//! Tokens that were seen before: the signature is not verified again, and nothing else is left out.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::identity::PeerIdentity;

fn len(jwt: &Jwt) -> usize {
    jwt.memory.as_ref().unwrap().len()
}

#[test]
fn a_token_is_remembered_once_it_is_valid() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(&signer);
    let token = signer.token(&with("scope", json!("a b")));
    let first = jwt.verify(&token).unwrap();
    assert_eq!(len(&jwt), 1);
    let again = jwt.verify(&token).unwrap();
    assert_eq!(first, again);
    assert!(again.0.has_scope("b") && again.0.claim("aud").as_deref() == Some("shop"));
    // The same principal, and not one like it.
    assert!(std::ptr::eq(first.0.subject(), again.0.subject()));

    for bad in [with("exp", json!(1)), with("aud", json!("other")), with("iss", json!("other"))] {
        assert!(error(&jwt, &signer.token(&bad)).is_some());
    }
    assert!(error(&jwt, &format!("{token}A")).is_some());
    assert!(error(&jwt, &Signer::new(Algorithm::Es256).token(&good())).is_some());
    assert_eq!(len(&jwt), 1);
    assert!(jwt.memory(0).memory.is_none());
}

#[test]
fn the_times_are_checked_each_time() {
    let signer = Signer::new(Algorithm::Es256);
    let hands = clock();
    let jwt = jwt(&signer).clock(hands.clock());
    let token = signer.token(&with("nbf", json!(NOW)));
    assert_eq!(error(&jwt, &token), None);
    hands.advance(Duration::from_secs(359));
    assert_eq!(error(&jwt, &token), None);
    hands.advance(Duration::from_secs(1));
    assert_eq!(error(&jwt, &token), Some(TokenError::Expired));
    hands.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW - 61));
    assert_eq!(error(&jwt, &token), Some(TokenError::NotYetValid));
    assert_eq!(len(&jwt), 1);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_handed_out() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer);
    let (token, endless) = (signer.token(&good()), {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove("exp");
        signer.token(&claims)
    });
    let (principal, _) = jwt.verify(&token).unwrap();
    tokio::time::advance(Duration::from_secs(359)).await;
    assert!(std::ptr::eq(jwt.verify(&token).unwrap().0.subject(), principal.subject()));
    tokio::time::advance(Duration::from_secs(1)).await;
    // The clock on the wall stands still: it is verified anew.
    assert!(!std::ptr::eq(jwt.verify(&token).unwrap().0.subject(), principal.subject()));

    let jwt = jwt.danger_without_expiry();
    let (principal, _) = jwt.verify(&endless).unwrap();
    tokio::time::advance(Duration::from_secs(86_400 + 59)).await;
    assert!(std::ptr::eq(jwt.verify(&endless).unwrap().0.subject(), principal.subject()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!std::ptr::eq(jwt.verify(&endless).unwrap().0.subject(), principal.subject()));
}

#[test]
fn a_token_dies_with_the_key_that_verified_it() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let set = |signers: &[(&Signer, &str)]| {
        KeySet::new(signers.iter().map(|(signer, name)| signer.key().named(*name))).unwrap()
    };
    let keys = Keys::from(set(&[(&a, "a"), (&b, "b")]));
    let jwt = of_keys(keys.clone());
    let of = |signer: &Signer, kid: &str| {
        signer.token_of(&json!({ "alg": "ES256", "kid": kid }).to_string(), &good().to_string())
    };
    let (token_a, token_b) = (of(&a, "a"), of(&b, "b"));
    let principal = jwt.verify(&token_b).unwrap().0;
    assert_eq!(error(&jwt, &token_a), None);
    keys.replace(set(&[(&b, "b")]));
    assert_eq!(error(&jwt, &token_a), Some(TokenError::UnknownKey));
    assert_eq!(len(&jwt), 1);
    // What a key verified that stayed is not verified again.
    assert!(std::ptr::eq(jwt.verify(&token_b).unwrap().0.subject(), principal.subject()));
    // Another key of the same name.
    keys.replace(set(&[(&a, "b")]));
    assert_eq!(error(&jwt, &token_b), Some(TokenError::Signature));
    // A key that comes back verifies again.
    keys.replace(set(&[(&a, "a"), (&b, "b")]));
    assert_eq!((error(&jwt, &token_a), error(&jwt, &token_b)), (None, None));
}

#[test]
fn other_rules_have_another_memory() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(&signer);
    let token = signer.token(&with("scope", json!("a")));
    assert_eq!(error(&jwt, &token), None);
    // Clones share what is remembered until one of them has other rules.
    assert_eq!((error(&jwt.clone(), &token), len(&jwt)), (None, 1));
    for (other, expected) in [
        (jwt.clone().audiences(["other"]), TokenError::Audience),
        (jwt.clone().issuer("https://other.example"), TokenError::Issuer),
        (jwt.clone().algorithms([Algorithm::Rs256]), TokenError::Algorithm),
        (jwt.clone().types(["at+jwt"]), TokenError::Type),
        (jwt.clone().require(["jti"]), TokenError::Missing),
        (jwt.clone().require_certificate(), TokenError::Unbound),
    ] {
        assert_eq!(error(&other, &token), Some(expected));
    }
    let renamed = jwt.clone().named("staff").scopes_at("/none");
    let (principal, _) = renamed.verify(&token).unwrap();
    assert_eq!((principal.provider(), principal.scopes().count()), ("staff", 0));
    assert_eq!(jwt.verify(&token).unwrap().0.provider(), "jwt");
}

#[test]
fn a_bound_token_is_bound_each_time() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(&signer);
    let (owner, thief) = (PeerIdentity::new([7; 32]), PeerIdentity::new([8; 32]));
    let token = signer.token(&with("cnf", json!({ "x5t#S256": b64(owner.sha256()) })));
    for _ in 0..2 {
        assert!(jwt.verify_from(&token, &owner).is_ok());
        assert_eq!(jwt.verify_from(&token, &thief).unwrap_err(), TokenError::Binding);
        assert_eq!(error(&jwt, &token), Some(TokenError::Binding));
    }
    assert_eq!(len(&jwt), 1);
}

#[test]
fn a_flood_of_valid_tokens_stays_within_the_cap() {
    const CAP: usize = 200_000;

    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer).memory(CAP);
    let tokens: Vec<String> = (0..3_000).map(|jti| signer.token(&with("jti", json!(jti)))).collect();
    let used = allocation_counter::measure(|| {
        for token in &tokens {
            assert_eq!(error(&jwt, token), None);
            assert!(jwt.memory.as_ref().unwrap().bytes() <= CAP);
        }
    });
    // Also as the allocator counts it, with the table, which has 16 bytes for each place.
    assert!(used.bytes_current <= (CAP + CAP / 1_024 * 16 + 256) as i64, "{}", used.bytes_current);
    assert!(len(&jwt) > 100, "{}", len(&jwt));
}

#[test]
fn claims_are_the_same_whoever_reads_them_first() {
    let signer = Signer::new(Algorithm::Hs256);
    for pad in [0, 2_000] {
        let mut claims = with("pad", json!("é".repeat(pad)));
        claims["realm"] = json!({ "roles": ["buyer", 7, "bänned", { "no": "text" }] });
        let token = signer.token(&claims);
        let (remembering, forgetful) = (jwt(&signer), jwt(&signer).memory(0));
        for _ in 0..2 {
            let (principal, found) = remembering.verify(&token).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(found.as_json()).unwrap(), claims);
            assert_eq!(found.claim("sub"), Some(json!("alice")));
            let (other, unremembered) = forgetful.verify(&token).unwrap();
            assert_eq!(found, unremembered);
            for principal in [principal, other] {
                assert_eq!(principal.claim("sub").as_deref(), Some("alice"));
                assert_eq!(principal.claim("/realm/roles"), None, "a list is no text");
                let has = |name: &str, one: &str| principal.any_claim(name, &mut |text| text == one);
                assert!(has("sub", "alice") && !has("sub", "bob") && !has("none", "alice"));
                for (role, expected) in
                    [("buyer", true), ("7", true), ("bänned", true), ("no", false), ("buy", false)]
                {
                    assert_eq!(has("/realm/roles", role), expected, "{role}");
                }
            }
        }
    }
}

/// Tokens of some users, many times over, in an order that nobody chose, some of them broken.
#[derive(Debug, Clone)]
struct Shown {
    user: usize,
    /// A byte of the token that is another one.
    broken: Option<(prop::sample::Index, u8)>,
}

fn shown() -> impl Strategy<Value = Shown> {
    let broken = prop::option::weighted(0.3, (any::<prop::sample::Index>(), 0x21_u8..0x7f));
    (0..24_usize, broken).prop_map(|(user, broken)| Shown { user, broken })
}

fn tokens() -> &'static (Signer, Vec<String>) {
    static TOKENS: LazyLock<(Signer, Vec<String>)> = LazyLock::new(|| {
        let signer = Signer::new(Algorithm::Hs256);
        let of = |user: usize| {
            let mut claims = with("sub", json!(format!("user-{user}")));
            claims["scope"] = json!(format!("scope-{user}"));
            signer.token(&claims)
        };
        let tokens = (0..24).map(of).collect();
        (signer, tokens)
    });
    &TOKENS
}

proptest! {
    #[test]
    fn nobody_gets_the_claims_of_another(requests in prop::collection::vec(shown(), 1..200), places in 1..40_usize) {
        let (signer, tokens) = tokens();
        let jwt = jwt(signer).memory(places * 1_024);
        for Shown { user, broken } in requests {
            let mut token = tokens[user].clone().into_bytes();
            if let Some((at, byte)) = broken {
                let at = at.index(token.len());
                token[at] = byte;
            }
            let token = String::from_utf8(token).unwrap();
            match jwt.verify(&token) {
                Ok((principal, claims)) => {
                    prop_assert_eq!(&token, &tokens[user]);
                    prop_assert_eq!(principal.subject(), format!("user-{user}"));
                    prop_assert!(principal.has_scope(&["scope-", &user.to_string()].concat()));
                    prop_assert_eq!(claims.claim("sub"), Some(json!(format!("user-{user}"))));
                    prop_assert!(principal.claim("sub").is_some_and(|claim| claim == principal.subject()));
                }
                Err(_) => prop_assert_ne!(&token, &tokens[user]),
            }
        }
    }
}

#[test]
fn threads_get_their_own_while_keys_come_and_go() {
    let (signer, tokens) = tokens();
    let stranger = Signer::new(Algorithm::Hs384);
    let keys = Keys::from(KeySet::new([signer.key()]).unwrap());
    let jwt = of_keys(keys.clone()).memory(16 * 1_024);
    /// It is over, however it ends.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3_usize {
            let (jwt, over, tokens) = (&jwt, &over, &tokens);
            scope.spawn(move || {
                for step in 0_usize.. {
                    let user = (step * 7 + seed * 5) % tokens.len();
                    let last = over.load(Ordering::Acquire);
                    match jwt.verify(&tokens[user]) {
                        Ok((principal, _)) => assert_eq!(principal.subject(), format!("user-{user}")),
                        Err(why) => assert!(!last, "the key is back: {why}"),
                    }
                    if last {
                        break;
                    }
                }
            });
        }
        let _ends = Ends(&over);
        for _ in 0..50 {
            keys.replace(KeySet::new([stranger.key().only(&[Algorithm::Hs384]).unwrap()]).unwrap());
            // From now on nobody is let in by what was verified before.
            assert!(tokens.iter().all(|token| error(&jwt, token).is_some()));
            keys.replace(KeySet::new([signer.key()]).unwrap());
            assert!(tokens.iter().all(|token| error(&jwt, token).is_none()));
        }
    });
}
