//! What all connections have in common.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

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
            LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
        #[cfg(feature = "ring")]
        static RING: LazyLock<Arc<CryptoProvider>> =
            LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
        match self {
            Self::AwsLc => &AWS_LC,
            #[cfg(feature = "ring")]
            Self::Ring => &RING,
        }
    }
}

/// What HTTP is offered as.
pub(super) fn http() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}
