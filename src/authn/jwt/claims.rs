use std::{fmt, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{Pointer, TokenError, token};

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
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(Arc<[u8]>);

impl Claims {
    /// Decodes a payload, in one allocation.
    pub(super) fn decode(payload: &str) -> Result<Self, TokenError> {
        let length = payload.len() / 4 * 3 + [0, 0, 1, 2][payload.len() % 4];
        let mut json: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let buffer = Arc::get_mut(&mut json).ok_or(TokenError::Malformed)?;
        if token::decode(payload, buffer)? == length { Ok(Self(json)) } else { Err(TokenError::Malformed) }
    }

    /// The claims as a type of yours.
    ///
    /// # Errors
    /// The claims do not fit the type.
    pub fn deserialize<'c, T: Deserialize<'c>>(&'c self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.0)
    }

    /// One claim, by name or JSON pointer (see [`Pointer`]).
    #[must_use]
    pub fn claim(&self, pointer: &str) -> Option<Value> {
        Pointer::from(pointer).find(&self.0).ok().flatten()
    }

    /// The claims as the issuer wrote them: a JSON object in which no claim stands twice.
    #[must_use]
    pub fn as_json(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Claims {
    /// What a token says about a person does not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}
