//! Answers of providers: what an introspection endpoint says of a token, and what a token endpoint gives. Nobody comes in
//! unless the answer says so, and what is put on a call is one header field.
#![no_main]

use std::{
    convert::Infallible,
    sync::{LazyLock, Mutex},
};

use http::{Request, Response, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use portcullis::authn::introspection::Introspection;
use portcullis::authn::oauth::{Client, Endpoint, SigningKey};
use portcullis::authn::outbound::{OutboundLayer, TokenRequest, TokenSource};
use portcullis::body::Body;
use portcullis::fetch::Fetch;
use portcullis::identity::{CallerToken, Principal};
use tower::{Layer, ServiceExt, service_fn};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
static LOCK: Mutex<()> = Mutex::new(());

// The first byte is the status, the rest is the answer.
fuzz_target!(|data: &[u8]| {
    let _ = SigningKey::pem(data);
    let Some((first, answer)) = data.split_first() else { return };
    let status = StatusCode::from_u16(200 + u16::from(*first) * 2).unwrap();
    let _one = LOCK.lock();
    RUNTIME.block_on(async {
        introspected(status, answer).await;
        for exchanges in [true, false] {
            called(status, answer, exchanges).await;
        }
    });
});

fn endpoint(status: StatusCode, answer: &[u8]) -> Endpoint {
    let answer = answer.to_vec();
    let http = service_fn(move |_: Request<Body>| {
        let response = Response::builder().status(status).body(Body::from(answer.clone())).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    Endpoint::new("https://id.example/", Client::secret_basic("g", "s"), Fetch::new(http)).unwrap()
}

async fn introspected(status: StatusCode, answer: &[u8]) {
    let gate = Introspection::builder(endpoint(status, answer)).issuer("https://id.example").build();
    let inner = service_fn(|request: Request<Body>| async move {
        assert_eq!(request.extensions().get::<Principal>().unwrap().issuer(), "https://id.example");
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let request =
        Request::get("/").header(header::AUTHORIZATION, "Bearer opaque").body(Body::empty()).unwrap();
    let given = gate.layer().layer(inner).oneshot(request).await.unwrap().status();
    if given.is_success() {
        let said: serde_json::Value = serde_json::from_slice(answer).unwrap();
        assert_eq!((status, &said["active"]), (StatusCode::OK, &true.into()));
        assert_eq!(said["iss"], "https://id.example");
    } else {
        assert!(matches!(given.as_u16(), 401 | 503), "{given}");
    }
}

async fn called(status: StatusCode, answer: &[u8], exchanges: bool) {
    let request = TokenRequest::new(endpoint(status, answer));
    let source =
        if exchanges { TokenSource::exchange(request) } else { TokenSource::client_credentials(request) };
    let inner = service_fn(|request: Request<Body>| async move {
        let line = request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned();
        assert!(line.strip_prefix("Bearer ").unwrap().bytes().all(|byte| byte.is_ascii_graphic()));
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(CallerToken::new("caller"));
    let given = OutboundLayer::new(source).layer(inner).oneshot(request).await.unwrap().status();
    match given.as_u16() {
        200 => assert_eq!(status, StatusCode::OK),
        401 => assert!(exchanges && status == StatusCode::BAD_REQUEST),
        other => assert_eq!(other, 503),
    }
}
