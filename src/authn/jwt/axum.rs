use ::axum::extract::FromRequestParts;
use http::request::Parts;

use super::Claims;
use crate::reject::{Reason, Rejection};

/// The claims of the token that the [`Jwt`](super::Jwt) gate verified.
///
/// Without one the handler is not behind that gate, or another provider let the caller in: 401.
impl<S: Sync> FromRequestParts<S> for Claims {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        parts.extensions.get().cloned().ok_or_else(|| Rejection::new(Reason::MissingCredentials))
    }
}
