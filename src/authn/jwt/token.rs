use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::MapAccess;

use super::{
    Algorithm,
    json::{self, Members, Skipped, Text},
};

/// The largest header, decoded, in bytes.
const MAX_HEADER: usize = 4096;
/// The largest signature, in bytes: RSA with 8192 bits.
pub(super) const MAX_SIGNATURE: usize = 1024;

/// Why a token is not valid. For logs: strangers are told `invalid_token` and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The `alg` is unknown, or is not allowed here.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// `aud` names none of the audiences, or is missing.
    #[error("the token is for another audience")]
    Audience,
    /// It is bound to somebody else's certificate (RFC 8705), or in a way that cannot be proven here.
    #[error("the token is bound to another sender")]
    Binding,
    /// A claim has the wrong type or stands twice, or the claims are no JSON object.
    #[error("the token's claims are malformed")]
    Claims,
    /// The header has `crit` (RFC 7515 section 4.1.11), and no extension is understood here.
    #[error("the token asks for an extension that is not supported")]
    Critical,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// The header has a member of the wrong type, or one that stands twice, or is no JSON object.
    #[error("the token's header is malformed")]
    Header,
    /// The provider says that it is not active (RFC 7662 section 2.2).
    #[error("the provider says that the token is not active")]
    Inactive,
    /// `iss` is another, or is missing.
    #[error("the token has another issuer")]
    Issuer,
    /// The keys are not known yet, or the key that the token names is not among them and they are being asked for
    /// anew: nothing can be said about the token.
    #[error("the keys are not known yet")]
    KeysUnknown,
    /// It is not three parts of base64url without padding.
    #[error("not a signed token in compact form")]
    Malformed,
    /// A claim is missing that must be there.
    #[error("the token lacks a required claim")]
    Missing,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// No key verifies the signature.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is larger than allowed.
    #[error("the token is too large")]
    TooLarge,
    /// `typ` says that it is a token of another kind (RFC 8725 section 3.11).
    #[error("a token of this type is not taken")]
    Type,
    /// It is bound to no certificate, and must be.
    #[error("the token is bound to no sender")]
    Unbound,
    /// No key has the name that the token gives.
    #[error("no key has the token's key id")]
    UnknownKey,
}

/// A token in compact form, taken apart and nothing believed (RFC 7515 section 7.1).
pub(super) struct Parts<'t> {
    pub(super) header: &'t str,
    pub(super) payload: &'t str,
    pub(super) signed: &'t [u8],
    signature: &'t str,
}

/// What of a token's header (RFC 7515 section 4.1) is looked at. Keys that a token brings along or points to (`jwk`,
/// `jku`, `x5c`, `x5u`) are not.
#[derive(Debug, Default)]
pub(super) struct Header<'h> {
    algorithm: Option<Text<'h>>,
    key_id: Option<Text<'h>>,
    token_type: Option<Text<'h>>,
    critical: bool,
}

impl<'t> Parts<'t> {
    pub(super) fn of(token: &'t str) -> Result<Self, TokenError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.') {
            return Err(TokenError::Malformed);
        }
        Ok(Self { header, payload, signed: signed.as_bytes(), signature })
    }

    /// Calls `then` with the header, decoded on the stack unless it is unusually large.
    pub(super) fn with_header<T>(
        &self,
        then: impl FnOnce(&Header<'_>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        const USUAL: usize = 384;

        let length = self.header.len() / 4 * 3 + 3;
        if length > MAX_HEADER {
            return Err(TokenError::Header);
        }
        let (mut usual, mut large) = ([0; USUAL], Vec::new());
        let buffer = if length <= USUAL {
            &mut usual[..]
        } else {
            large.resize(length, 0);
            &mut large[..]
        };
        let length = decode(self.header, buffer)?;
        then(&Header::read(&buffer[..length])?)
    }

    /// The signature, decoded into `buffer`.
    pub(super) fn signature<'b>(&self, buffer: &'b mut [u8; MAX_SIGNATURE]) -> Result<&'b [u8], TokenError> {
        let length = decode(self.signature, buffer)?;
        Ok(&buffer[..length])
    }
}

impl<'h> Header<'h> {
    fn read(json: &'h [u8]) -> Result<Self, TokenError> {
        let mut header = Self::default();
        json::read(json, &mut header).map_err(|_| TokenError::Header)?;
        if header.critical { Err(TokenError::Critical) } else { Ok(header) }
    }

    /// The same, of its own.
    pub(super) fn to_static(&self) -> Header<'static> {
        let Self { algorithm, key_id, token_type, critical } = self;
        let owned = |text: &Option<Text<'_>>| Some(Text(text.as_ref()?.0.clone().into_owned().into()));
        let [algorithm, key_id, token_type] = [algorithm, key_id, token_type].map(owned);
        Header { algorithm, key_id, token_type, critical: *critical }
    }

    pub(super) fn algorithm(&self) -> Result<Algorithm, TokenError> {
        let name = self.algorithm.as_ref().ok_or(TokenError::Header)?;
        name.0.parse().map_err(|_| TokenError::Algorithm)
    }

    pub(super) fn key_id(&self) -> Option<&str> {
        self.key_id.as_ref().map(|text| &*text.0)
    }

    /// The `typ` without the `application/` that may be left out (RFC 7515 section 4.1.9).
    pub(super) fn token_type(&self) -> Option<&str> {
        const PREFIX: &str = "application/";

        let text = &*self.token_type.as_ref()?.0;
        match text.get(..PREFIX.len()) {
            Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => text.get(PREFIX.len()..),
            _ => Some(text),
        }
    }
}

impl<'h> Members<'h> for Header<'h> {
    fn member<A: MapAccess<'h>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "alg" => self.algorithm = Some(map.next_value()?),
            "kid" => self.key_id = Some(map.next_value()?),
            "typ" => self.token_type = Some(map.next_value()?),
            // `b64` (RFC 7797) changes what is signed, and must not be overlooked where `crit` forgot to name it.
            "b64" => self.critical |= !map.next_value::<bool>()?,
            "crit" => {
                map.next_value::<Skipped>()?;
                self.critical = true;
            }
            _ => {
                map.next_value::<Skipped>()?;
            }
        }
        Ok(())
    }
}

/// Strict base64url: no padding, no bits left over, so that a token has one form only.
pub(super) fn decode(text: &str, into: &mut [u8]) -> Result<usize, TokenError> {
    URL_SAFE_NO_PAD.decode_slice(text, into).map_err(|_| TokenError::Malformed)
}
