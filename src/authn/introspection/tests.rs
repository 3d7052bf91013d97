use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, Request, StatusCode, header};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

use super::{
    asking::Asking,
    verdict::{Expected, Verdict},
    *,
};
use crate::{
    authn::{
        Authenticator, Credential, Location, Providers,
        jwt::{
            Claims, Jwt, Key, KeySet, Pointer, TokenError,
            binding::Bound,
            rules::{Audiences, Rules},
        },
        oauth::{
            Client,
            stub::{Manner, Stub},
        },
    },
    body::Body,
    context::Context,
    head::Head,
    identity::{CallerToken, ClientAddr, PeerIdentity, Principal},
    reject::{Protocol, Reason, Rejection},
    time::ManualClock,
};

const SECOND: Duration = Duration::from_secs(1);

fn now() -> u64 {
    1_800_000_000
}

fn hands() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(now()))
}

fn active() -> Value {
    json!({
        "active": true, "iss": "https://id.example", "sub": "ada", "aud": ["shop"], "scope": "read write",
        "client_id": "web", "exp": now() + 300, "roles": ["buyer"],
    })
}

fn with(name: &str, value: Value) -> String {
    let mut answer = active();
    answer[name] = value;
    answer.to_string()
}

fn builder(stub: &Stub) -> IntrospectionBuilder {
    Introspection::builder(stub.endpoint(Client::secret_basic("gateway", "hush")))
        .named("customers")
        .issuer("https://id.example")
        .audiences(["shop"])
        .clock(hands().clock())
}

/// What a gate of `providers` makes of a request with this token.
async fn call(providers: &Providers, token: &str) -> Result<Request<Body>, Rejection> {
    call_from(providers, token, 1).await
}

/// The same, from the address 192.0.2.n.
async fn call_from(providers: &Providers, token: &str, n: u8) -> Result<Request<Body>, Rejection> {
    let (told, service) = tokio::sync::mpsc::channel(1);
    let inner = service_fn(move |request: Request<Body>| {
        told.try_send(request).unwrap();
        async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())) }
    });
    let mut seen = service;
    let request = Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ClientAddr::new([192, 0, 2, n].into(), None));
    let response = providers.clone().layer().layer(inner).oneshot(request).await.unwrap();
    match response.extensions().get::<Rejection>() {
        Some(rejection) => Err(rejection.clone()),
        None => Ok(seen.recv().await.unwrap()),
    }
}

async fn ask(introspection: &Introspection, token: &str) -> Result<Request<Body>, Rejection> {
    call(&Providers::new().with(introspection.clone()), token).await
}

async fn ask_from(introspection: &Introspection, token: &str, n: u8) -> Result<Request<Body>, Rejection> {
    call_from(&Providers::new().with(introspection.clone()), token, n).await
}

fn challenge(rejection: &Rejection) -> &str {
    rejection.headers()[header::WWW_AUTHENTICATE].to_str().unwrap()
}

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

#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_no_longer_than_the_token_lives() {
    for (exp, remembered) in [
        (Some(300), Introspection::REMEMBERED),
        (None, Introspection::REMEMBERED),
        (Some(20), 20 * SECOND),
        (Some(0), Duration::ZERO),
        (Some(-30), Duration::ZERO),
    ] {
        let mut answer = active();
        match exp {
            Some(exp) => answer["exp"] = json!(now() as i64 + exp),
            None => drop(answer.as_object_mut().unwrap().remove("exp")),
        }
        let stub = Stub::says(answer.to_string());
        let opaque = builder(&stub).build();
        assert!(ask(&opaque, "abc").await.is_ok(), "{exp:?}");
        let mut calls = 1;
        if remembered > SECOND {
            advance(remembered - SECOND).await;
            assert!(ask(&opaque, "abc").await.is_ok());
            assert_eq!(stub.calls(), 1, "{exp:?}");
            advance(SECOND).await;
        }
        calls += 1;
        assert!(ask(&opaque, "abc").await.is_ok());
        assert_eq!(stub.calls(), calls, "{exp:?}");
    }
    // Who says that more be remembered is not heard.
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).remember(Duration::from_secs(3600)).build();
    ask(&opaque, "abc").await.unwrap();
    advance(Introspection::REMEMBERED).await;
    ask(&opaque, "abc").await.unwrap();
    assert_eq!(stub.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_held_to_the_time_of_each_request() {
    let hands = hands();
    let stub = Stub::says(with("exp", json!(now() + 30)));
    let opaque = builder(&stub).clock(hands.clock()).skew(Duration::ZERO).build();
    ask(&opaque, "abc").await.unwrap();
    // The wall clock steps, and the cache's does not.
    hands.advance(30 * SECOND);
    let refused = ask(&opaque, "abc").await.unwrap_err();
    assert_eq!(refused.detail_text(), Some("the token has expired"));
    assert_eq!((stub.calls(), opaque.handle().hits()), (1, 1));
    let stub = Stub::says(with("nbf", json!(now())));
    let opaque = builder(&stub).clock(hands.clock()).skew(Duration::ZERO).build();
    ask(&opaque, "abc").await.unwrap();
    hands.step_back(40 * SECOND);
    assert_eq!(ask(&opaque, "abc").await.unwrap_err().detail_text(), Some("the token is not valid yet"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_the_same_are_one_call() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).build();
    let calls = (0..1_000).map(|_| {
        let opaque = opaque.clone();
        tokio::spawn(async move { ask(&opaque, "abc").await.is_ok() })
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        assert!(call.await.unwrap());
    }
    assert_eq!((stub.calls(), opaque.handle().active()), (1, 1));
    assert!(ask(&opaque, "abd").await.is_ok());
    assert_eq!(stub.calls(), 2, "another token is another call");
}

/// Who leaves takes nobody's answer along: neither of those who wait with it, nor of the next.
#[tokio::test(start_paused = true)]
async fn who_leaves_takes_no_answer_with_it() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).build();
    // Every await before the answer: polled so often, and then dropped.
    for polls in 1..4 {
        let token = format!("token-{polls}");
        let mut first = tokio_test::task::spawn(ask(&opaque, &token));
        for _ in 0..polls {
            assert!(first.poll().is_pending());
            tokio::task::yield_now().await;
        }
        let mut second = tokio_test::task::spawn(ask(&opaque, &token));
        assert!(second.poll().is_pending());
        drop(first);
        let answer = tokio::time::timeout(2 * SECOND, second).await.unwrap();
        assert!(answer.is_ok());
        // The last to leave leaves the answer to the next.
        let alone = format!("alone-{polls}");
        let mut leaves = tokio_test::task::spawn(ask(&opaque, &alone));
        assert!(leaves.poll().is_pending());
        drop(leaves);
        tokio::time::sleep(2 * SECOND).await;
        let before = stub.calls();
        assert!(ask(&opaque, &alone).await.is_ok());
        assert_eq!(stub.calls(), before);
    }
    assert_eq!(stub.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn while_the_breaker_is_open_nobody_asks() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    ask(&opaque, "good").await.unwrap();
    stub.behave(Manner::Says(503, String::new()));
    for n in 0..20 {
        let refused = ask_from(&opaque, &format!("unknown-{n}"), n).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::ProviderUnavailable);
        assert!(refused.retry_delay().unwrap() > Duration::ZERO);
    }
    let handle = opaque.handle();
    assert_eq!((stub.calls(), handle.failed(), handle.unasked()), (6, 5, 15));
    assert!(ask(&opaque, "good").await.is_ok(), "who is known does not mind");
    stub.behave(Manner::Says(200, active().to_string()));
    advance(2 * SECOND).await;
    assert!(ask(&opaque, "unknown-1").await.is_ok());
    assert!(ask(&opaque, "unknown-2").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_strangers_odd_tokens_keep_nobody_from_asking() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    for status in [400, 403, 404, 413, 414, 422, 431, 500, 502, 503, 504] {
        stub.behave(Manner::Says(status, String::new()));
        for n in 0..100 {
            let refused = ask_from(&opaque, &format!("odd-{status}-{n}"), 66).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::ProviderUnavailable, "{status}");
        }
        stub.behave(Manner::Says(200, active().to_string()));
        assert!(ask(&opaque, &format!("good-{status}")).await.is_ok(), "{status}");
    }
    assert_eq!(opaque.handle().unasked(), 0);
    // One that cannot be told from all others' is remembered no longer than it has to be.
    stub.behave(Manner::Says(500, String::new()));
    let calls = stub.calls();
    for _ in 0..100 {
        assert!(ask(&opaque, "the-same").await.is_err());
    }
    assert_eq!(stub.calls(), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_refuses_everybody_is_left_alone() {
    for status in [403, 404, 500] {
        let stub = Stub::says("");
        stub.behave(Manner::Says(status, String::new()));
        let opaque = builder(&stub).build();
        for n in 0..50 {
            assert!(ask_from(&opaque, &format!("token-{n}"), n).await.is_err());
        }
        assert_eq!((stub.calls(), opaque.handle().unasked()), (5, 45), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_all_the_calls() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).max_calls(8).max_calls_each(3).build();
    let begin = |token: String, n: u8| {
        let opaque = opaque.clone();
        tokio::spawn(async move { ask_from(&opaque, &token, n).await })
    };
    let flood: Vec<_> = (0..100).map(|token| begin(format!("made-up-{token}"), 66)).collect();
    tokio::task::yield_now().await;
    let user = begin("users".into(), 7);
    // Who asks what is being asked makes no call.
    let same = begin("made-up-0".into(), 66);
    let mut refused = Vec::new();
    for call in flood {
        refused.extend(call.await.unwrap().err());
    }
    assert_eq!((refused.len(), stub.calls()), (97, 4));
    for refused in refused {
        assert_eq!(refused.reason(), Reason::RateLimited);
        let http = refused.clone().into_response(Protocol::Http);
        assert_eq!(
            (http.status().as_u16(), &http.headers()[header::RETRY_AFTER]),
            (429, &"1".parse().unwrap())
        );
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "8");
    }
    assert!(user.await.unwrap().is_ok() && same.await.unwrap().is_ok());
    // Places come back with the answers.
    stub.behave(Manner::Says(200, active().to_string()));
    for n in 0..10 {
        assert!(ask_from(&opaque, &format!("later-{n}"), 66).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_memory_are_bounded() {
    let stub = Stub::says("");
    stub.behave(Manner::After(SECOND, active().to_string()));
    let opaque = builder(&stub).max_calls(3).max_entries(64).memory(1 << 20).build();
    let flood: Vec<_> = (0..10)
        .map(|n| {
            let opaque = opaque.clone();
            tokio::spawn(async move { ask(&opaque, &format!("token-{n}")).await.map_err(|r| r.reason()) })
        })
        .collect();
    let mut served = 0;
    for call in flood {
        match call.await.unwrap() {
            Ok(_) => served += 1,
            Err(reason) => assert_eq!(reason, Reason::ProviderUnavailable),
        }
    }
    assert_eq!((served, stub.calls()), (3, 3));
    // Strangers' tokens do not drive out those that are good.
    stub.behave(Manner::Says(200, active().to_string()));
    ask(&opaque, "good").await.unwrap();
    stub.behave(Manner::Says(200, r#"{"active":false}"#.into()));
    for n in 0..500 {
        assert!(ask(&opaque, &format!("made-up-{n}")).await.is_err());
    }
    let calls = stub.calls();
    assert!(ask(&opaque, "good").await.is_ok());
    assert_eq!(stub.calls(), calls);
    // Nothing is done about a token that is too large.
    let refused = ask(&opaque, &"x".repeat(Introspection::MAX_SIZE + 1)).await.unwrap_err();
    assert_eq!((refused.detail_text(), stub.calls()), (Some("the token is too large"), calls));
}

const JWT: &str = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUifQ.c2ln";

#[tokio::test(start_paused = true)]
async fn which_tokens_are_asked_about_is_told_by_their_shape() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    let refused = ask(&opaque, JWT).await.unwrap_err();
    assert_eq!(challenge(&refused), r#"Bearer realm="api", error="invalid_token""#);
    assert_eq!((refused.reason(), stub.calls()), (Reason::InvalidCredentials, 0));
    for opaque_token in ["a.b", "a.b.c.d", "a..c", ".b.c", "a.b.", "a.b.c=", "a.b.~"] {
        assert!(ask(&opaque, opaque_token).await.is_ok(), "{opaque_token}");
    }
    let all = builder(&stub).takes(Takes::All).build();
    assert!(ask(&all, JWT).await.is_ok(), "it says that it is of this issuer");
    let before = stub.calls();
    let other = builder(&stub).issuer("https://other.example").takes(Takes::All).build();
    for foreign in [JWT, "eyJhbGciOiJub25lIn0.e30.c2ln", "a.b.c"] {
        assert_eq!(ask(&other, foreign).await.unwrap_err().reason(), Reason::InvalidCredentials);
    }
    assert_eq!(stub.calls(), before, "what another made is not shown");
    let any = Introspection::builder(stub.endpoint(Client::public("gateway"))).takes(Takes::All);
    assert!(ask(&any.audiences(["shop"]).clock(hands().clock()).build(), "a.b.c").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_asked_about_is_no_free_seat() {
    let stub = Stub::says(active().to_string());
    let jwt = || Jwt::new(KeySet::new([Key::secret(&[7; 32]).unwrap()]).unwrap());
    let others = || builder(&stub).issuer("https://other.example").takes(Takes::All).build();
    for alone in [builder(&stub).build(), others()] {
        let refused = call(&Providers::new().with(alone).optional(), JWT).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidCredentials);
        assert_eq!(challenge(&refused), r#"Bearer realm="api", error="invalid_token""#);
    }
    // What the other provider says of it tells more, wherever it stands.
    let alone = call(&Providers::new().with(jwt()), JWT).await.unwrap_err();
    for list in [Providers::new().with(others()).with(jwt()), Providers::new().with(jwt()).with(others())] {
        let refused = call(&list.optional(), JWT).await.unwrap_err();
        assert_eq!(refused.detail_text(), alone.detail_text());
        assert_ne!(refused.detail_text(), Some(TokenError::Issuer.to_string().as_str()));
    }
    // Nothing shown is nothing shown.
    let mut request = Request::get("/").body(()).unwrap();
    assert!(matches!(others().authenticate(&mut Head::of(&mut request)), Credential::Absent));
    assert_eq!(stub.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_one_of_several_providers() {
    let stub = Stub::says(active().to_string());
    let jwt = || Jwt::new(KeySet::new([Key::secret(&[7; 32]).unwrap()]).unwrap());
    for providers in [
        Providers::new().with(jwt()).with(builder(&stub).build()),
        Providers::new().with(builder(&stub).build()).with(jwt()),
    ] {
        let request = call(&providers, "opaque").await.unwrap();
        assert_eq!(request.extensions().get::<Principal>().unwrap().provider(), "customers");
        let refused = call(&providers, JWT).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidCredentials);
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

#[tokio::test]
async fn two_tokens_are_one_too_many() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).locations([Location::bearer(), Location::cookie("token")]).build();
    let mut request = Request::get("/")
        .header(header::AUTHORIZATION, "Bearer abc")
        .header(header::COOKIE, "token=abc")
        .body(())
        .unwrap();
    let Credential::Invalid(refused) = opaque.authenticate(&mut Head::of(&mut request)) else {
        panic!("taken")
    };
    assert_eq!(challenge(&refused), r#"Bearer realm="api", error="invalid_request""#);
    assert_eq!((refused.reason(), stub.calls()), (Reason::InvalidCredentials, 0));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_token_and_no_claim() {
    let stub = Stub::says(with("email", json!("hush@shop.example")));
    let opaque = builder(&stub).build();
    let request = ask(&opaque, "hush").await.unwrap();
    let claims: &Claims = request.extensions().get().unwrap();
    let shown = format!("{opaque:?} {:?} {claims:?} {:?}", builder(&stub), opaque.handle());
    assert!(!shown.contains("hush"), "{shown}");
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

#[test]
fn a_token_is_known_by_its_print_alone() {
    let print = Asking::print("abc");
    assert_ne!(print, Asking::print("abd"));
    // FIPS 180-2, appendix B.1.
    assert_eq!(print[..4], [0xba, 0x78, 0x16, 0xbf]);
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
async fn the_handle_is_of_all_clones() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    ask(&opaque.clone(), "abc").await.unwrap();
    ask(&opaque, "abc").await.unwrap();
    let handle = opaque.handle();
    assert_eq!((handle.active(), handle.hits(), handle.calls()), (1, 1, 1));
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
