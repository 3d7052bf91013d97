use std::{fmt, str::FromStr};

use aws_lc_rs::{
    hmac,
    signature::{self, EcdsaVerificationAlgorithm, RsaParameters},
};

/// A signature algorithm for tokens (RFC 7518 section 3, RFC 8037), named as in a token's `alg`.
///
/// `none` does not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Algorithm {
    /// Edwards-curve signatures over Ed25519; `Ed25519` in RFC 9864.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
}

/// The name is of no algorithm that is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a supported signature algorithm")]
#[non_exhaustive]
pub struct UnknownAlgorithm;

/// The kind of key that an algorithm takes, with what verifies it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Ec(&'static EcdsaVerificationAlgorithm),
    Ed,
    Mac(hmac::Algorithm),
    Rsa(&'static RsaParameters),
}

impl Algorithm {
    /// Every algorithm, in the order of their names.
    pub const ALL: &'static [Self] = &[
        Self::EdDsa,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// The name in a token's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::EdDsa => Kind::Ed,
            Self::Es256 => Kind::Ec(&signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Kind::Ec(&signature::ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Kind::Ec(&signature::ECDSA_P521_SHA512_FIXED),
            Self::Hs256 => Kind::Mac(hmac::HMAC_SHA256),
            Self::Hs384 => Kind::Mac(hmac::HMAC_SHA384),
            Self::Hs512 => Kind::Mac(hmac::HMAC_SHA512),
            Self::Ps256 => Kind::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Kind::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Kind::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Rs256 => Kind::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Kind::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Kind::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        }
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Names have case (RFC 7515 section 4.1.1). `Ed25519` is `EdDSA` with the only curve there is here.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Self::ALL.iter().copied().find(|a| a.name() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_have_case() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(*algorithm));
            assert_eq!(algorithm.name().to_lowercase().parse::<Algorithm>(), Err(UnknownAlgorithm));
        }
        assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
    }

    #[test]
    fn none_is_not_an_algorithm() {
        for name in ["none", "None", "NONE", "nOnE", "", " ", "none ", "HS256\0"] {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name:?}");
        }
    }
}
