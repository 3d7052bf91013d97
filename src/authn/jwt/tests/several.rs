//! Several issuers in one gate.

use super::*;
use crate::{
    authn::{Authenticator as _, Providers},
    gate::Gate as _,
    head::Head,
    identity::Principal,
};

const OTHER: &str = "https://login.example";

fn of(issuer: &str) -> Value {
    with("iss", json!(issuer))
}

#[test]
fn of_several_that_are_needed_together_the_first_tells_the_claims_too() {
    use crate::{
        authn::{Location, Together, jwt::Claims},
        gate::{AsyncGate as _, Check},
    };
    use http::{HeaderName, Request};

    let (user, device) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::Es256));
    let [x_device, x_user, x_tenant] = ["x-device", "x-user", "x-tenant"].map(HeaderName::from_static);
    let tells = |jwt: Jwt| jwt.claim_header(x_user.clone(), "sub").claim_header(x_tenant.clone(), "tenant");
    let of_device = jwt(&device).locations([Location::header(x_device)]);
    let gate = Providers::new().with(Together::new(tells(jwt(&user))).and(tells(of_device)));
    let mut admin = with("sub", json!("admin"));
    admin["tenant"] = json!("all");
    let mut request = Request::get("/")
        .header("authorization", format!("Bearer {}", user.token(&with("sub", json!("ada")))))
        .header("x-device", device.token(&admin))
        .body(())
        .unwrap();
    assert!(matches!(gate.check(&mut Head::of(&mut request)), Check::Now(Ok(()))));
    assert_eq!(request.extensions().get::<Principal>().unwrap().subject(), "ada");
    assert_eq!(request.headers()["x-user"], "ada");
    assert!(!request.headers().contains_key("x-tenant"), "the first has nothing to tell of it");
    let claims = request.extensions().get::<Claims>().unwrap();
    assert_eq!(claims.claim("sub"), Some(json!("ada")));
}

#[test]
fn the_issuer_is_chosen_by_iss_and_has_its_own_rules() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa));
    let strict = of_keys(KeySet::new([b.key()]).unwrap())
        .named("staff")
        .issuer(OTHER)
        .audiences(["admin"])
        .algorithms([Algorithm::EdDsa])
        .skew(Duration::ZERO)
        .require(["jti"])
        .scopes_at("/permissions")
        .claim_header(http::HeaderName::from_static("x-staff"), "sub");
    let jwt = jwt(&a).claim_header(http::HeaderName::from_static("x-user"), "sub").also(strict);

    let mut staff = of(OTHER);
    staff["aud"] = json!("admin");
    staff["jti"] = json!("1");
    staff["permissions"] = json!(["refund", "close"]);
    let staff = |name: &str, value: Value| {
        let mut claims = staff.clone();
        claims[name] = value;
        b.token(&claims)
    };
    let check = |token: String| {
        // The second time it is known.
        let first = jwt.verify(&token).map(|(principal, _)| principal);
        assert_eq!(first, jwt.verify(&token).map(|(principal, _)| principal));
        first
    };
    let customer = check(a.token(&good())).unwrap();
    assert_eq!((customer.provider(), customer.issuer()), ("jwt", ISSUER));
    let clerk = check(staff("sub", json!("bob"))).unwrap();
    assert_eq!(clerk, Principal::new("staff", OTHER, "bob"));
    assert!(clerk.has_scope("refund") && clerk.has_scope("close"));

    for (token, expected) in [
        (staff("aud", json!("shop")), TokenError::Audience),
        (staff("exp", json!(NOW - 1)), TokenError::Expired),
        (staff("jti", json!(null)), TokenError::Missing),
        (staff("permissions", json!({})), TokenError::Claims),
        (staff("iss", json!(ISSUER)), TokenError::Algorithm),
        (staff("iss", json!("https://nobody.example")), TokenError::Issuer),
        (staff("iss", json!(null)), TokenError::Claims),
        (staff("iss", json!([OTHER])), TokenError::Claims),
        (a.token(&of(OTHER)), TokenError::Algorithm),
        (b.token(&of(ISSUER)), TokenError::Algorithm),
    ] {
        assert_eq!(check(token).unwrap_err(), expected);
    }

    // Each tells its own header, and neither lets the other's come in.
    let asserted: Vec<_> = jwt.asserted_headers().iter().map(|name| name.as_str()).collect();
    assert_eq!(asserted, ["x-user", "x-staff"]);
    let mut request = http::Request::get("/")
        .header("authorization", format!("Bearer {}", staff("sub", json!("bob"))))
        .header("x-user", "root")
        .header("x_staff", "root")
        .body(())
        .unwrap();
    jwt.check(&mut Head::of(&mut request)).unwrap();
    assert_eq!(request.headers().len(), 1);
    assert_eq!(request.headers()["x-staff"], "bob");
}

#[test]
fn a_name_that_stands_twice_chooses_nobody() {
    let (a, b) = (Signer::new(Algorithm::Hs256), Signer::new(Algorithm::Hs256));
    let jwt = jwt(&a).also(jwt(&b).issuer(OTHER));
    for (first, second) in [(ISSUER, OTHER), (OTHER, ISSUER), (ISSUER, ISSUER)] {
        let payload = format!(r#"{{"iss":"{first}","aud":"shop","exp":{},"iss":"{second}"}}"#, NOW + 9);
        assert_eq!(error(&jwt, &a.token_of(r#"{"alg":"HS256"}"#, &payload)), Some(TokenError::Claims));
    }
    // What stands deeper is not the issuer.
    let nested = a.token(&with("act", json!({ "iss": OTHER })));
    assert_eq!(error(&jwt, &nested), None);
}

#[test]
fn a_gate_for_any_issuer_takes_what_those_before_it_do_not() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa));
    let any = of_keys(KeySet::new([b.key()]).unwrap()).named("any");
    let jwt = jwt(&a).also(any);
    assert_eq!(jwt.verify(&b.token(&of(OTHER))).unwrap().0.provider(), "any");
    assert_eq!(error(&jwt, &b.token(&good())), Some(TokenError::Algorithm));
}

/// Also in a list of providers, each asks for the signature of its own issuer's tokens only.
#[tokio::test]
async fn tokens_of_others_cost_no_signature() {
    // Keys that are not known would be asked for before any signature.
    let blind = of_keys(Keys::unknown()).issuer(OTHER);
    let signer = Signer::new(Algorithm::Es256);
    assert_eq!(error(&blind, &signer.token(&good())), Some(TokenError::Issuer));
    assert_eq!(error(&blind, &signer.token(&of(OTHER))), Some(TokenError::KeysUnknown));
    let bad_key = jwt(&Signer::new(Algorithm::Es256)).issuer(OTHER);
    assert_eq!(error(&bad_key, &signer.token(&good())), Some(TokenError::Issuer));
    assert_eq!(error(&bad_key, &signer.token(&of(OTHER))), Some(TokenError::Signature));

    // Who cannot verify anything now is no hindrance to the tokens of others.
    let layer = Providers::new().with(blind).with(jwt(&signer)).layer();
    let answer = async |token: String| {
        use tower::{Layer as _, ServiceExt as _};
        let inner = tower::service_fn(|_: http::Request<crate::body::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(crate::body::Body::empty()))
        });
        let request = http::Request::get("/").header("authorization", format!("Bearer {token}"));
        let request = request.body(crate::body::Body::empty()).unwrap();
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        let why = response.extensions().get::<crate::reject::Rejection>();
        let why = why.and_then(|rejection| rejection.detail_text()).unwrap_or_default().to_owned();
        (response.status().as_u16(), why)
    };
    let said = |status, why: &str| (status, why.to_owned());
    assert_eq!(answer(signer.token(&good())).await, said(200, ""));
    assert_eq!(answer(signer.token(&of(OTHER))).await.0, 503);
    let nobody = answer(signer.token(&of("https://nobody.example"))).await;
    assert_eq!(nobody, said(401, "the token has another issuer"));
    // The log tells what its own provider said, and not the other.
    let expired = answer(signer.token(&with("exp", json!(1)))).await;
    assert_eq!(expired, said(401, "the token has expired"));
}

#[test]
fn access_tokens_are_as_rfc_9068_has_them() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(&signer).access_tokens();
    // The example of section 2.2, at its time and place.
    let claims = json!({
        "iss": ISSUER, "sub": "5ba552d67", "aud": "shop", "exp": NOW + 300, "iat": NOW,
        "jti": "dbe39bf3a3ba4238a513f51d6e1691c4", "client_id": "s6BhdRkqt3", "scope": "openid profile reademail",
    });
    let check = |typ: Option<&str>, claims: &Value| {
        let header = typ.map_or(json!({ "alg": "ES256" }), |typ| json!({ "alg": "ES256", "typ": typ }));
        error(&jwt, &signer.token_of(&header.to_string(), &claims.to_string()))
    };
    for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
        assert_eq!(check(Some(typ), &claims), None);
    }
    for typ in [None, Some("JWT"), Some("id+jwt"), Some("at+jwt "), Some("jwt")] {
        assert_eq!(check(typ, &claims), Some(TokenError::Type), "{typ:?}");
    }
    for (name, expected) in [
        ("iss", TokenError::Issuer),
        ("exp", TokenError::Missing),
        ("aud", TokenError::Missing),
        ("sub", TokenError::Missing),
        ("client_id", TokenError::Missing),
        ("iat", TokenError::Missing),
        ("jti", TokenError::Missing),
    ] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(check(Some("at+jwt"), &claims), Some(expected), "{name}");
    }
}

#[test]
fn a_token_for_somebody_is_not_for_whoever_asks() {
    let signer = Signer::new(Algorithm::Es256);
    let nobody = Jwt::new(KeySet::new([signer.key()]).unwrap()).issuer(ISSUER).clock(clock().clock());
    let mut unaddressed = good();
    unaddressed.as_object_mut().unwrap().remove("aud");
    assert_eq!(error(&nobody, &signer.token(&good())), Some(TokenError::Audience));
    assert_eq!(error(&nobody, &signer.token(&with("aud", json!([])))), Some(TokenError::Audience));
    assert_eq!(error(&nobody, &signer.token(&unaddressed)), None);
    let anybody = nobody.danger_any_audience();
    for claims in [good(), with("aud", json!([])), unaddressed] {
        assert_eq!(error(&anybody, &signer.token(&claims)), None);
    }
}
