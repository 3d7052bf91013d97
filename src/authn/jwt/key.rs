use std::fmt;

use aws_lc_rs::{
    digest, hmac,
    signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents},
};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};

use super::{
    algorithm::{Algorithm, Kind},
    jwk::Jwk,
    pem,
};

/// The sizes of RSA keys that are taken, in bits: RFC 7518 section 3.3 asks for 2048, and a key above 8192 costs
/// whoever verifies more than it gives.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key that verifies tokens, with the algorithms that it may be used for.
///
/// The key decides on the algorithms, never the token: an RSA key verifies no HMAC, whatever a token says.
pub struct Key {
    id: Option<Box<str>>,
    verifiers: Vec<(Algorithm, Verifier)>,
    /// The hash of what it was made of.
    print: [u8; digest::SHA256_OUTPUT_LEN],
}

/// Why a key cannot be used. Nothing of the key is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The algorithm is not one for this kind and size of key.
    #[error("the algorithm does not fit the key")]
    Algorithm,
    /// The curve is unknown, or is not the one of the algorithm.
    #[error("the curve is not supported")]
    Curve,
    /// It cannot be read as a key.
    #[error("malformed key: {0}")]
    Malformed(&'static str),
    /// `use` or `key_ops` says that the key is not for verifying signatures.
    #[error("the key is not meant for verifying signatures")]
    Purpose,
    /// It is a private key. Verifying needs the public one only, and this one should not be lying around.
    #[error("a private key where the public one is enough")]
    Private,
    /// A shared secret where everybody can read it.
    #[error("a shared secret in a published key set")]
    Published,
    /// An RSA key of less than 2048 or more than 8192 bits, or a secret shorter than the hash of its algorithm
    /// (RFC 7518 sections 3.2 and 3.3).
    #[error(
        "the key's size is not allowed: RSA takes 2048 to 8192 bits, HMAC at least the hash's length, 32 bytes for HS256"
    )]
    Size,
    /// The type of key is unknown.
    #[error("the type of key is not supported")]
    Type,
}

pub(super) enum Verifier {
    /// Boxed, because it is twenty times as large as the other.
    Mac(Box<hmac::Key>),
    Signature(ParsedPublicKey),
}

impl Verifier {
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Mac(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Signature(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Key {
    /// A shared secret for HS256 (32 bytes or more), HS384 (48) and HS512 (64).
    ///
    /// # Errors
    /// [`KeyError::Size`] if the secret is too short for all of them (RFC 7518 section 3.2).
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        Self::of(&[secret], |algorithm| match algorithm.kind() {
            Kind::Mac(mac) if secret.len() >= mac.digest_algorithm().output_len() => {
                Some(Ok(Verifier::Mac(Box::new(hmac::Key::new(mac, secret)))))
            }
            _ => None,
        })
        .map_err(|_| KeyError::Size)
    }

    /// A public key in PEM: `PUBLIC KEY` (RSA, P-256, P-384, P-521, Ed25519) or `RSA PUBLIC KEY`.
    ///
    /// # Errors
    /// [`KeyError`] if it is something else, a private key for example, or too small.
    pub fn pem(pem: &[u8]) -> Result<Self, KeyError> {
        match pem::block(pem)?.0 {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::Private),
            "CERTIFICATE" => {
                return Err(KeyError::Malformed(
                    "a certificate, whose public key is told by `openssl x509 -noout -pubkey`",
                ));
            }
            _ => return Err(KeyError::Malformed("not a public key")),
        }
        let read = [DecodingKey::from_ec_pem, DecodingKey::from_ed_pem, DecodingKey::from_rsa_pem];
        let key = read.into_iter().find_map(|read| read(pem).ok()).ok_or(KeyError::Type)?;
        let bytes = key.try_get_as_bytes().map_err(|_| KeyError::Malformed("no key in it"))?;
        match key.family() {
            AlgorithmFamily::Ec => Self::ec(bytes),
            AlgorithmFamily::Ed => Self::ed25519(bytes),
            AlgorithmFamily::Rsa => Self::rsa_der(bytes),
            AlgorithmFamily::Hmac => Err(KeyError::Type),
        }
    }

    /// One JSON Web Key (RFC 7517), with its `kid` and its `alg` if it has them.
    ///
    /// # Errors
    /// [`KeyError`] if it cannot be used for verifying signatures.
    pub fn jwk(json: &str) -> Result<Self, KeyError> {
        Jwk::read(json)?.into_key()
    }

    /// Names the key: tokens with this `kid` are verified by it.
    #[must_use]
    pub fn named(mut self, id: impl Into<Box<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Allows these algorithms only, of those that fit the key.
    ///
    /// # Errors
    /// [`KeyError::Algorithm`] if none of them fits.
    pub fn only(mut self, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        self.verifiers.retain(|(algorithm, _)| algorithms.contains(algorithm));
        if self.verifiers.is_empty() { Err(KeyError::Algorithm) } else { Ok(self) }
    }

    /// The key's name, which tokens give as `kid`.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The algorithms that the key may be used for.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> + '_ {
        self.verifiers.iter().map(|(algorithm, _)| *algorithm)
    }

    /// Whether it is the same key under the same name, for the same algorithms.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.print == other.print && self.id == other.id && self.algorithms().eq(other.algorithms())
    }

    /// Whether whoever has it can also sign.
    pub(super) fn is_secret(&self) -> bool {
        self.verifiers.iter().any(|(_, verifier)| matches!(verifier, Verifier::Mac(_)))
    }

    pub(super) fn verifier(&self, wanted: Algorithm) -> Option<&Verifier> {
        self.verifiers.iter().find(|(algorithm, _)| *algorithm == wanted).map(|(_, v)| v)
    }

    /// An RSA key of a modulus and an exponent, big-endian.
    pub(super) fn rsa_components(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        // With an exponent of 1 every text is its own signature.
        if matches!(e, [] | [1]) || e.len() > 4 || e.last().is_some_and(|last| last % 2 == 0) {
            return Err(KeyError::Malformed("e"));
        }
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        Self::rsa(bits, &[n, e], |parameters| {
            RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()
        })
    }

    /// An RSA key in DER, as PKCS #1 has it.
    fn rsa_der(der: &[u8]) -> Result<Self, KeyError> {
        let bits = RsaParameters::public_modulus_len(der).map_err(|_| KeyError::Malformed("RSA"))?;
        Self::rsa(bits as usize, &[der], |parameters| ParsedPublicKey::new(parameters, der).ok())
    }

    fn rsa(
        bits: usize,
        material: &[&[u8]],
        parse: impl Fn(&'static RsaParameters) -> Option<ParsedPublicKey>,
    ) -> Result<Self, KeyError> {
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::Size);
        }
        Self::of(material, |algorithm| match algorithm.kind() {
            Kind::Rsa(parameters) => {
                Some(parse(parameters).map(Verifier::Signature).ok_or(KeyError::Malformed("RSA")))
            }
            _ => None,
        })
    }

    /// An uncompressed point on the curve that its length tells.
    pub(super) fn ec(point: &[u8]) -> Result<Self, KeyError> {
        let algorithm = match point.len() {
            65 => Algorithm::Es256,
            97 => Algorithm::Es384,
            133 => Algorithm::Es512,
            _ => return Err(KeyError::Curve),
        };
        Self::of(&[point], |a| match a.kind() {
            Kind::Ec(curve) if a == algorithm => {
                Some(ParsedPublicKey::new(curve, point).map(Verifier::Signature).map_err(|_| KeyError::Curve))
            }
            _ => None,
        })
    }

    pub(super) fn ed25519(public: &[u8]) -> Result<Self, KeyError> {
        if public.len() != signature::ED25519_PUBLIC_KEY_LEN {
            return Err(KeyError::Curve);
        }
        Self::of(&[public], |algorithm| match algorithm.kind() {
            Kind::Ed => Some(
                ParsedPublicKey::new(&signature::ED25519, public)
                    .map(Verifier::Signature)
                    .map_err(|_| KeyError::Malformed("Ed25519")),
            ),
            _ => None,
        })
    }

    /// The key with each algorithm for which `verifier` makes one.
    fn of(
        material: &[&[u8]],
        verifier: impl Fn(Algorithm) -> Option<Result<Verifier, KeyError>>,
    ) -> Result<Self, KeyError> {
        let verifiers = Algorithm::ALL
            .iter()
            .filter_map(|&algorithm| Some(verifier(algorithm)?.map(|verifier| (algorithm, verifier))))
            .collect::<Result<Vec<_>, _>>()?;
        if verifiers.is_empty() {
            return Err(KeyError::Algorithm);
        }
        Ok(Self { id: None, verifiers, print: print(material) })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn print(material: &[&[u8]]) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in material {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut print = [0; digest::SHA256_OUTPUT_LEN];
    print.copy_from_slice(context.finish().as_ref());
    print
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|b| **b == 0).count()..]
}
