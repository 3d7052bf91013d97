//! Header fields that a gateway acts on: `Connection`, `Origin`, preflights and `Sec-Fetch-Site`, cookies that are counted
//! by.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Method, Request, header};
use libfuzzer_sys::fuzz_target;
use portcullis::gate::{Gate, Pass};
use portcullis::head::Head;
use portcullis::identity::AssertedHeaders;
use portcullis::key::Key;
use portcullis::reject::Answer;
use portcullis::routing::filter::{Cors, Csrf};
use portcullis::upstream::HopByHop;

const X_USER: HeaderName = HeaderName::from_static("x-user");

const NAMES: [HeaderName; 8] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::ORIGIN,
    header::ACCESS_CONTROL_REQUEST_METHOD,
    header::ACCESS_CONTROL_REQUEST_HEADERS,
    header::COOKIE,
    HeaderName::from_static("keep-alive"),
];

static CORS: LazyLock<Cors> = LazyLock::new(|| {
    let cors = Cors::new().allow_origin("https://*.shop.example").unwrap();
    cors.allow_credentials().allow_method(Method::PUT).allow_header(X_USER)
});

static CSRF: LazyLock<Csrf> = LazyLock::new(|| Csrf::new().trust(ADMIN).unwrap());
const ADMIN: &str = "https://admin.example";

// Lines: each begins with the number of a header, or from `A` on has a name of its own before a colon.
fuzz_target!(|data: &[u8]| {
    let mut request = Request::builder().method(Method::OPTIONS).uri("/a").body(()).unwrap();
    for line in data.split(|byte| *byte == b'\n') {
        let (name, value) = match line {
            [which @ b'0'..=b'7', value @ ..] => (Ok(NAMES[usize::from(which - b'0')].clone()), value),
            _ => {
                let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
                (HeaderName::from_bytes(&line[..colon]), line.get(colon + 1..).unwrap_or_default())
            }
        };
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) else { continue };
        request.headers_mut().append(name, value);
    }
    request.headers_mut().insert(header::CONTENT_LENGTH, 7.into());
    request.headers_mut().insert("x-request-id", HeaderValue::from_static("id"));

    let cookie = Key::Cookie("id".into());
    assert_eq!(
        cookie.stable_hash(&Head::of(&mut request), "s"),
        cookie.stable_hash(&Head::of(&mut request), "s")
    );
    cors(&mut request);
    csrf(&mut request);

    AssertedHeaders::new([X_USER]).strip(request.headers_mut());
    assert!(!request.headers().keys().any(|name| name.as_str().replace('_', "-") == "x-user"));

    if HopByHop.check(&mut Head::of(&mut request)).is_ok() {
        let headers = request.headers();
        assert!(headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key("x-request-id"));
        assert!(!headers.contains_key("keep-alive") && !headers.contains_key("proxy-connection"));
        assert!(headers.get_all(header::CONNECTION).iter().all(|value| value == "upgrade"));
        assert!(headers.get_all(header::TE).iter().all(|value| value == "trailers"));
    }
});

/// An answer allows the one origin that it names, and no other than those of the table.
fn cors(request: &mut Request<()>) {
    let headers = match CORS.check(&mut Head::of(request)) {
        Ok(mut pass) => {
            let (mut head, ()) = http::Response::new(()).into_parts();
            pass.on_head(&mut head);
            head.headers
        }
        Err(Answer::Respond(response)) => response.headers().clone(),
        Err(refused) => panic!("{refused:?}"),
    };
    if let Some(allowed) = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        assert_eq!(Some(allowed), request.headers().get(header::ORIGIN));
        let allowed = allowed.to_str().unwrap().to_ascii_lowercase();
        let host = allowed.strip_prefix("https://").unwrap();
        let (host, port) = host.split_once(':').unwrap_or((host, ""));
        assert!(port.is_empty() || port.trim_start_matches('0') == "443", "{allowed}");
        assert!(host.trim_end_matches('.').ends_with(".shop.example"), "{allowed}");
    }
}

/// What a browser says of another site's page changes nothing, unless the site is trusted.
fn csrf(request: &mut Request<()>) {
    *request.method_mut() = Method::POST;
    let is_refused = CSRF.check(&mut Head::of(request)).is_err();
    let says = |name: &str, text: &str| request.headers().get(name).is_some_and(|value| value == text);
    if says("sec-fetch-site", "cross-site") && !says("origin", ADMIN) {
        assert!(is_refused);
    }
    *request.method_mut() = Method::GET;
    assert!(CSRF.check(&mut Head::of(request)).is_ok());
}
