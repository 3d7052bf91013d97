//! What claims must say, and what is read from them.

use super::*;

fn hs256() -> (Signer, Jwt) {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer);
    (signer, jwt)
}

#[test]
fn claims_of_the_wrong_type_are_refused() {
    let (signer, gate) = hs256();
    // Also where nothing is asked of them.
    let lenient =
        Jwt::new(KeySet::new([signer.key()]).unwrap()).danger_without_expiry().clock(clock().clock());
    for (name, value) in [
        ("aud", json!(123)),
        ("aud", json!(["shop", 1])),
        ("aud", json!([["shop"]])),
        ("aud", json!({ "shop": true })),
        ("aud", json!(null)),
        ("aud", json!(true)),
        ("iss", json!([ISSUER])),
        ("iss", json!(["https://evil.example", ISSUER])),
        ("iss", json!({ "x": ISSUER })),
        ("iss", json!(1)),
        ("iss", json!(null)),
        ("sub", json!(7)),
        ("sub", json!(["alice"])),
        ("sub", json!(null)),
        ("exp", json!("1900000000")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!(NOW * 1000)),
        ("exp", json!(null)),
        ("exp", json!([NOW + 300])),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("nbf", json!(-1)),
        ("nbf", json!(1e300)),
        ("iat", json!("now")),
        ("iat", json!(u64::MAX)),
        ("scope", json!(7)),
        ("scope", json!(["a", 7])),
        ("scp", json!({})),
        ("roles", json!({ "admin": true })),
        ("roles", json!([{ "name": "admin" }])),
    ] {
        let token = signer.token(&with(name, value.clone()));
        assert_eq!(error(&gate, &token), Some(TokenError::Claims), "{name} {value}");
        assert_eq!(error(&lenient, &token), Some(TokenError::Claims), "{name} {value}");
    }
    for payload in
        ["", "null", "[]", "7", "\"x\"", "{", "{}{}", "{\"exp\":1e400}", "{\"exp\":01}", "{'exp':1}"]
    {
        let token = signer.token_of(r#"{"alg":"HS256"}"#, payload);
        assert_eq!(error(&lenient, &token), Some(TokenError::Claims), "{payload}");
    }
}

#[test]
fn claims_that_stand_twice_are_refused() {
    let (signer, gate) = hs256();
    let good = format!(r#""iss":"{ISSUER}","aud":"shop","exp":{}"#, NOW + 300);
    for twice in [
        r#""sub":"alice","sub":"root""#,
        r#""sub":"alice","sub":"alice""#,
        r#""sub":"alice","\u0073ub":"root""#,
        r#""tier":1,"tier":2"#,
        r#""exp":1"#,
    ] {
        let token = signer.token_of(r#"{"alg":"HS256"}"#, &format!("{{{good},{twice}}}"));
        assert_eq!(error(&gate, &token), Some(TokenError::Claims), "{twice}");
    }
    let many: Vec<String> = (0..200).map(|i| format!(r#""c{i}":1"#)).collect();
    let token = signer.token_of(r#"{"alg":"HS256"}"#, &format!("{{{good},{}}}", many.join(",")));
    assert_eq!(error(&gate, &token), Some(TokenError::Claims));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let (signer, gate) = hs256();
    let check = |claims: Value| error(&gate, &signer.token(&claims));
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    assert_eq!(check(without("iss")), Some(TokenError::Issuer));
    for other in
        ["https://id.example/", "HTTPS://ID.EXAMPLE", "https://id.example\u{0}", "", "https://id.ехample"]
    {
        assert_eq!(check(with("iss", json!(other))), Some(TokenError::Issuer), "{other}");
    }
    assert_eq!(check(without("aud")), Some(TokenError::Audience));
    for (audience, expected) in [
        (json!("shop"), None),
        (json!(["other", "shop"]), None),
        (json!("Shop"), Some(TokenError::Audience)),
        (json!("shop shop"), Some(TokenError::Audience)),
        (json!(""), Some(TokenError::Audience)),
        (json!([]), Some(TokenError::Audience)),
        (json!(["other"]), Some(TokenError::Audience)),
    ] {
        assert_eq!(check(with("aud", audience.clone())), expected, "{audience}");
    }
}

#[test]
fn times_are_checked_with_the_skew_at_both_ends() {
    let (signer, gate) = hs256();
    let clock = clock();
    let gate = gate.clock(clock.clock());
    let check = |claims: Value| error(&gate, &signer.token(&claims));
    // `exp` is the first moment at which the token is not valid (RFC 7519 section 4.1.4).
    for (exp, expected) in [
        (json!(NOW - 59), None),
        (json!(NOW - 60), Some(TokenError::Expired)),
        (json!(NOW as f64 - 59.5), None),
        (json!(NOW as f64 - 60.5), Some(TokenError::Expired)),
        (json!(0), Some(TokenError::Expired)),
        (json!(253_402_300_799_u64), None),
    ] {
        assert_eq!(check(with("exp", exp.clone())), expected, "{exp}");
    }
    for (nbf, expected) in [
        (json!(NOW + 60), None),
        (json!(NOW as f64 + 60.5), Some(TokenError::NotYetValid)),
        (json!(NOW + 61), Some(TokenError::NotYetValid)),
        (json!(0), None),
    ] {
        assert_eq!(check(with("nbf", nbf.clone())), expected, "{nbf}");
    }
    // The clock steps, in both directions.
    let token = signer.token(&with("nbf", json!(NOW)));
    assert_eq!(error(&gate, &token), None);
    clock.advance(Duration::from_secs(360));
    assert_eq!(error(&gate, &token), Some(TokenError::Expired));
    clock.step_back(Duration::from_secs(1));
    assert_eq!(error(&gate, &token), None);
    clock.step_back(Duration::from_secs(420));
    assert_eq!(error(&gate, &token), Some(TokenError::NotYetValid));
    // Before 1970, and with a skew that is no skew any more.
    clock.set(SystemTime::UNIX_EPOCH - Duration::from_secs(5));
    assert_eq!(error(&gate, &token), Some(TokenError::NotYetValid));
    let strict = gate.clone().skew(Duration::ZERO);
    clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 300));
    assert_eq!(error(&strict, &token), Some(TokenError::Expired));
    assert_eq!(error(&gate.skew(Duration::MAX), &token), None);
}

#[test]
fn required_claims_are_required() {
    let (signer, gate) = hs256();
    let mut claims = good();
    claims.as_object_mut().unwrap().remove("exp");
    assert_eq!(error(&gate, &signer.token(&claims)), Some(TokenError::Missing));
    assert_eq!(error(&gate.clone().danger_without_expiry(), &signer.token(&claims)), None);

    let gate = gate.require(["sub", "jti", "sub"]);
    assert_eq!(error(&gate, &signer.token(&good())), Some(TokenError::Missing));
    assert_eq!(error(&gate, &signer.token(&with("jti", json!(null)))), Some(TokenError::Missing));
    assert_eq!(error(&gate, &signer.token(&with("jti", json!("1")))), None);

    // However many there are: none is dropped.
    let names: Vec<String> = (0..80).map(|n| format!("c{n}")).collect();
    let (signer, gate) = hs256();
    let gate = gate.require(names.iter().map(String::as_str));
    let mut claims = good();
    claims.as_object_mut().unwrap().extend(names.iter().map(|name| (name.clone(), json!(1))));
    assert_eq!(error(&gate, &signer.token(&claims)), None);
    for gone in ["c0", "c70", "c79"] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(gone);
        assert_eq!(error(&gate, &signer.token(&claims)), Some(TokenError::Missing), "{gone}");
    }
}

#[test]
fn the_principal_is_who_the_claims_say() {
    let (signer, gate) = hs256();
    let principal = |gate: &Jwt, claims: Value| gate.verify(&signer.token(&claims)).unwrap().0;
    let gate = gate.named("customers");
    let alice = principal(&gate, good());
    assert_eq!((alice.provider(), alice.issuer(), alice.subject()), ("customers", ISSUER, "alice"));
    assert_eq!(alice.expires(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 300)));
    assert_eq!(alice.claim("aud").as_deref(), Some("shop"));
    assert_eq!(principal(&gate, with("sub", json!("\u{1F600}\n\""))).subject(), "\u{1F600}\n\"");

    for (name, value, scopes) in [
        ("scope", json!("orders.read  orders.write"), &["orders.read", "orders.write"][..]),
        ("scp", json!(["orders.read", "orders.write"]), &["orders.read", "orders.write"]),
        ("scope", json!(["a"]), &["a"]),
        ("scp", json!("a\u{62} c"), &["ab", "c"]),
        ("scope", json!(""), &[]),
    ] {
        let principal = principal(&gate, with(name, value));
        assert_eq!(principal.scopes().collect::<Vec<_>>(), scopes);
    }
    let mut both = with("scope", json!("a"));
    both["scp"] = json!("b");
    assert!(!principal(&gate, both).has_scope("b"));

    assert_eq!(principal(&gate, with("roles", json!("admin"))).roles().collect::<Vec<_>>(), ["admin"]);
    assert_eq!(
        principal(&gate, with("roles", json!(["a", "b c"]))).roles().collect::<Vec<_>>(),
        ["a", "b c"]
    );
    assert_eq!(principal(&gate, with("plan", json!("gold"))).plan(), None, "nobody said where it is");
    let named = gate.clone().plan_claim("plan");
    assert_eq!(principal(&named, with("plan", json!("gold"))).plan(), Some("gold"));
    assert_eq!(principal(&named, with("plan", json!(""))).plan(), None);
    assert_eq!(principal(&named, with("tier", json!("gold"))).plan(), None);
    let nested = gate.clone().plan_claim("/billing/tier");
    assert_eq!(principal(&nested, with("billing", json!({ "tier": "free" }))).plan(), Some("free"));

    let nested = gate.roles_at("/realm_access/roles");
    let claims = with("realm_access", json!({ "roles": ["staff"] }));
    assert!(principal(&nested, claims).has_role("staff"));
    assert_eq!(principal(&nested, with("roles", json!(["staff"]))).roles().count(), 0);
    assert_eq!(principal(&nested, with("realm_access", json!("roles"))).roles().count(), 0);
}

#[test]
fn claims_are_found_by_name_and_pointer() {
    let (signer, gate) = hs256();
    let mut claims = with("https://shop.example/tier", json!(3));
    claims["a/b"] = json!({ "c~d": [10, { "e": "deep" }], "": "empty" });
    let (_, found) = gate.verify(&signer.token(&claims)).unwrap();
    for (pointer, value) in [
        ("sub", Some(json!("alice"))),
        ("/sub", Some(json!("alice"))),
        ("https://shop.example/tier", Some(json!(3))),
        ("/a~1b/c~0d/0", Some(json!(10))),
        ("/a~1b/c~0d/1/e", Some(json!("deep"))),
        ("/a~1b/", Some(json!("empty"))),
        ("/a~1b/c~0d/2", None),
        ("/a~1b/c~0d/x", None),
        ("/a~1b/c~0d/-1", None),
        ("/sub/alice", None),
        ("/", None),
        ("", None),
        ("missing", None),
        ("a~1b", None),
    ] {
        assert_eq!(found.claim(pointer), value, "{pointer}");
    }

    #[derive(serde::Deserialize)]
    struct Shopper<'c> {
        sub: &'c str,
        exp: u64,
    }
    let shopper: Shopper<'_> = found.deserialize().unwrap();
    assert_eq!((shopper.sub, shopper.exp), ("alice", NOW + 300));
    assert!(found.deserialize::<Vec<u8>>().is_err());
    assert_eq!(serde_json::from_slice::<Value>(found.as_json()).unwrap(), claims);
}
