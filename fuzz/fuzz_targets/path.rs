//! Hosts and paths, in each form of a request: what is let through is in one normal form, and nothing in it
//! climbs, hides a separator, or reads otherwise when it is read once more.
#![no_main]

use std::borrow::Cow;

use http::{Method, Request, Uri};
use libfuzzer_sys::fuzz_target;
use portcullis::gate::Gate;
use portcullis::head::Head;
use portcullis::matching::{Host, HostPattern, Normalize, PathMatch, PathPolicy, PathQuirk, RequestMatch, Target};

const QUIRKS: [PathQuirk; 5] = [
    PathQuirk::Backslash,
    PathQuirk::Climbing,
    PathQuirk::ControlBytes,
    PathQuirk::DotParameters,
    PathQuirk::EncodedSlash,
];

fuzz_target!(|data: &[u8]| {
    let Some((bits, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    path(*bits, text);
    host(text);
    request(*bits, text);
});

fn path(bits: u8, text: &str) {
    let mut policy = PathPolicy::strict();
    for (at, quirk) in QUIRKS.into_iter().enumerate() {
        policy = if bits >> at & 1 == 1 { policy.allow(quirk) } else { policy };
    }
    if bits >> 5 & 1 == 1 {
        policy = policy.keep_empty_segments();
    }
    let Ok(normal) = policy.normalize(text) else { return };
    assert!(normal.starts_with('/') && normal.is_ascii());
    assert!(normal.split('/').all(|segment| segment != "." && segment != ".."), "{normal}");
    assert_eq!(policy.normalize(&normal), Ok(Cow::Borrowed(&*normal)), "normal once and for all");
    let upper = normal.to_ascii_uppercase();
    for (quirk, escape) in [(PathQuirk::EncodedSlash, "%2F"), (PathQuirk::Backslash, "%5C"), (PathQuirk::ControlBytes, "%00")] {
        assert!(policy.allows(quirk) || !upper.contains(escape), "{normal}");
    }
    assert!(!normal.contains('\\') && !normal.bytes().any(|byte| byte.is_ascii_control()), "{normal}");
}

fn host(text: &str) {
    if let Ok(host) = Host::parse(text) {
        assert!(!host.name().is_empty() && host.name().len() <= Host::MAX_LENGTH + 2);
        let shown = host.to_string();
        assert_eq!(Host::parse(&shown), Ok(host));
    }
    let _ = HostPattern::parse(text).map(|pattern| pattern.matches("shop.example"));
}

fn request(bits: u8, text: &str) {
    let Ok(uri) = text.parse::<Uri>() else { return };
    let method = [Method::GET, Method::OPTIONS, Method::CONNECT][usize::from(bits) % 3].clone();
    let mut request = Request::builder().method(method).uri(uri).header("host", "shop.example").body(()).unwrap();
    let query = request.uri().query().map(str::to_owned);
    if Normalize::new().check(&mut Head::of(&mut request)).is_err() {
        return;
    }
    assert_eq!(request.uri().query().map(str::to_owned), query, "the query stays");
    let orders = RequestMatch::prefix("/orders").unwrap().query("lang", portcullis::matching::Text::exact("pt BR"));
    let target = Target::new(request.method(), "shop.example", request.uri(), request.headers());
    assert!(!orders.matches(&target) || request.uri().path().starts_with("/orders"));
    let _ = PathMatch::exact(text);
}
