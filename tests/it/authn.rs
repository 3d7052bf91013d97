//! Authentication and authorization in real servers: axum over HTTP/1 and tonic over HTTP/2.
#![cfg(all(feature = "admission", feature = "axum", feature = "jwt"))]

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{Router, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{
    admission::authz::Authorize,
    authn::{
        Location, Providers,
        api_key::{self, ApiKey, KeyTable},
        jwt::{Claims, Jwt, Key, KeySet, Keys},
    },
    identity::Principal,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const ISSUER: &str = "https://id.example";

/// Signs tokens with ES256.
struct Issuer {
    key: EcdsaKeyPair,
    id: String,
}

impl Issuer {
    fn new(id: &str) -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), id: id.to_owned() }
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y })
    }

    fn key(&self) -> Key {
        Key::jwk(&self.jwk().to_string()).unwrap()
    }

    fn token(&self, subject: &str, scope: &str) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "alg": "ES256", "kid": self.id, "typ": "JWT" });
        let claims =
            json!({ "iss": ISSUER, "aud": ["shop"], "sub": subject, "exp": now + 600, "scope": scope });
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn jwt(keys: impl Into<Keys>) -> Jwt {
    Jwt::new(keys).named("customers").issuer(ISSUER).audiences(["shop"])
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn call(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response<String> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = headers
        .iter()
        .fold(Request::get(format!("http://{address}{target}")), |request, (name, value)| {
            request.header(*name, *value)
        })
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    Response::from_parts(head, body)
}

/// What a handler behind the gates sees.
async fn show(principal: Principal, claims: Option<Claims>, request: Request<axum::body::Body>) -> String {
    let user = request.headers().get("x-user").map_or("-", |user| user.to_str().unwrap());
    let credentials = ["authorization", "x-api-key"].iter().any(|name| request.headers().contains_key(*name));
    let issuer = claims.and_then(|claims| claims.claim("iss")).map_or("-".to_owned(), |iss| iss.to_string());
    let who = format!("{}/{}", principal.provider(), principal.subject());
    format!("{who} user={user} iss={issuer} credentials={credentials} query={:?}", request.uri().query())
}

#[tokio::test]
async fn an_axum_router_behind_providers_and_authorization() {
    let issuer = Issuer::new("a");
    let jwks = json!({ "keys": [issuer.jwk(), { "kty": "nonsense" }] }).to_string();
    let minted = api_key::mint("shop", "acme").unwrap().with(|entry| entry.scopes(["orders.read"]));
    let user = HeaderName::from_static("x-user");
    let providers = Providers::new()
        .with(
            jwt(KeySet::jwks(&jwks).unwrap())
                .locations([Location::bearer(), Location::query("access_token")])
                .claim_header(user, "sub"),
        )
        .with(ApiKey::new(KeyTable::new("partners", [minted.entry().clone()]).unwrap()));
    let app = Router::new()
        .route("/orders", get(show))
        .layer(Authorize::new().any_scope(["orders.read", "orders.write"]).layer())
        .layer(providers.layer());
    let address = serve(app).await;

    let response = call(address, "/orders", &[]).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let challenges: Vec<_> = response.headers().get_all(header::WWW_AUTHENTICATE).iter().collect();
    assert_eq!(challenges, [r#"Bearer realm="api""#, r#"ApiKey realm="api""#]);

    let bearer = format!("Bearer {}", issuer.token("alice", "orders.read"));
    let response = call(address, "/orders?a=1", &[("authorization", &bearer), ("x-user", "root")]).await;
    let expected =
        format!("customers/alice user=alice iss=\"{ISSUER}\" credentials=false query=Some(\"a=1\")");
    assert_eq!((response.status(), response.body()), (StatusCode::OK, &expected));

    let target = format!("/orders?access_token={}", issuer.token("alice", "orders.write"));
    let response = call(address, &target, &[]).await;
    assert!(response.body().ends_with("query=None"), "{}", response.body());

    let key = minted.reveal();
    let response = call(address, "/orders", &[("x-api-key", key), ("x_user", "root")]).await;
    assert_eq!(response.body(), "partners/acme user=- iss=- credentials=false query=None");

    let other = format!("Bearer {}", issuer.token("alice", "profile"));
    let response = call(address, "/orders", &[("authorization", &other)]).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let challenge = r#"Bearer realm="api", error="insufficient_scope", scope="orders.read orders.write""#;
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], challenge);

    let forged = format!("Bearer {}", Issuer::new("a").token("alice", "orders.read"));
    for bad in [&*forged, "Bearer x", &format!("Bearer {}", "x".repeat(17_000))] {
        let response = call(address, "/orders", &[("authorization", bad)]).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.body().contains("invalid_credentials"), "{}", response.body());
        let first = response.headers().get(header::WWW_AUTHENTICATE).unwrap();
        assert_eq!(first, r#"Bearer realm="api", error="invalid_token""#);
    }
}

#[tokio::test]
async fn a_tonic_service_behind_a_token() {
    let issuer = Issuer::new("a");
    let (_, health) = tonic_health::server::health_reporter();
    let gates = tower::layer::util::Stack::new(
        Authorize::new().all_scopes(["health"]).layer(),
        jwt(KeySet::new([issuer.key()]).unwrap()).layer(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(
        tonic::transport::Server::builder()
            .layer(gates)
            .add_service(health)
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)),
    );

    let channel =
        tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let check = async |token: Option<String>| {
        let mut client = HealthClient::new(channel.clone());
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        client.check(request).await.map(|response| response.into_inner().status)
    };
    let refused = check(None).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert_eq!(refused.metadata().get("www-authenticate").unwrap(), r#"Bearer realm="api""#);
    let refused = check(Some("x.y.z".into())).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unauthenticated, "invalid_credentials"));
    let refused = check(Some(issuer.token("alice", "other"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert!(check(Some(issuer.token("alice", "health"))).await.is_ok());
}

#[tokio::test]
async fn keys_that_are_not_known_yet_are_nobodys_fault() {
    let issuer = Issuer::new("a");
    let keys = Keys::unknown();
    let address = serve(Router::new().route("/", get(show)).layer(jwt(keys.clone()).layer())).await;
    let bearer = format!("Bearer {}", issuer.token("alice", ""));
    let response = call(address, "/", &[("authorization", &bearer)]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "5");
    assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));

    keys.replace(KeySet::new([issuer.key()]).unwrap());
    assert_eq!(call(address, "/", &[("authorization", &bearer)]).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_with_no_wrong_answer() {
    let (old, new, stranger) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("old"));
    let keys = Keys::from(KeySet::new([old.key(), new.key()]).unwrap());
    let address = serve(Router::new().route("/", get(show)).layer(jwt(keys.clone()).layer())).await;
    let stop: &'static AtomicBool = Box::leak(Box::default());
    let served: &'static AtomicUsize = Box::leak(Box::default());
    let mut callers = Vec::new();
    for (token, expected) in
        [(new.token("alice", ""), StatusCode::OK), (stranger.token("alice", ""), StatusCode::UNAUTHORIZED)]
    {
        callers.push(tokio::spawn(async move {
            let bearer = format!("Bearer {token}");
            while !stop.load(Ordering::Relaxed) {
                let response = call(address, "/", &[("authorization", &bearer)]).await;
                assert_eq!(response.status(), expected);
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let bearer = format!("Bearer {}", old.token("alice", ""));
    for _ in 0..20 {
        keys.replace(KeySet::new([new.key()]).unwrap());
        let gone = call(address, "/", &[("authorization", &bearer)]).await;
        assert_eq!(gone.status(), StatusCode::UNAUTHORIZED);
        keys.replace(KeySet::new([old.key(), new.key()]).unwrap());
        let back = call(address, "/", &[("authorization", &bearer)]).await;
        assert_eq!(back.status(), StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(served.load(Ordering::Relaxed) > 2);
}
