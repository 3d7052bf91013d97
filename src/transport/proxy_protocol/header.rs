use std::net::SocketAddr;

use thiserror::Error;

use super::{v1, v2};

/// One PROXY protocol header, as far as a listener needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyHeader {
    /// The client for whom the peer speaks. `None` when the peer speaks for itself (`LOCAL`, a health check)
    /// or does not know (`UNKNOWN`, `AF_UNSPEC`, a UNIX socket).
    pub source: Option<SocketAddr>,
    /// The address that the client connected to, under the same conditions.
    pub destination: Option<SocketAddr>,
    /// How many bytes the header took.
    pub length: usize,
}

/// Why bytes are no PROXY protocol header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MalformedProxyHeader {
    /// Neither version's signature.
    #[error("no PROXY protocol signature")]
    Signature,
    /// Longer than the version or we allow.
    #[error("PROXY protocol header too long")]
    TooLong,
    /// The signature is there, the rest is not as the format says.
    #[error("PROXY protocol header malformed")]
    Syntax,
}

impl ProxyHeader {
    /// Reads the header at the start of `bytes`; `Ok(None)` asks for more bytes.
    ///
    /// Never looks further than [`Self::MAX_LENGTH`], and reports a wrong signature at its first wrong byte.
    ///
    /// # Errors
    /// [`MalformedProxyHeader`], when no continuation of `bytes` can be a header.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, MalformedProxyHeader> {
        if v1::SIGNATURE.starts_with(prefix(bytes, v1::SIGNATURE.len())) {
            v1::parse(bytes)
        } else if v2::SIGNATURE.starts_with(prefix(bytes, v2::SIGNATURE.len())) {
            v2::parse(bytes)
        } else {
            Err(MalformedProxyHeader::Signature)
        }
    }

    /// The longest header taken, in bytes: version 2 with its extensions.
    pub const MAX_LENGTH: usize = v2::MAX_LENGTH;

    pub(super) const fn unknown(length: usize) -> Self {
        Self { source: None, destination: None, length }
    }
}

fn prefix(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..bytes.len().min(length)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = v2::SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn addresses(header: ProxyHeader) -> (Option<String>, Option<String>) {
        (header.source.map(|a| a.to_string()), header.destination.map(|a| a.to_string()))
    }

    fn full(source: &str, destination: &str) -> (Option<String>, Option<String>) {
        (Some(source.to_owned()), Some(destination.to_owned()))
    }

    #[test]
    fn version_1() {
        let good = |bytes: &[u8]| ProxyHeader::parse(bytes).unwrap().unwrap();
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(addresses(good(line)), full("192.0.2.1:56324", "198.51.100.2:443"));
        assert_eq!(good(line).length, 45);
        let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
        assert_eq!(addresses(good(line)), full("[2001:db8::1]:1", "[2001:db8::2]:65535"));
        assert_eq!(good(b"PROXY UNKNOWN\r\n"), ProxyHeader::unknown(15));
        assert_eq!(good(b"PROXY UNKNOWN ffff::1 ::1 65535 65535\r\n").source, None);
    }

    #[test]
    fn version_1_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 9\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.2 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 443\n\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 443\rX",
        ] {
            assert_eq!(ProxyHeader::parse(line.as_bytes()), Err(MalformedProxyHeader::Syntax), "{line:?}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 107]].concat();
        assert_eq!(ProxyHeader::parse(&endless), Err(MalformedProxyHeader::TooLong));
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01", b"proxy TCP4"] {
            assert_eq!(ProxyHeader::parse(other), Err(MalformedProxyHeader::Signature));
        }
    }

    #[test]
    fn version_2() {
        let good = |bytes: &[u8]| ProxyHeader::parse(bytes).unwrap().unwrap();
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        assert_eq!(addresses(good(&v2_header(0x21, 0x11, &v4))), full("192.0.2.1:56324", "198.51.100.2:443"));
        let with_extension = [&v4[..], &[0x02, 0, 3, b'a', b'b', b'c']].concat();
        let header = good(&[v2_header(0x21, 0x11, &with_extension), b"GET".to_vec()].concat());
        assert_eq!((header.length, header.source.is_some()), (16 + 18, true));

        let mut v6 = vec![0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 80, 81);
        assert_eq!(addresses(good(&v2_header(0x21, 0x21, &v6))), full("[::1]:80", "[::2]:81"));
        let nobody = (None, None);
        assert_eq!(addresses(good(&v2_header(0x20, 0x00, &[]))), nobody, "LOCAL");
        assert_eq!(addresses(good(&v2_header(0x20, 0x11, &v4))), nobody, "LOCAL ignores its addresses");
        assert_eq!(addresses(good(&v2_header(0x21, 0x00, &[1, 2, 3]))), nobody, "AF_UNSPEC");
        assert_eq!(addresses(good(&v2_header(0x21, 0x31, &[0; 216]))), nobody, "UNIX");
        assert_eq!(addresses(good(&v2_header(0x21, 0x12, &v4))), nobody, "UDP");
    }

    #[test]
    fn version_2_refused() {
        let v4 = [0; 12];
        for (command, family, payload) in [
            (0x31, 0x11, &v4[..]),
            (0x22, 0x11, &v4),
            (0x21, 0x41, &v4),
            (0x21, 0x13, &v4),
            (0x21, 0x11, &v4[..11]),
            (0x21, 0x21, &v4),
        ] {
            let bytes = v2_header(command, family, payload);
            assert_eq!(
                ProxyHeader::parse(&bytes),
                Err(MalformedProxyHeader::Syntax),
                "{command:x} {family:x}"
            );
        }
        let announced = v2_header(0x21, 0x11, &[0; v2::MAX_LENGTH - 15]);
        assert_eq!(
            ProxyHeader::parse(&announced[..16]),
            Err(MalformedProxyHeader::TooLong),
            "refused before its bytes came"
        );
        assert!(ProxyHeader::parse(&v2_header(0x21, 0x11, &[0; v2::MAX_LENGTH - 16])).unwrap().is_some());
    }

    fn headers() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| {
                format!("PROXY TCP4 {} 127.0.0.1 {port} 80\r\n", std::net::Ipv4Addr::from(ip)).into_bytes()
            }),
            proptest::collection::vec(any::<u8>(), 12..100).prop_map(|p| v2_header(0x21, 0x11, &p)),
            proptest::collection::vec(any::<u8>(), 36..100).prop_map(|p| v2_header(0x21, 0x21, &p)),
        ]
    }

    proptest! {
        #[test]
        fn any_prefix_asks_for_more(header in headers()) {
            for end in 0..header.len() {
                prop_assert_eq!(ProxyHeader::parse(&header[..end]), Ok(None));
            }
            prop_assert_eq!(ProxyHeader::parse(&header).unwrap().unwrap().length, header.len());
        }

        #[test]
        fn junk_is_bounded(junk in proptest::collection::vec(any::<u8>(), 0..4096), signed in 0_usize..3) {
            let start: &[u8] = [&[][..], b"PROXY ", &v2::SIGNATURE][signed];
            let bytes = [start, &junk].concat();
            match ProxyHeader::parse(&bytes) {
                Ok(Some(header)) => prop_assert!(header.length <= bytes.len().min(ProxyHeader::MAX_LENGTH)),
                Ok(None) => prop_assert!(bytes.len() < ProxyHeader::MAX_LENGTH),
                Err(_) => {}
            }
        }
    }
}
