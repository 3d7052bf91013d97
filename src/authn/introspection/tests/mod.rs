mod answers;
mod bounds;
mod remembered;

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

#[tokio::test(start_paused = true)]
async fn the_handle_is_of_all_clones() {
    let stub = Stub::says(active().to_string());
    let opaque = builder(&stub).build();
    ask(&opaque.clone(), "abc").await.unwrap();
    ask(&opaque, "abc").await.unwrap();
    let handle = opaque.handle();
    assert_eq!((handle.active(), handle.hits(), handle.calls()), (1, 1, 1));
}
