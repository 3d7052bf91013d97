use std::fmt::Write as _;

use http::HeaderValue;

use super::pem;
use crate::identity::PeerIdentity;

/// What an element of `X-Forwarded-Client-Cert` says of a certificate beside its hash, as Envoy's
/// `set_current_client_cert_details`. Nothing unless told.
///
/// ```
/// use portcullis::identity::{PeerIdentity, XfccDetails};
///
/// let peer = PeerIdentity::new([0; 32]).with_subject("CN=orders").with_uris(["spiffe://shop.example/orders"]);
/// let edge = PeerIdentity::new([1; 32]).with_uris(["spiffe://shop.example/edge"]);
/// let element = XfccDetails::new().subject(true).uri(true).element(&peer, Some(&edge));
///
/// let hash = "0".repeat(64);
/// let expected = format!("By=spiffe://shop.example/edge;Hash={hash};Subject=\"CN=orders\";URI=spiffe://shop.example/orders");
/// assert_eq!(element, expected);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct XfccDetails {
    subject: bool,
    cert: bool,
    chain: bool,
    dns: bool,
    uri: bool,
}

impl XfccDetails {
    /// Says nothing more.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether its distinguished name is said.
    pub const fn subject(self, is_said: bool) -> Self {
        Self { subject: is_said, ..self }
    }

    /// Whether the certificate itself is said, if it is known: about 2 KiB.
    pub const fn cert(self, is_said: bool) -> Self {
        Self { cert: is_said, ..self }
    }

    /// Whether it is said with those of who signed it, if they are known.
    pub const fn chain(self, is_said: bool) -> Self {
        Self { chain: is_said, ..self }
    }

    /// Whether its DNS names are said.
    pub const fn dns(self, is_said: bool) -> Self {
        Self { dns: is_said, ..self }
    }

    /// Whether its URIs are said, among them its SPIFFE ID.
    pub const fn uri(self, is_said: bool) -> Self {
        Self { uri: is_said, ..self }
    }

    /// The element about this certificate, which was shown to us.
    ///
    /// `By` has the URIs of ours. Names are quoted where they hold what divides an element, which Envoy leaves undone; what
    /// is not visible ASCII is percent-encoded in them, and in the distinguished name escaped (RFC 4514 section 2.4).
    #[must_use]
    pub fn element(self, peer: &PeerIdentity, ours: Option<&PeerIdentity>) -> HeaderValue {
        let mut text = String::with_capacity(128);
        ours.into_iter().flat_map(uris).for_each(|uri| pair(&mut text, "By", uri));
        key(&mut text, "Hash");
        peer.sha256().iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
        let shown = [("Cert", self.cert, 1), ("Chain", self.chain, usize::MAX)];
        for (name, _, most) in
            shown.into_iter().filter(|(_, is_said, _)| *is_said && peer.chain().next().is_some())
        {
            key(&mut text, name);
            text.push('"');
            peer.chain().take(most).for_each(|der| pem::encode(&mut text, der));
            text.push('"');
        }
        if self.subject {
            key(&mut text, "Subject");
            distinguished(&mut text, peer.subject());
        }
        if self.uri {
            uris(peer).for_each(|uri| pair(&mut text, "URI", uri));
            if uris(peer).next().is_none() {
                key(&mut text, "URI");
            }
        }
        if self.dns {
            peer.dns_names().for_each(|name| pair(&mut text, "DNS", name));
        }
        value(text)
    }
}

#[expect(clippy::expect_used, reason = "nothing but visible ASCII and spaces is written")]
fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a header's value")
}

fn uris(peer: &PeerIdentity) -> impl Iterator<Item = &str> {
    let is_alone = peer.uris().next().is_none();
    peer.uris().chain(peer.spiffe_id().filter(|_| is_alone))
}

fn key(text: &mut String, key: &str) {
    if !text.is_empty() {
        text.push(';');
    }
    text.push_str(key);
    text.push('=');
}

fn pair(text: &mut String, name: &str, value: &str) {
    key(text, name);
    let is_quoted = value.contains([',', ';', '=', '"', '\\', ' ']);
    if is_quoted {
        text.push('"');
    }
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => _ = write!(text, "%{byte:02X}"),
        }
    }
    if is_quoted {
        text.push('"');
    }
}

/// In quotes, with the escapes that it has (RFC 4514); a quote without one gets one, or it would end the value.
fn distinguished(text: &mut String, name: &str) {
    text.push('"');
    let mut bytes = name.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&next @ b' '..=b'~')) => {
                text.extend(['\\', char::from(next)]);
                bytes.next();
            }
            (b'\\' | b'"', _) => text.extend(['\\', char::from(byte)]),
            (b' '..=b'~', _) => text.push(char::from(byte)),
            _ => _ = write!(text, "\\{byte:02X}"),
        }
    }
    text.push('"');
}
