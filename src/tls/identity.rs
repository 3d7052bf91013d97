use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

#[cfg(feature = "spiffe")]
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use thiserror::Error;

use super::{Crypto, certificate};
use crate::identity::PeerIdentity;

/// The most certificates of a chain.
const MAX_CHAIN: usize = 16;

/// Who we are on a connection: a certificate, those of who signed it, and its private key. A clone is a pointer.
///
/// ```
/// use portcullis::tls::Identity;
///
/// # fn ours() -> Result<(), Box<dyn std::error::Error>> {
/// let orders = Identity::from_pem(&std::fs::read("tls.crt")?, &std::fs::read("tls.key")?)?;
/// assert_eq!(orders.names().spiffe_id(), Some("spiffe://shop.example/orders"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    /// The same; `None` if ring knows no keys of this kind.
    #[cfg(feature = "ring")]
    ring: Option<Arc<CertifiedKey>>,
    names: PeerIdentity,
}

/// Why a chain and a key are nobody's identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// What was given as chain is not certificates in PEM, or too many.
    #[error("expected a certificate, and those of who signed it, 16 at most")]
    Chain,
    /// What was given as key is no private key in PEM.
    #[error("expected a private key: PKCS#8, PKCS#1 or SEC1, not encrypted")]
    Key,
    /// The certificate cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Unusable(&'static str),
    /// The key is not the certificate's.
    #[error("the private key is not the certificate's")]
    Mismatch,
}

impl Identity {
    /// A chain in PEM, its own certificate first, and the private key in PEM.
    ///
    /// # Errors
    ///
    /// One of them cannot be read, the certificate is no proper X.509-SVID though it has a SPIFFE ID, or the two do not
    /// belong together. What was given is not in the error.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).take(MAX_CHAIN + 1).collect();
        let chain = chain.ok().filter(|chain| (1..=MAX_CHAIN).contains(&chain.len()));
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        Self::new(chain.ok_or(IdentityError::Chain)?, key)
    }

    /// A chain in DER, one certificate after the other, and the private key in PKCS#8.
    #[cfg(feature = "spiffe")]
    pub(super) fn from_der(chain: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain: Option<Vec<_>> = certificate::split(chain).take(MAX_CHAIN + 1).collect();
        let chain =
            chain.filter(|chain| (1..=MAX_CHAIN).contains(&chain.len())).ok_or(IdentityError::Chain)?;
        let chain = chain.into_iter().map(CertificateDer::into_owned).collect();
        Self::new(chain, PrivatePkcs8KeyDer::from(key.to_vec()).into())
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, IdentityError> {
        let names = certificate::read(&chain).map_err(IdentityError::Unusable)?;
        #[cfg(feature = "ring")]
        let ring = {
            let ring = Crypto::Ring.provider().key_provider.load_private_key(key.clone_key());
            ring.ok().map(|key| Arc::new(CertifiedKey::new(chain.clone(), key)))
        };
        let key = Crypto::AwsLc.provider().key_provider.load_private_key(key);
        let key = CertifiedKey::new(chain, key.map_err(|_| IdentityError::Key)?);
        key.keys_match().map_err(|_| IdentityError::Mismatch)?;
        Ok(Self {
            key: Arc::new(key),
            #[cfg(feature = "ring")]
            ring,
            names,
        })
    }

    /// To sign with.
    pub(super) fn key(&self, crypto: Crypto) -> Option<Arc<CertifiedKey>> {
        match crypto {
            Crypto::AwsLc => Some(Arc::clone(&self.key)),
            #[cfg(feature = "ring")]
            Crypto::Ring => self.ring.clone(),
        }
    }

    /// What the certificate says of us.
    #[must_use]
    pub fn names(&self) -> &PeerIdentity {
        &self.names
    }

    /// Until when the certificate is valid.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        self.names.validity().map_or(SystemTime::UNIX_EPOCH, |validity| *validity.end())
    }

    /// Whether it is valid now.
    pub(super) fn is_valid(&self) -> bool {
        self.names.validity().is_some_and(|validity| validity.contains(&SystemTime::now()))
    }

    /// For how long it is valid from now on.
    pub(super) fn left(&self) -> Duration {
        self.expires().duration_since(SystemTime::now()).unwrap_or_default()
    }
}

impl PartialEq for Identity {
    /// Whether both have the same certificates; a certificate has one key.
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["orders.example".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_are_an_identity() {
        let [(chain, key), (other, others_key)] = [made(), made()];
        let identity = Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(identity.names().dns_names().collect::<Vec<_>>(), ["orders.example"]);
        assert!(identity.expires() > SystemTime::now());
        assert_eq!(identity, identity.clone());
        let longer = Identity::from_pem((chain.clone() + &other).as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(longer.names().chain().count(), 2);
        assert_ne!(identity, longer);

        let refused =
            |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(refused(&chain, &others_key), IdentityError::Mismatch);
        assert_eq!(refused("", &key), IdentityError::Chain);
        assert_eq!(refused(&chain.repeat(17), &key), IdentityError::Chain);
        assert_eq!(refused(&chain[..chain.len() / 2], &key), IdentityError::Chain);
        assert_eq!(refused(&chain, ""), IdentityError::Key);
        assert_eq!(refused(&chain, &chain), IdentityError::Key);
        assert_eq!(refused(&key, &chain), IdentityError::Key);
    }

    #[test]
    fn the_key_is_not_printed() {
        let (chain, key) = made();
        let text = format!("{:?}", Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
        assert!(text.contains("orders.example"), "{text}");
        assert!(key.lines().all(|line| !text.contains(line)), "{text}");
    }
}
