//! Who a token is, by what the provider says.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_active_token_is_its_holder_and_does_not_go_on() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).claim_header(HeaderName::from_static("x-user"), "sub").build();
    let request = ask(&opaque, "2YotnFZFEjr1zCsicMWpAA").await.unwrap();
    let principal: &Principal = request.extensions().get().unwrap();
    assert_eq!(*principal, Principal::new("customers", "https://id.example", "ada"));
    assert!(principal.has_scope("write") && principal.has_role("buyer"));
    assert_eq!(principal.claim("client_id").as_deref(), Some("web"));
    assert!(request.extensions().get::<Claims>().is_some());
    assert_eq!(request.headers()["x-user"], "ada");
    assert!(!request.headers().contains_key(header::AUTHORIZATION));
    assert!(request.extensions().get::<CallerToken>().is_none());
    let form = stub.last().form;
    assert_eq!(form["token"], "2YotnFZFEjr1zCsicMWpAA");
    assert_eq!(form["token_type_hint"], "access_token");

    let forwards = Providers::new().with(builder(&stub).forward().build()).keep_token();
    let request = call(&forwards, "abc").await.unwrap();
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer abc");
    assert_eq!(request.extensions().get::<CallerToken>().unwrap().reveal(), "abc");
    assert_eq!(Context::of(request.extensions()).caller_token().unwrap().reveal(), "abc");
}

#[tokio::test(start_paused = true)]
async fn what_the_provider_does_not_vouch_for_is_401_with_a_challenge() {
    for (answer, why) in [
        (json!({ "active": false }).to_string(), TokenError::Inactive),
        (json!({ "active": false, "exp": now() + 9, "sub": "ada" }).to_string(), TokenError::Inactive),
        (with("iss", json!("https://evil.example")), TokenError::Issuer),
        (with("iss", Value::Null), TokenError::Claims),
        (with("aud", json!("other")), TokenError::Audience),
        (with("aud", json!([])), TokenError::Audience),
        (with("exp", json!(now() - 61)), TokenError::Expired),
        (with("nbf", json!(now() + 61)), TokenError::NotYetValid),
        (
            json!({ "active": true, "aud": "shop", "iss": "https://id.example" }).to_string(),
            TokenError::Missing,
        ),
    ] {
        let stub = Stub::says(answer.clone());
        let opaque = builder(&stub).require(["sub"]).build();
        let refused = ask(&opaque, "abc").await.unwrap_err();
        if why == TokenError::Claims {
            // A null where a string belongs: the provider's own words are odd.
            assert_eq!(refused.reason(), Reason::ProviderUnavailable, "{answer}");
            continue;
        }
        assert_eq!(refused.reason(), Reason::InvalidCredentials, "{answer}");
        assert_eq!(refused.detail_text(), Some(why.to_string().as_str()), "{answer}");
        assert_eq!(challenge(&refused), r#"Bearer realm="api", error="invalid_token""#);
        assert_eq!(refused.clone().into_response(Protocol::Http).status(), 401);
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "16");
        // It is remembered for a while, and the provider is not bothered again.
        assert!(ask(&opaque, "abc").await.is_err());
        assert_eq!((stub.calls(), opaque.handle().inactive(), opaque.handle().hits()), (1, 1, 1), "{answer}");
        advance(Introspection::REFUSED).await;
        assert!(ask(&opaque, "abc").await.is_err());
        assert_eq!(stub.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_tell_is_503_and_never_401() {
    for manner in [
        Manner::Says(500, active().to_string()),
        Manner::Says(401, r#"{"active":true}"#.into()),
        Manner::Says(400, r#"{"active":true}"#.into()),
        Manner::Says(204, String::new()),
        Manner::Says(302, String::new()),
        Manner::Says(200, String::new()),
        Manner::Says(200, "<html>".into()),
        Manner::Says(200, "{}".into()),
        Manner::Says(200, "[true]".into()),
        Manner::Says(200, r#"{"active":"true"}"#.into()),
        Manner::Says(200, r#"{"active":1}"#.into()),
        Manner::Says(200, r#"{"active":null}"#.into()),
        Manner::Says(200, r#"{"active":false,"active":true}"#.into()),
        Manner::Says(200, r#"{"active":true} true"#.into()),
        Manner::Says(200, with("exp", json!("soon"))),
        Manner::Says(200, with("sub", json!(7))),
        Manner::Never,
        Manner::Fails,
        Manner::Floods,
    ] {
        let stub = Stub::says("");
        stub.behave(manner.clone());
        let opaque = builder(&stub).build();
        let refused = ask(&opaque, "abc").await.unwrap_err();
        assert_eq!(refused.reason(), Reason::ProviderUnavailable, "{manner:?}");
        assert!(refused.headers().is_empty(), "{manner:?}");
        let http = refused.clone().into_response(Protocol::Http);
        assert_eq!(
            (http.status().as_u16(), &http.headers()[header::RETRY_AFTER]),
            (503, &"2".parse().unwrap())
        );
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "14");
        assert_eq!((opaque.handle().failed(), opaque.handle().calls()), (1, 1));
        // What was said of this token counts for two seconds, and nothing does that was not said of it.
        let of_it = !matches!(manner, Manner::Says(401, _) | Manner::Fails);
        stub.behave(Manner::Says(200, active().to_string()));
        let again = ask(&opaque, "abc").await.map_err(|refused| refused.reason());
        assert_eq!(again.err(), of_it.then_some(Reason::ProviderUnavailable), "{manner:?}");
        assert!(ask(&opaque, "abd").await.is_ok(), "{manner:?}");
        advance(2 * SECOND).await;
        assert!(ask(&opaque, "abc").await.is_ok(), "{manner:?}");
        assert_eq!(stub.calls(), 3, "{manner:?}");
    }
}

/// RFC 8705 section 3.2: asked or remembered, a bound token is its sender's alone.
#[tokio::test(start_paused = true)]
async fn a_bound_token_is_its_senders_alone() {
    let print = [7; 32];
    let thumbprint = URL_SAFE_NO_PAD.encode(print);
    let stub = Stub::says(with("cnf", json!({ "x5t#S256": thumbprint })));
    let bound = builder(&stub).build();
    let from = async |opaque: &Introspection, peer: Option<[u8; 32]>| {
        let layer = opaque.clone().layer();
        let service = layer.layer(service_fn(|_: Request<Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
        }));
        let request = Request::get("/").header(header::AUTHORIZATION, "Bearer abc");
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().extend(
            peer.map(|peer| {
                let mut one = http::Extensions::new();
                one.insert(PeerIdentity::new(peer));
                one
            })
            .unwrap_or_default(),
        );
        service.oneshot(request).await.unwrap().status().as_u16()
    };
    for (peer, status) in
        [(None, 401), (Some(print), 200), (Some([8; 32]), 401), (None, 401), (Some(print), 200)]
    {
        assert_eq!(from(&bound, peer).await, status, "{peer:?}");
    }
    assert_eq!(stub.calls(), 1);
    stub.behave(Manner::Says(200, active().to_string()));
    let must = builder(&stub).require_certificate().build();
    assert_eq!(from(&must, Some(print)).await, 401, "it is bound to nobody");
}

fn expected() -> Expected {
    let rules = Rules {
        provider: "p".into(),
        issuer: Some(Arc::from("https://id.example")),
        audiences: Audiences::These(vec!["shop".into()]),
        required: Vec::new(),
        roles: Pointer::from("roles"),
        scopes: None,
        plan: None,
        skew: Duration::MAX,
    };
    Expected { rules, claim_headers: Vec::new(), bound: Bound::default(), skew: Jwt::SKEW }
}

proptest! {
    #[test]
    fn no_answer_panics(body: Vec<u8>, status in 100_u16..600) {
        let status = StatusCode::from_u16(status).unwrap();
        let _ = Verdict::read(&expected(), status, &body);
    }

    /// Whatever else is changed in an answer, it lets in only while it says so.
    #[test]
    fn only_active_true_lets_in(at in 0..200_usize, byte: u8) {
        let mut body = active().to_string().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        if let Ok(verdict @ Verdict::Good { .. }) = Verdict::read(&expected(), StatusCode::OK, &body) {
            let said: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(&said["active"], &json!(true));
            prop_assert_eq!(&said["iss"], "https://id.example");
            prop_assert!(verdict.lives(hands().now(), Introspection::REMEMBERED, SECOND) <= Introspection::REMEMBERED);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_where_it_is_said_to_be() {
    let billing = || with("billing", json!({ "tier": "gold" }));
    for (answer, pointer, plan) in [
        (with("plan", json!("gold")), None, None),
        (with("plan", json!("gold")), Some("plan"), Some("gold")),
        (with("plan", json!("")), Some("plan"), None),
        (with("tier", json!("gold")), Some("plan"), None),
        (billing(), Some("/billing/tier"), Some("gold")),
        (billing(), Some("/billing/plan"), None),
    ] {
        let stub = Stub::says(answer.clone());
        let asks = pointer.into_iter().fold(builder(&stub), IntrospectionBuilder::plan_claim).build();
        let request = ask(&asks, "abc").await.unwrap();
        let principal: &Principal = request.extensions().get().unwrap();
        assert_eq!(principal.plan(), plan, "{answer} {pointer:?}");
    }
}
