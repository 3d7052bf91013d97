//! Somebody who signs tokens, and what they look like.

pub(super) use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

pub(super) use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, KeyPair},
};
use aws_lc_rs::{
    rsa,
    signature::{Ed25519KeyPair, RsaKeyPair, RsaPublicKeyComponents},
};
pub(super) use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
pub(super) use serde_json::{Value, json};

pub(super) use super::super::*;
pub(super) use crate::time::ManualClock;

/// What the clock says in these tests, in seconds since 1970.
pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const ISSUER: &str = "https://id.example";
pub(super) const SECRET: &[u8; 64] = &[7; 64];

/// Somebody who signs tokens with one key and one algorithm.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    pub(super) secret: Secret,
}

pub(super) enum Secret {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Mac(Box<hmac::Key>),
    Rsa(&'static RsaKeyPair, &'static signature::RsaSignatureEncoding),
}

/// Making an RSA key takes a while.
static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap());

impl Signer {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        let ec = |curve| Secret::Ec(EcdsaKeyPair::generate(curve).unwrap());
        let mac = |hash| Secret::Mac(Box::new(hmac::Key::new(hash, SECRET)));
        let secret = match algorithm {
            Algorithm::EdDsa => Secret::Ed(Ed25519KeyPair::generate().unwrap()),
            Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::Hs256 => mac(hmac::HMAC_SHA256),
            Algorithm::Hs384 => mac(hmac::HMAC_SHA384),
            Algorithm::Hs512 => mac(hmac::HMAC_SHA512),
            Algorithm::Ps256 => Secret::Rsa(&RSA, &signature::RSA_PSS_SHA256),
            Algorithm::Ps384 => Secret::Rsa(&RSA, &signature::RSA_PSS_SHA384),
            Algorithm::Ps512 => Secret::Rsa(&RSA, &signature::RSA_PSS_SHA512),
            Algorithm::Rs256 => Secret::Rsa(&RSA, &signature::RSA_PKCS1_SHA256),
            Algorithm::Rs384 => Secret::Rsa(&RSA, &signature::RSA_PKCS1_SHA384),
            Algorithm::Rs512 => Secret::Rsa(&RSA, &signature::RSA_PKCS1_SHA512),
        };
        Self { algorithm, secret }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Ed(key) => key.sign(message).as_ref().to_vec(),
            Secret::Mac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Secret::Rsa(key, padding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// The public key as a JWK, or the secret.
    pub(super) fn jwk(&self) -> Value {
        match &self.secret {
            Secret::Ec(key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y) })
            }
            Secret::Ed(key) => json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().as_ref()) }),
            Secret::Mac(_) => json!({ "kty": "oct", "k": b64(SECRET) }),
            Secret::Rsa(key, _) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": b64(&public.n), "e": b64(&public.e) })
            }
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::jwk(&self.jwk().to_string()).unwrap()
    }

    /// A token with this payload and the header that belongs to it.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_of(&json!({ "alg": self.algorithm.name(), "typ": "JWT" }).to_string(), &claims.to_string())
    }

    /// A token of these texts, whatever they are.
    pub(super) fn token_of(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = b64(&self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub(super) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn clock() -> ManualClock {
    ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
}

/// Claims that are in order.
pub(super) fn good() -> Value {
    json!({ "iss": ISSUER, "sub": "alice", "aud": "shop", "exp": NOW + 300 })
}

/// `good` with one claim put in its place, or taken away with null.
pub(super) fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

/// A gate for tokens of `signer`.
pub(super) fn jwt(signer: &Signer) -> Jwt {
    of_keys(KeySet::new([signer.key()]).unwrap()).issuer(ISSUER)
}

/// A gate for tokens of whoever has one of these keys.
pub(super) fn of_keys(keys: impl Into<Keys>) -> Jwt {
    Jwt::new(keys).audiences(["shop"]).clock(clock().clock())
}

pub(super) fn error(jwt: &Jwt, token: &str) -> Option<TokenError> {
    jwt.verify(token).err()
}
