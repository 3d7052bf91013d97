use http::HeaderValue;

use crate::reject::{Reason, Rejection, challenge};

/// The challenges of one provider, rendered once (RFC 6750 section 3, RFC 9110 section 11.6.1).
#[derive(Debug, Clone)]
pub(super) struct Challenges {
    plain: HeaderValue,
    invalid_token: HeaderValue,
    invalid_request: HeaderValue,
}

impl Challenges {
    #[cfg(feature = "jwt")]
    pub(super) fn bearer(realm: &str) -> Self {
        let with = |error| challenge("Bearer", realm, error);
        Self {
            plain: with(""),
            invalid_token: with(r#", error="invalid_token""#),
            invalid_request: with(r#", error="invalid_request""#),
        }
    }

    /// No standard has a scheme for API keys, and so none has error codes.
    pub(super) fn api_key(realm: &str) -> Self {
        let plain = challenge("ApiKey", realm, "");
        Self { invalid_token: plain.clone(), invalid_request: plain.clone(), plain }
    }

    /// For a request without credentials: no error code (RFC 6750 section 3.1).
    pub(super) fn plain(&self) -> HeaderValue {
        self.plain.clone()
    }

    pub(super) fn invalid_token(&self) -> Rejection {
        Rejection::new(Reason::InvalidCredentials).challenge(self.invalid_token.clone())
    }

    pub(super) fn invalid_request(&self) -> Rejection {
        Rejection::new(Reason::InvalidCredentials).challenge(self.invalid_request.clone())
    }
}
