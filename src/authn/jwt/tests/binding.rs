//! Tokens that are bound to their sender.

use http::{Request, header};

use super::*;
use crate::{
    gate::Gate as _,
    head::Head,
    identity::PeerIdentity,
    reject::{Answer, Protocol, Rejection},
};

const OWNER: [u8; 32] = [7; 32];

fn bound(signer: &Signer, to: &[u8]) -> String {
    signer.token(&with("cnf", json!({ "x5t#S256": b64(to) })))
}

/// What a gate says to a request with this token that comes with the certificate of this fingerprint.
fn call(jwt: &Jwt, token: &str, certificate: Option<[u8; 32]>) -> Result<(), Rejection> {
    let mut request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(print) = certificate {
        request = request.extension(PeerIdentity::new(print));
    }
    let mut request = request.body(()).unwrap();
    jwt.check(&mut Head::of(&mut request)).map_err(|answer| match answer {
        Answer::Refuse(rejection) => rejection,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_bound_token_is_valid_with_its_certificate_only() {
    let signer = Signer::new(Algorithm::Es256);
    let jwt = jwt(&signer);
    let token = bound(&signer, &OWNER);
    let mut near = OWNER;
    near[31] ^= 1;
    // The second time it is remembered.
    for _ in 0..2 {
        for other in [None, Some([8; 32]), Some(near), Some([0; 32])] {
            let refused = call(&jwt, &token, other).unwrap_err();
            assert_eq!(refused.detail_text(), Some("the token is bound to another sender"));
            let http = refused.clone().into_response(Protocol::Http);
            assert_eq!(http.status().as_u16(), 401);
            assert_eq!(
                http.headers()[header::WWW_AUTHENTICATE],
                r#"Bearer realm="api", error="invalid_token""#
            );
            assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
        }
        assert!(call(&jwt, &token, Some(OWNER)).is_ok());
    }
    // One that is bound to nobody is anybody's, unless that is not enough.
    let bearer = signer.token(&good());
    assert!(call(&jwt, &bearer, None).is_ok() && call(&jwt, &bearer, Some(OWNER)).is_ok());
    let strict = jwt.require_certificate();
    assert!(call(&strict, &token, Some(OWNER)).is_ok());
    for certificate in [None, Some(OWNER)] {
        let refused = call(&strict, &bearer, certificate).unwrap_err();
        assert_eq!(refused.detail_text(), Some("the token is bound to no sender"));
        assert_eq!(refused.into_response(Protocol::Http).status().as_u16(), 401);
    }
}

#[test]
fn what_a_binding_says_is_read_strictly() {
    let signer = Signer::new(Algorithm::Hs256);
    let jwt = jwt(&signer);
    let owner = PeerIdentity::new(OWNER);
    let check = |jwt: &Jwt, cnf: &str| {
        let payload = format!(r#"{{"iss":"{ISSUER}","aud":"shop","exp":{},"cnf":{cnf}}}"#, NOW + 9);
        jwt.verify_from(&signer.token_of(r#"{"alg":"HS256"}"#, &payload), &owner).err()
    };
    let print = b64(&OWNER);
    assert_eq!(check(&jwt, &format!(r#"{{"x5t#S256":"{print}"}}"#)), None);
    assert_eq!(check(&jwt, &format!(r#"{{"x5t\u0023S256":"{print}"}}"#)), None);
    for malformed in [
        "null".to_owned(),
        "7".into(),
        "[]".into(),
        format!("\"{print}\""),
        format!(r#"[{{"x5t#S256":"{print}"}}]"#),
        r#"{"x5t#S256":null}"#.into(),
        r#"{"x5t#S256":""}"#.into(),
        format!(r#"{{"x5t#S256":"{print}="}}"#),
        format!(r#"{{"x5t#S256":"{}"}}"#, &print[1..]),
        format!(r#"{{"x5t#S256":"{print}A"}}"#),
        format!(r#"{{"x5t#S256":"{print}{print}"}}"#),
        format!(r#"{{"x5t#S256":["{print}"]}}"#),
        format!(r#"{{"x5t#S256":"{print}","x5t#S256":"{print}"}}"#),
        format!(r#"{{"x5t#S256":"{print}","x5t\u0023S256":"{print}"}}"#),
    ] {
        assert_eq!(check(&jwt, &malformed), Some(TokenError::Claims), "{malformed}");
    }
    // What cannot be proven here is not taken for nothing.
    for unknown in [
        "{}".to_owned(),
        r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#.into(),
        format!(r#"{{"x5t":"{print}"}}"#),
        format!(r#"{{"X5T#S256":"{print}"}}"#),
        format!(r#"{{"x5t#S256":"{print}","jkt":"x"}}"#),
    ] {
        assert_eq!(check(&jwt, &unknown), Some(TokenError::Binding), "{unknown}");
        assert_eq!(check(&jwt.clone().danger_unknown_bindings(), &unknown), None, "{unknown}");
        assert_eq!(check(&jwt.clone().require_certificate(), &unknown), Some(TokenError::Binding));
    }
}
