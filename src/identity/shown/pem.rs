//! Certificates in PEM, percent-encoded, as Envoy and nginx put them into a header.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{InvalidCertificateHeader, client_cert::MOST};

/// The certificates, at least one.
pub(super) fn decode(text: &str) -> Result<Vec<CertificateDer<'static>>, InvalidCertificateHeader> {
    let pem: Vec<u8> = percent_decode_str(text).collect();
    let certificates = CertificateDer::pem_slice_iter(&pem).take(MOST + 1).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|_| InvalidCertificateHeader("expected a certificate in PEM"))?;
    match certificates.len() {
        0 => Err(InvalidCertificateHeader("expected a certificate in PEM")),
        1..=MOST => Ok(certificates),
        _ => Err(InvalidCertificateHeader("there are too many certificates")),
    }
}

/// Appends one in lines of 64, of which Envoy encodes `+`, `/`, `=`, blanks and line ends.
pub(super) fn encode(out: &mut String, der: &[u8]) {
    out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for line in STANDARD.encode(der).as_bytes().chunks(64) {
        for &sign in line {
            match sign {
                b'+' | b'/' | b'=' => _ = write!(out, "%{sign:02X}"),
                _ => out.push(char::from(sign)),
            }
        }
        out.push_str("%0A");
    }
    out.push_str("-----END%20CERTIFICATE-----%0A");
}
