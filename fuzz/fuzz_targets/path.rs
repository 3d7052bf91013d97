//! Paths under every policy, and hosts: what is let through is in one normal form, and nothing in it climbs,
//! hides a separator, or reads otherwise when it is read once more.
#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use portcullis::matching::{Host, HostPattern, PathMatch, PathPolicy, PathQuirk};

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
    for (quirk, escape) in
        [(PathQuirk::EncodedSlash, "%2F"), (PathQuirk::Backslash, "%5C"), (PathQuirk::ControlBytes, "%00")]
    {
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
    let _ = PathMatch::exact(text).map(|path| path.matches("/orders"));
    let _ = HostPattern::parse(text).map(|pattern| pattern.matches("shop.example"));
}
