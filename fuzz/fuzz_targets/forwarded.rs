//! `X-Forwarded-*` and `Forwarded`, several lines of each: an untrusted peer is never overruled, and a trusted
//! proxy that appends an address has the last word.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::identity::{ForwardedInfo, ForwardingHeader, PeerAddr, TrustedProxies};

const NAMES: [HeaderName; 4] = [
    HeaderName::from_static("x-forwarded-for"),
    http::header::FORWARDED,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
];

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(&NAMES[usize::from(*which) % 4], value);
    }
    let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
    let stranger = PeerAddr::new("192.0.2.7:80".parse().unwrap());
    assert_eq!(ForwardedInfo::resolve(stranger, &headers, &trusted).client(), stranger.into());

    let proxy = PeerAddr::new("10.0.0.1:80".parse().unwrap());
    let _ = ForwardedInfo::resolve(proxy, &headers, &trusted);

    for (name, appended, header) in [
        (&NAMES[0], "203.0.113.9", ForwardingHeader::XForwarded),
        (&NAMES[1], "for=203.0.113.9", ForwardingHeader::Forwarded),
    ] {
        let line = headers.get_all(name).iter().next_back().map_or(&b""[..], HeaderValue::as_bytes);
        let line = [line, b", ", appended.as_bytes()].concat();
        headers.append(name, HeaderValue::from_bytes(&line).unwrap());
        let trusted = trusted.clone().header(header);
        assert_eq!(ForwardedInfo::resolve(proxy, &headers, &trusted).client().to_string(), "203.0.113.9");
    }
});
