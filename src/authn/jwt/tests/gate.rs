//! The gate in a service: where tokens are found, what is answered, what goes on.

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::*;
use crate::{authn::Location, gate::GateLayer, identity::Principal};

type Seen = Request<&'static str>;

/// What came through the gate, or what was answered.
async fn call(
    layer: &GateLayer<Jwt>,
    request: http::request::Builder,
) -> Result<Seen, (StatusCode, HeaderMap)> {
    let (sender, mut seen) = tokio::sync::mpsc::channel(1);
    let service = layer.layer(service_fn(move |request: Seen| {
        let sender = sender.clone();
        async move {
            sender.send(request).await.unwrap();
            Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
        }
    }));
    let response = service.oneshot(request.body("body").unwrap()).await.unwrap();
    seen.try_recv().map_err(|_| (response.status(), response.headers().clone()))
}

fn hs256() -> (Signer, Jwt, String) {
    let signer = Signer::new(Algorithm::Hs256);
    let (jwt, token) = (jwt(&signer), signer.token(&good()));
    (signer, jwt, token)
}

fn get() -> http::request::Builder {
    Request::get("/orders?a=1&b=%20")
}

#[tokio::test]
async fn each_row_of_answers_as_http_and_as_grpc() {
    let (_, jwt, token) = hs256();
    let known = jwt.clone().layer();
    let unknown = Jwt::new(Keys::unknown()).layer();
    let bearer = |token: &str| format!("Bearer {token}");
    let large = "a".repeat(Jwt::MAX_SIZE + 1);
    for (layer, value, status, challenge, grpc) in [
        (&known, None, 401, Some(r#"Bearer realm="api""#), "16"),
        (&known, Some("Basic YTpi".into()), 401, Some(r#"Bearer realm="api""#), "16"),
        (&known, Some(bearer("x.y.z")), 401, Some(r#"Bearer realm="api", error="invalid_token""#), "16"),
        (&known, Some(bearer(&large)), 401, Some(r#"Bearer realm="api", error="invalid_token""#), "16"),
        (&known, Some("Bearer".into()), 401, Some(r#"Bearer realm="api", error="invalid_request""#), "16"),
        (&known, Some("bearer  ".into()), 401, Some(r#"Bearer realm="api", error="invalid_request""#), "16"),
        (
            &known,
            Some(format!("Bearer {token}, Bearer {token}")),
            401,
            Some(r#"Bearer realm="api", error="invalid_request""#),
            "16",
        ),
        (&unknown, Some(bearer(&token)), 503, None, "14"),
    ] {
        let request = || value.iter().fold(get(), |r, value| r.header(header::AUTHORIZATION, value));
        let (http, headers) = call(layer, request()).await.unwrap_err();
        assert_eq!(http, status, "{value:?}");
        assert_eq!(
            headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap()),
            challenge,
            "{value:?}"
        );
        assert_eq!(headers.contains_key(header::RETRY_AFTER), status == 503);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");

        let call = call(layer, request().header(header::CONTENT_TYPE, "application/grpc")).await;
        let (http, headers) = call.unwrap_err();
        assert_eq!((http, &headers["grpc-status"]), (StatusCode::OK, &grpc.parse().unwrap()), "{value:?}");
        assert_eq!(headers.get(header::WWW_AUTHENTICATE).map(|v| v.to_str().unwrap()), challenge);
    }
}

#[tokio::test]
async fn a_verified_request_carries_claims_and_principal_and_no_token() {
    let (_, jwt, token) = hs256();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR  "] {
        let request = get().header(header::AUTHORIZATION, format!("{scheme} {token}"));
        let seen = call(&jwt.clone().layer(), request).await.unwrap();
        assert_eq!(seen.extensions().get(), Some(&Principal::new("jwt", ISSUER, "alice")));
        assert_eq!(seen.extensions().get::<Claims>().unwrap().claim("sub"), Some(json!("alice")));
        assert!(seen.headers().is_empty());
    }
    let request = get().header(header::AUTHORIZATION, format!("Bearer {token}"));
    let seen = call(&jwt.forward().layer(), request).await.unwrap();
    assert_eq!(seen.headers()[header::AUTHORIZATION], format!("Bearer {token}"));
}

#[tokio::test]
async fn tokens_are_found_where_they_are_looked_for_and_taken_out() {
    let (_, jwt, token) = hs256();
    let name = HeaderName::from_static("x-token");
    let layer = jwt
        .locations([
            Location::bearer(),
            Location::header(name.clone()),
            Location::cookie("session"),
            Location::query("access_token"),
        ])
        .layer();

    let seen = call(&layer, get().header(&name, &token)).await.unwrap();
    assert!(seen.headers().is_empty());

    let request = get().header("cookie", format!("a=1; session={token}; b=2")).header("cookie", "c=3");
    let seen = call(&layer, request).await.unwrap();
    let cookies: Vec<_> = seen.headers().get_all(header::COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; b=2", "c=3"]);
    let seen = call(&layer, get().header("cookie", format!("session=\"{token}\""))).await.unwrap();
    assert!(seen.headers().is_empty());

    for (target, rest) in [
        (format!("/o?access_token={token}"), "/o"),
        (format!("/o?a=%20&access_token={token}&b"), "/o?a=%20&b"),
        (format!("/o?%61ccess%5Ftoken={}&b=+", token.replace('.', "%2E")), "/o?b=+"),
        (format!("https://shop.example/?access_token={token}"), "https://shop.example/"),
    ] {
        let seen = call(&layer, Request::get(&target)).await.unwrap();
        assert_eq!(seen.uri(), rest, "{target}");
    }
    // What only looks alike.
    for other in ["/o?Access_token=x", "/o?access_token2=x", "/o?xaccess_token=x"] {
        let (_, headers) = call(&layer, Request::get(other)).await.unwrap_err();
        assert_eq!(headers[header::WWW_AUTHENTICATE], r#"Bearer realm="api""#, "{other}");
    }
}

#[tokio::test]
async fn two_tokens_are_one_too_many() {
    let (_, jwt, token) = hs256();
    let layer = jwt.locations([Location::bearer(), Location::cookie("t"), Location::query("t")]).layer();
    let bearer = format!("Bearer {token}");
    let target = format!("/?t={token}");
    for request in [
        get().header("authorization", &bearer).header("authorization", &bearer),
        get().header("authorization", &bearer).header("authorization", "Basic YTpi"),
        get().header("authorization", &bearer).header("cookie", format!("t={token}")),
        get().header("cookie", format!("t={token}; t={token}")),
        get().header("cookie", format!("t={token}")).header("cookie", "t=x"),
        Request::get(&target).header("authorization", &bearer),
        Request::get(format!("{target}&t={token}")),
        Request::get(format!("{target}&%74={token}")),
        get().header("authorization", &bearer).header("cookie", "t="),
    ] {
        let (status, headers) = call(&layer, request).await.unwrap_err();
        assert_eq!(status, 401);
        assert_eq!(headers[header::WWW_AUTHENTICATE], r#"Bearer realm="api", error="invalid_request""#);
    }
}

#[tokio::test]
async fn chosen_claims_are_told_to_the_upstream_and_nobody_else_can() {
    let (signer, jwt, _) = hs256();
    let [user, tier] = ["x-user", "x-tier"].map(HeaderName::from_static);
    let jwt = jwt.claim_header(user.clone(), "sub").claim_header(tier, "/shop/tier");
    let layer = jwt.layer();
    let told = async |claims: Value, extra: &[(&str, &str)]| {
        let request = get().header(header::AUTHORIZATION, format!("Bearer {}", signer.token(&claims)));
        let seen = call(&layer, extra.iter().fold(request, |r, (name, value)| r.header(*name, *value)))
            .await
            .unwrap();
        seen.headers().clone()
    };
    let headers = told(with("shop", json!({ "tier": 3 })), &[]).await;
    assert_eq!((&headers["x-user"], &headers["x-tier"]), (&"alice".parse().unwrap(), &"3".parse().unwrap()));

    // Brought along in any spelling, with and without a claim of that name.
    for claims in [good(), with("shop", json!({ "tier": true }))] {
        let lies =
            [("x-user", "root"), ("X_User", "root"), ("x-tier", "9"), ("x_tier", "9"), ("x-user", "root2")];
        let headers = told(claims.clone(), &lies).await;
        let expected = 1 + usize::from(claims.get("shop").is_some());
        assert_eq!(headers.len(), expected, "{headers:?}");
        assert_eq!(headers["x-user"], "alice");
    }

    // What could be read in two ways, or break a header, is not told.
    for bad in [
        json!("al\r\nx-admin: 1"),
        json!("al\nice"),
        json!("al\u{0}ice"),
        json!("älice"),
        json!("al\u{7f}ice"),
        json!(" alice"),
        json!("alice\t"),
        json!(""),
    ] {
        let headers = told(with("sub", bad.clone()), &[("x-user", "root")]).await;
        assert!(headers.is_empty(), "{bad} {headers:?}");
    }
    for bad in [json!({ "a": 1 }), json!(["a"]), json!(null), json!(1.5)] {
        let headers = told(with("shop", json!({ "tier": bad })), &[]).await;
        assert_eq!(headers.len(), 1, "{headers:?}");
    }
    let headers = told(with("sub", json!("Alice von Wonderland")), &[]).await;
    assert_eq!(headers["x-user"], "Alice von Wonderland");
}

#[tokio::test]
async fn a_refused_request_changes_nothing_and_says_nothing() {
    let (signer, jwt, _) = hs256();
    let layer = jwt.realm("the \"shop\"\r\n\\ é").layer();
    let expired = signer.token(&with("exp", json!(1)));
    let request = get().header(header::AUTHORIZATION, format!("Bearer {expired}"));
    let service = layer.layer(service_fn(|_: Request<&'static str>| async {
        Ok::<_, std::convert::Infallible>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
    }));
    let response = service.oneshot(request.body("").unwrap()).await.unwrap();
    let challenge = &response.headers()[header::WWW_AUTHENTICATE];
    assert_eq!(challenge, r#"Bearer realm="the \"shop\"\\ ", error="invalid_token""#);
    // The log knows, the caller does not.
    let rejection = response.extensions().get::<crate::reject::Rejection>().unwrap();
    assert_eq!(rejection.detail_text(), Some("the token has expired"));
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(!String::from_utf8_lossy(&body).contains("expired"));
}
