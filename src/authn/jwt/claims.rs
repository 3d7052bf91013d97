use std::{borrow::Cow, fmt, sync::OnceLock};

use serde::Deserialize;
use serde_json::Value;

use super::{TokenError, pointer, token};
use crate::identity::{ClaimLookup, Principal};

/// The claims of a verified token, found in the request's extensions.
///
/// A clone is a pointer. With the feature `axum` it is an extractor.
///
/// ```
/// # use portcullis::authn::jwt::Claims;
/// #[derive(serde::Deserialize)]
/// struct Shopper { sub: String, tier: Option<u8> }
///
/// fn handler(request: &http::Request<()>) -> Option<Shopper> {
///     request.extensions().get::<Claims>()?.deserialize().ok()
/// }
/// ```
// The principal has them too, and is counted already: two threads that share a token share one count, not two.
#[derive(Clone)]
pub struct Claims(Principal);

/// A decoded payload.
pub(in crate::authn) struct Json {
    // What most tokens say stands where it is, and costs no allocation of its own.
    short: [u8; Self::SHORT],
    long: Vec<u8>,
    len: usize,
}

impl Json {
    const SHORT: usize = 488;

    pub(in crate::authn) fn decode(payload: &str) -> Result<Self, TokenError> {
        let most = payload.len() / 4 * 3 + payload.len() % 4;
        let mut json = Self { short: [0; Self::SHORT], long: Vec::new(), len: 0 };
        let buffer = match json.short.get_mut(..most) {
            Some(short) => short,
            None => {
                json.long.resize(most, 0);
                &mut json.long
            }
        };
        json.len = token::decode(payload, buffer)?;
        Ok(json)
    }

    pub(in crate::authn) fn of(json: &[u8]) -> Self {
        let mut own = Self { short: [0; Self::SHORT], long: Vec::new(), len: json.len() };
        match own.short.get_mut(..json.len()) {
            Some(short) => short.copy_from_slice(json),
            None => own.long = json.to_vec(),
        }
        own
    }

    pub(in crate::authn) fn as_slice(&self) -> &[u8] {
        let bytes = if self.long.is_empty() { &self.short[..] } else { &self.long[..] };
        &bytes[..self.len]
    }
}

/// A token that is kept, whose payload is decoded again for the first who reads it. So one that nobody reads does not
/// stand in memory twice.
pub(super) struct Remembered {
    token: Box<str>,
    json: OnceLock<Box<[u8]>>,
}

impl Remembered {
    pub(super) fn new(token: &str) -> Self {
        Self { token: token.into(), json: OnceLock::new() }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.token.as_bytes()
    }

    fn json(&self) -> &[u8] {
        self.json.get_or_init(|| {
            // It is a token, and has been decoded before.
            let payload = self.token.split('.').nth(1).unwrap_or_default();
            Json::decode(payload).map(|json| json.as_slice().into()).unwrap_or_default()
        })
    }

    /// What it keeps beside the token, or will.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + self.token.len() / 4 * 3
    }
}

impl Claims {
    /// Those of this principal.
    pub(in crate::authn) fn of(principal: &Principal) -> Self {
        Self(principal.clone())
    }

    /// The claims as a type of yours.
    ///
    /// # Errors
    /// The claims do not fit the type.
    pub fn deserialize<'c, T: Deserialize<'c>>(&'c self) -> serde_json::Result<T> {
        serde_json::from_slice(self.as_json())
    }

    /// One claim, by name or JSON pointer (see [`Pointer`](super::Pointer)).
    #[must_use]
    pub fn claim(&self, pointer: &str) -> Option<Value> {
        pointer::find(pointer, self.as_json()).ok().flatten()
    }

    /// The claims as the issuer wrote them: a JSON object in which no claim stands twice.
    #[must_use]
    pub fn as_json(&self) -> &[u8] {
        self.0.claims_json().unwrap_or_default()
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Claims {}

impl ClaimLookup for Json {
    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        pointer::text_at(name, self.as_slice())
    }

    fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
        pointer::any_text(name, self.as_slice(), found)
    }

    fn as_json(&self) -> Option<&[u8]> {
        Some(self.as_slice())
    }
}

impl ClaimLookup for Remembered {
    fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        pointer::text_at(name, self.json())
    }

    fn any_claim(&self, name: &str, found: &mut dyn FnMut(&str) -> bool) -> bool {
        pointer::any_text(name, self.json(), found)
    }

    fn as_json(&self) -> Option<&[u8]> {
        Some(self.json())
    }
}

impl fmt::Debug for Claims {
    /// What a token says about a person does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}
