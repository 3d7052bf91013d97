//! Asks the provider about tokens that only it can read (RFC 7662).
//!
//! # Example
//!
//! ```
//! use http::Response;
//! use portcullis::authn::{introspection::Introspection, oauth::{Client, Endpoint}};
//! use portcullis::{body::Body, fetch::Fetch};
//!
//! # let http = tower::service_fn(|_: http::Request<Body>| async {
//! #     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! # });
//! let client = Client::secret_basic("gateway", "s3cret");
//! let endpoint = Endpoint::new("https://id.shop.example/introspect", client, Fetch::new(http))?;
//! let layer = Introspection::builder(endpoint).audiences(["shop"]).build().layer();
//! # let _ = layer;
//! # Ok::<(), portcullis::authn::oauth::InvalidEndpoint>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::{HeaderName, Response};
//! use portcullis::authn::jwt::{Jwt, KeySet};
//! use portcullis::authn::{Providers, introspection::Introspection, oauth::{Client, Endpoint}};
//! use portcullis::{body::Body, fetch::Fetch};
//! use std::time::Duration;
//!
//! # let http = tower::service_fn(|_: http::Request<Body>| async {
//! #     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! # });
//! # let keys = KeySet::jwks(r#"{"keys":[{"kty":"OKP","crv":"Ed25519",
//! #     "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#)?;
//! let fetch = Fetch::new(http).timeout(Duration::from_secs(2));
//! let endpoint =
//!     Endpoint::new("https://id.shop.example/introspect", Client::secret_post("gateway", "s3cret"), fetch)?;
//! let opaque = Introspection::builder(endpoint)
//!     .named("customers")
//!     .issuer("https://id.shop.example")
//!     .audiences(["shop"])
//!     .require(["sub"])
//!     .claim_header(HeaderName::from_static("x-user"), "sub")
//!     .remember(Duration::from_secs(10)) // what is revoked is let in for so long
//!     .build();
//! let handle = opaque.handle();
//!
//! // Tokens that can be verified here are; only about the others somebody is asked.
//! let jwt = Jwt::new(keys).issuer("https://id.shop.example").audiences(["shop"]);
//! let layer = Providers::new().with(jwt).with(opaque).layer();
//! assert_eq!(handle.calls(), 0);
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is asked, and checked
//!
//! 1. There is one token, in one of the [locations](IntrospectionBuilder::locations), of at most
//!    [`MAX_SIZE`](Introspection::MAX_SIZE) bytes, and of the [shape](Takes) that is asked about.
//! 2. Nothing is remembered of it. What is remembered is found by the token's SHA-256; the token itself is not kept.
//! 3. The provider is asked, once for all requests with this token, and says in JSON that it is `active`. Signed answers
//!    (RFC 9701) are not asked for and not understood: the connection says who answers.
//! 4. Its words are held to the [rules for tokens](super::jwt#what-is-checked): types, no name twice, `iss`, `aud`, the
//!    [required](IntrospectionBuilder::require) ones. `exp` need not be there.
//! 5. For each request, asked or remembered: `exp` has not passed and `nbf` has come, give or take 60 s.
//!
//! The principal is made of the answer as of a token's claims, and the [`Claims`](super::jwt::Claims) are in the request's
//! extensions.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no token | `MissingCredentials` | 401 + `WWW-Authenticate: Bearer realm="api"` | UNAUTHENTICATED |
//! | the token is not active, not for us, too large, or none that is asked about | `InvalidCredentials` | 401 + the same with `error="invalid_token"` | UNAUTHENTICATED |
//! | two tokens, an empty one, or one that is not visible ASCII | `InvalidCredentials` | 401 + the same with `error="invalid_request"` | UNAUTHENTICATED |
//! | the provider does not answer, or not in a way that can be understood, or was not asked because of that | `ProviderUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//! | [too many](IntrospectionBuilder::max_calls) tokens are asked about | `ProviderUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//! | too many [of this address](IntrospectionBuilder::max_calls_each) | `RateLimited` | 429 + `Retry-After` | RESOURCE_EXHAUSTED |
//!
//! # When the provider fails
//!
//! Callers choose what it is asked about. So an answer that says nothing, an error or one that is late is remembered of
//! its token for two seconds, and counts for the breaker once for each address (see
//! [`trip`](crate::trip#who-is-to-blame)): a stranger with tokens at which the provider fails keeps nobody from being
//! asked about, and a provider that fails for everybody is spared. No connection, 401 (we are not known there) and 429
//! count each time.
//!
//! # Position
//!
//! As [authentication](super) in general; inside of limits by address above all, because each token that somebody makes up
//! is a call.
//!
//! # Shared state
//!
//! What is remembered, the calls under way and the breaker: clones of an [`Introspection`] share them. A caller that goes
//! away takes no answer with it: the call goes on for those who wait with it, and for the next.
//!
//! # Compared with tower
//!
//! tower-http has no counterpart.
//!
//! # Metrics
//!
//! The [`IntrospectionHandle`] shows calls by result, and how often none was needed; in a gateway
//! `portcullis_introspections_total` with the labels `provider` and `result`.

mod asking;
mod builder;
mod callers;
mod counts;
mod gate;
mod verdict;

pub use builder::IntrospectionBuilder;
pub use counts::IntrospectionHandle;
pub use gate::{Introspection, Takes};

#[cfg(test)]
mod tests;
