use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::{Algorithm, Key, KeyError};

/// The most characters of a `kid`.
const MAX_ID: usize = 1024;

/// The members of a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037) that matter for verifying. A member that
/// stands twice is an error.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
    #[serde(default)]
    k: Option<String>,
    #[serde(default)]
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    pub(super) fn read(json: &str) -> Result<Self, KeyError> {
        // The parser's own message would quote the key.
        serde_json::from_str(json).map_err(|_| KeyError::Malformed("not a JSON Web Key"))
    }

    pub(super) fn into_key(self) -> Result<Key, KeyError> {
        self.meant_for_verifying()?;
        if self.d.is_some() {
            return Err(KeyError::Private);
        }
        let mut key = self.material()?;
        if let Some(name) = &self.alg {
            let algorithm: Algorithm = name.parse().map_err(|_| KeyError::Algorithm)?;
            key = key.only(&[algorithm])?;
        }
        match self.kid {
            Some(id) if id.len() > MAX_ID => Err(KeyError::Malformed("kid is too long")),
            Some(id) => Ok(key.named(id)),
            None => Ok(key),
        }
    }

    fn meant_for_verifying(&self) -> Result<(), KeyError> {
        let purpose = self.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let operation = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if purpose && operation { Ok(()) } else { Err(KeyError::Purpose) }
    }

    fn material(&self) -> Result<Key, KeyError> {
        match self.kty.as_str() {
            "EC" => self.ec(),
            "OKP" if self.crv.as_deref() == Some("Ed25519") => Key::ed25519(&bytes(&self.x, "x")?),
            "OKP" => Err(KeyError::Curve),
            "RSA" => Key::rsa_components(&bytes(&self.n, "n")?, &bytes(&self.e, "e")?),
            "oct" => Key::secret(&bytes(&self.k, "k")?),
            _ => Err(KeyError::Type),
        }
    }

    /// Coordinates have the full length of the curve's field (RFC 7518 section 6.2.1.2).
    fn ec(&self) -> Result<Key, KeyError> {
        let length = match self.crv.as_deref() {
            Some("P-256") => 32,
            Some("P-384") => 48,
            Some("P-521") => 66,
            _ => return Err(KeyError::Curve),
        };
        let (x, y) = (bytes(&self.x, "x")?, bytes(&self.y, "y")?);
        if x.len() != length || y.len() != length {
            return Err(KeyError::Curve);
        }
        Key::ec(&[&[4][..], &x, &y].concat())
    }
}

fn bytes(member: &Option<String>, name: &'static str) -> Result<Vec<u8>, KeyError> {
    let text = member.as_deref().ok_or(KeyError::Malformed(name))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Malformed(name))
}
