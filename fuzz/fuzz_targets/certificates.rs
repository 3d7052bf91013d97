//! `X-Forwarded-Client-Cert`, `Client-Cert` and `Client-Cert-Chain`, several lines of each: whatever stands before it, the
//! nearest proxy has the last word, and what is written of an identity is read the same.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::identity::{CertificateHeader, PeerIdentity, XfccDetails};

const NAMES: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("client-cert-chain"),
];

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        headers.append(&NAMES[usize::from(*which) % 3], value);
    }
    let _ = CertificateHeader::ClientCert.read(&headers);
    let details = XfccDetails::new().subject(true).uri(true).dns(true).cert(true).chain(true);
    if let Ok(Some(peer)) = CertificateHeader::Xfcc.read(&headers) {
        appended(&mut headers, &details.element(&peer, Some(&peer)));
        let told = CertificateHeader::Xfcc.read(&headers).unwrap().unwrap();
        assert_eq!(told.sha256(), peer.sha256());
    }
    // What a certificate may say is written so that it can be read.
    let text = String::from_utf8_lossy(data);
    let uri = format!("u{text}");
    let name: String =
        std::iter::once('n').chain(text.chars().filter(char::is_ascii_alphanumeric)).take(253).collect();
    let own = PeerIdentity::new([7; 32]).with_subject(&*text).with_uris([uri]).with_dns_names([name]);
    let element = XfccDetails::new().subject(true).uri(true).dns(true).element(&own, Some(&own));
    appended(&mut headers, &element);
    if element.len() < 60_000 {
        let told = CertificateHeader::Xfcc.read(&headers).unwrap().unwrap();
        assert_eq!((told.uris().count(), told.dns_names().count()), (1, 1));
        assert!(!text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) || told.uris().eq(own.uris()));
    }
});

/// Adds an element to the last line, as proxies do.
fn appended(headers: &mut HeaderMap, element: &HeaderValue) {
    let line = headers.get_all(&NAMES[0]).iter().next_back().map_or(&b""[..], HeaderValue::as_bytes);
    let line = [line, b",", element.as_bytes()].concat();
    headers.append(&NAMES[0], HeaderValue::from_bytes(&line).unwrap());
}
