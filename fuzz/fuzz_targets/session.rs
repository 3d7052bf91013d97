//! Session tokens in cookies and headers: what strangers send names no endpoint, and ours does wherever it stands.
#![no_main]

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use portcullis::body::Body;
use portcullis::upstream::{Proxy, Session, SessionCookie, SessionKey, Upstream};
use tower::ServiceExt;

/// Of an endpoint that is gone.
const TOKEN: &str = "696a7f045dd30600000000010000000281e8fb8da3db0c0aa8b7b01cb1967a99";
const X_SESSION: HeaderName = HeaderName::from_static("x-session");

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

/// By cookie, and by header; where they go nobody listens.
static PROXIES: LazyLock<[Proxy; 2]> = LazyLock::new(|| {
    let sessions = [Session::cookie(SessionCookie::new("s").unwrap()), Session::header(X_SESSION)];
    sessions.map(|session| {
        let nobody =
            Upstream::builder("nobody").endpoint("127.0.0.1:1").session_key(SessionKey::new([7; 16]));
        Proxy::new(nobody.build().unwrap()).session(session.strict(true))
    })
});

/// Whether it is a session of ours that is refused.
fn is_known(proxy: &Proxy, name: &HeaderName, lines: &[HeaderValue]) -> bool {
    let mut request = Request::new(Body::empty());
    lines.iter().for_each(|line| _ = request.headers_mut().append(name, line.clone()));
    let refused = RUNTIME.block_on(proxy.clone().oneshot(request)).unwrap_err();
    refused.detail_text().is_some_and(|why| why.contains("of this session"))
}

// Lines of the cookie, and of the header. `\x01` stands for the token.
fuzz_target!(|data: &[u8]| {
    let text = data.escape_ascii().to_string().replace("\\n", "\n");
    let has_token = text.to_ascii_lowercase().contains(TOKEN) || data.contains(&1);
    let value = |line: &[u8]| {
        let parts: Vec<_> = line.split(|byte| *byte == 1).collect();
        HeaderValue::from_bytes(&parts.join(TOKEN.as_bytes())).ok()
    };
    let mut lines: Vec<_> = data.split(|byte| *byte == b'\n').take(50).filter_map(value).collect();
    let [cookie, header] = &*PROXIES;
    assert!(!is_known(cookie, &header::COOKIE, &lines) || has_token);
    assert!(!is_known(header, &X_SESSION, &lines) || has_token);
    let own = |text: String| HeaderValue::try_from(text).unwrap();
    lines.insert(0, own(format!("a=b; s={TOKEN}")));
    assert!(is_known(cookie, &header::COOKIE, &lines));
    assert!(is_known(header, &X_SESSION, &[own(TOKEN.to_owned())]));
});
