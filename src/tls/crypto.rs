//! What all connections have in common.

use std::sync::{Arc, LazyLock};

use rustls::{
    CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
};

/// Whose cryptography connections are made with: ours, whatever else is in the process. Nothing is installed there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crypto {
    /// aws-lc, with key exchange that is meant to outlast quantum computers.
    #[default]
    AwsLc,
    /// ring.
    #[cfg(feature = "ring")]
    #[cfg_attr(docsrs, doc(cfg(feature = "ring")))]
    Ring,
}

impl Crypto {
    pub(super) fn provider(self) -> &'static Arc<CryptoProvider> {
        static AWS_LC: LazyLock<Arc<CryptoProvider>> =
            LazyLock::new(|| Arc::new(ordered(aws_lc_rs::default_provider())));
        #[cfg(feature = "ring")]
        static RING: LazyLock<Arc<CryptoProvider>> =
            LazyLock::new(|| Arc::new(ordered(rustls::crypto::ring::default_provider())));
        match self {
            Self::AwsLc => &AWS_LC,
            #[cfg(feature = "ring")]
            Self::Ring => &RING,
        }
    }
}

/// AES with 128 bits before all others, which brings SHA-256 with it: processors have instructions for that, and few for SHA-384.
fn ordered(mut provider: CryptoProvider) -> CryptoProvider {
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// What HTTP is offered as.
pub(super) fn http() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_is_offered_first_and_all_that_the_library_offers() {
        let (ours, theirs) = (Crypto::AwsLc.provider(), aws_lc_rs::default_provider());
        let names = |provider: &CryptoProvider| {
            provider.cipher_suites.iter().map(|suite| suite.suite()).collect::<Vec<_>>()
        };
        assert_eq!(names(ours)[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(names(ours).len(), names(&theirs).len());
        assert!(names(&theirs).iter().all(|suite| names(ours).contains(suite)));
    }
}
