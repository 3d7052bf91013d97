//! Answers of an external authorizer: a request passes after 2xx alone, with the headers that were chosen and no others,
//! and what is remembered may be.
#![no_main]

use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use libfuzzer_sys::fuzz_target;
use portcullis::admission::ext_authz::ExternalAuth;
use portcullis::body::Body;
use portcullis::fetch::Fetch;
use tower::{Layer, ServiceExt, service_fn};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
static LOCK: Mutex<()> = Mutex::new(());
const USER: HeaderName = HeaderName::from_static("x-user");

// The first byte is the status; then come header lines, an empty line, and the body.
fuzz_target!(|data: &[u8]| {
    let Some((first, answer)) = data.split_first() else { return };
    let status = StatusCode::from_u16(100 + u16::from(*first) * 2).unwrap();
    let at = answer.windows(2).position(|pair| pair == b"\n\n").unwrap_or(answer.len());
    let (head, body) = (&answer[..at], answer.get(at + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    let _one = LOCK.lock();
    RUNTIME.block_on(asked(status, headers, body.to_vec()));
});

async fn asked(status: StatusCode, headers: HeaderMap, body: Vec<u8>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (answer, counted) = (headers.clone(), Arc::clone(&calls));
    let fetch = Fetch::new(service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(Body::from(body.clone()));
        (*response.status_mut(), *response.headers_mut()) = (status, answer.clone());
        async move { Ok::<_, Infallible>(response) }
    }));
    let gate = ExternalAuth::new("iam", "http://iam.internal/", fetch).unwrap();
    let gate = gate.upstream_headers([USER]).unwrap().cache(Duration::from_secs(60), 8);
    let expected = headers.clone();
    let inner = service_fn(move |request: Request<Body>| {
        assert!(request.headers().get_all(USER).iter().eq(expected.get_all(USER)));
        let others = request.headers().keys().filter(|name| **name != USER);
        assert!(
            others.eq(request.headers().contains_key(header::CONTENT_TYPE).then_some(&header::CONTENT_TYPE))
        );
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let service = gate.layer().layer(inner);
    for _ in 0..2 {
        let request = Request::get("/").header(USER, "root").body(Body::empty()).unwrap();
        let given = service.clone().oneshot(request).await.unwrap().status();
        match status.as_u16() {
            200..300 => assert!(matches!(given.as_u16(), 200 | 503)),
            300..500 => assert!(given == status || given == StatusCode::SERVICE_UNAVAILABLE),
            _ => assert_eq!(given, StatusCode::SERVICE_UNAVAILABLE),
        }
    }
    if calls.load(Ordering::Relaxed) == 1 {
        let says = |word: &[u8]| {
            let lines = headers.get_all(header::CACHE_CONTROL).iter();
            lines.map(HeaderValue::as_bytes).any(|line| line.eq_ignore_ascii_case(word))
        };
        assert!(!headers.contains_key(header::SET_COOKIE), "it was for one caller");
        assert!(!says(b"no-store") && !says(b"no-cache") && !says(b"private") && !says(b"max-age=0"));
    }
    let request = Request::post("/").header(header::CONTENT_TYPE, "application/grpc");
    let given = service.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(given.status(), StatusCode::OK);
    let passed = given.headers().get("grpc-status").is_none();
    assert!(!passed || status.is_success());
}
