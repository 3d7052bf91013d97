use std::{fmt, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::authn::jwt::{Algorithm, KeyError, pem};

const CURVES: [(Algorithm, &EcdsaSigningAlgorithm); 3] = [
    (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
    (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
    (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
];

/// A private key that signs what we say of ourselves (RFC 7523). A clone is a pointer.
#[derive(Clone)]
pub struct SigningKey {
    id: Option<Arc<str>>,
    algorithm: Algorithm,
    secret: Arc<Secret>,
}

enum Secret {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl SigningKey {
    /// A private key in PEM: `PRIVATE KEY` (PKCS #8: RSA, P-256, P-384, P-521, Ed25519), `RSA PRIVATE KEY` or
    /// `EC PRIVATE KEY`. An RSA key signs RS256 unless [told otherwise](Self::with_algorithm).
    ///
    /// # Errors
    /// [`KeyError`] if it is something else, encrypted for example, or an RSA key of less than 2048 bits.
    pub fn pem(pem: &[u8]) -> Result<Self, KeyError> {
        let (label, content) = pem::block(pem)?;
        let base64: String = content.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|_| KeyError::Malformed("not base64"))?;
        let rsa = match label {
            "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
            _ => None,
        };
        if let Some(key) = rsa {
            // Whoever verifies takes no shorter ones (RFC 7518 section 3.3).
            if key.public_modulus_len() < KeySize::Rsa2048.len() {
                return Err(KeyError::Size);
            }
            return Ok(Self::of(Algorithm::Rs256, Secret::Rsa(key)));
        }
        if label == "PRIVATE KEY"
            && let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
        {
            return Ok(Self::of(Algorithm::EdDsa, Secret::Ed(key)));
        }
        let read = |curve| match label {
            "PRIVATE KEY" => EcdsaKeyPair::from_pkcs8(curve, &der).ok(),
            "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(curve, &der).ok(),
            _ => None,
        };
        let ec = CURVES.iter().find_map(|(algorithm, curve)| Some((*algorithm, read(curve)?)));
        ec.map(|(algorithm, key)| Self::of(algorithm, Secret::Ec(key))).ok_or(KeyError::Type)
    }

    fn of(algorithm: Algorithm, secret: Secret) -> Self {
        Self { id: None, algorithm, secret: Arc::new(secret) }
    }

    /// Names the key: the `kid` by which the provider finds its public half.
    #[must_use]
    pub fn named(self, id: &str) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// Signs with this algorithm.
    ///
    /// # Errors
    /// [`KeyError::Algorithm`] if it does not fit the key.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Result<Self, KeyError> {
        let fits = match &*self.secret {
            Secret::Rsa(_) => encoding(algorithm).is_some(),
            Secret::Ec(_) | Secret::Ed(_) => algorithm == self.algorithm,
        };
        if fits { Ok(Self { algorithm, ..self }) } else { Err(KeyError::Algorithm) }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature of `message`; nothing if the library fails.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &*self.secret {
            Secret::Ec(key) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            Secret::Ed(key) => Some(key.sign(message).as_ref().to_vec()),
            Secret::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding(self.algorithm)?, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

fn encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        Algorithm::Ps256 => &RSA_PSS_SHA256,
        Algorithm::Ps384 => &RSA_PSS_SHA384,
        Algorithm::Ps512 => &RSA_PSS_SHA512,
        Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &RSA_PKCS1_SHA512,
        _ => return None,
    })
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
