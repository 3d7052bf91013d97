//! `Client-Cert` and `Client-Cert-Chain` (RFC 9440): byte sequences of structured fields (RFC 8941 section 3.3.5).

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue};
use rustls::pki_types::CertificateDer;

use super::{
    InvalidCertificateHeader,
    header::{CLIENT_CERT, CLIENT_CERT_CHAIN},
};
use crate::{identity::PeerIdentity, tls};

/// More certificates than a chain has.
pub(super) const MOST: usize = 16;
/// The most bytes that are read of a header.
pub(super) const LONGEST: usize = 64 * 1024;

/// What has no padding, or bits to spare, is read all the same (RFC 8941 section 4.2.7).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) fn read(headers: &HeaderMap) -> Result<Option<PeerIdentity>, InvalidCertificateHeader> {
    let mut lines = headers.get_all(CLIENT_CERT).iter();
    let (leaf, others) = (lines.next(), headers.get_all(CLIENT_CERT_CHAIN));
    if lines.next().is_some() {
        return Err(InvalidCertificateHeader("there is more than one `Client-Cert`"));
    }
    let Some(leaf) = leaf else {
        return match others.iter().next() {
            Some(_) => {
                Err(InvalidCertificateHeader("there is a `Client-Cert-Chain` without a `Client-Cert`"))
            }
            None => Ok(None),
        };
    };
    if others.iter().chain([leaf]).map(HeaderValue::len).sum::<usize>() > LONGEST {
        return Err(InvalidCertificateHeader("it is too long"));
    }
    let others = others.iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let certificates = [leaf.as_bytes()].into_iter().chain(others).take(MOST + 1);
    let chain = certificates.map(certificate).collect::<Result<Vec<_>, _>>()?;
    if chain.len() > MOST {
        return Err(InvalidCertificateHeader("there are too many certificates"));
    }
    tls::read_certificates(&chain).map(Some).map_err(InvalidCertificateHeader)
}

fn certificate(item: &[u8]) -> Result<CertificateDer<'static>, InvalidCertificateHeader> {
    let inside = item.trim_ascii().strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":"));
    let der = inside.and_then(|text| BASE64.decode(text).ok());
    der.map(CertificateDer::from).ok_or(InvalidCertificateHeader("expected a byte sequence, `:..:`"))
}
