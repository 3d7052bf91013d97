//! TLS towards a server: who it must be.

use std::{fmt, io, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject},
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The most certificates that are read as roots.
const MAX_ROOTS: usize = 4096;

/// How servers are verified: by which roots. The name that is asked for must be in the server's certificate.
///
/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN, cryptography by aws-lc; nothing is installed in the process. Clones
/// share the sessions that are resumed.
///
/// ```
/// use portcullis::tls::ClientTls;
///
/// # fn trust(private: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
/// let public = ClientTls::platform()?;
/// let private = ClientTls::roots(private)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    roots: usize,
}

/// Why servers could not be verified.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientTlsError {
    /// What was given is not certificates in PEM.
    #[error("expected certificates in PEM")]
    Malformed,
    /// There is no root, so that no server could be verified.
    #[error("no root certificate was found")]
    NoRoots,
    /// The cryptography lacks what TLS needs.
    #[error("TLS is not available: {0}")]
    Unavailable(String),
}

impl ClientTls {
    /// Trusts the roots that this machine trusts, as they are now: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else
    /// of the operating system. It reads files.
    ///
    /// # Errors
    ///
    /// There are none.
    pub fn platform() -> Result<Self, ClientTlsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        if unusable > 0 || !found.errors.is_empty() {
            tracing::debug!(unusable, errors = ?found.errors, "roots of the platform were left out");
        }
        Self::of(roots)
    }

    /// Trusts these roots in PEM, and no others.
    ///
    /// # Errors
    ///
    /// There is none among them, or one that cannot be read.
    pub fn roots(pem: &[u8]) -> Result<Self, ClientTlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem).take(MAX_ROOTS) {
            let certificate = certificate.map_err(|_| ClientTlsError::Malformed)?;
            roots.add(certificate).map_err(|_| ClientTlsError::Malformed)?;
        }
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, ClientTlsError> {
        let count = roots.len();
        if count == 0 {
            return Err(ClientTlsError::NoRoots);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientTlsError::Unavailable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), roots: count })
    }

    /// The same, without offering HTTP: what is spoken is something else.
    #[cfg(feature = "redis")]
    pub(crate) fn without_alpn(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols.clear();
        Self { config: Arc::new(config), roots: self.roots }
    }

    #[cfg_attr(
        not(any(feature = "redis", feature = "upstream")),
        expect(dead_code, reason = "both are its users")
    )]
    /// Shakes hands with a server that must be `host`: a name, or an IP address.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let invalid = |error: InvalidDnsNameError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
        TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("roots", &self.roots).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(name: &str) -> String {
        rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn roots_are_certificates_in_pem() {
        let two = root("a.example") + "\n# a remark\n" + &root("b.example");
        assert_eq!(ClientTls::roots(two.as_bytes()).unwrap().roots, 2);
        assert_eq!(ClientTls::roots(b"").unwrap_err(), ClientTlsError::NoRoots);
        assert_eq!(ClientTls::roots(b"not PEM at all").unwrap_err(), ClientTlsError::NoRoots);
        let cut = &two[..two.len() / 3];
        assert!(ClientTls::roots(cut.as_bytes()).is_err());
        let garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert_eq!(ClientTls::roots(garbage.as_bytes()).unwrap_err(), ClientTlsError::Malformed);
        // A good one does not excuse a bad one.
        assert!(ClientTls::roots((two + garbage).as_bytes()).is_err());
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(ClientTls::roots(key.as_bytes()).unwrap_err(), ClientTlsError::NoRoots);
    }

    #[test]
    fn nothing_is_installed_in_the_process() {
        ClientTls::roots(root("a.example").as_bytes()).unwrap();
        assert!(rustls::crypto::CryptoProvider::get_default().is_none());
    }
}
