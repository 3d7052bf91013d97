//! Puts a token on the requests that we make ourselves, so that no handler has to.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::authn::oauth::{Client, Endpoint};
//! use portcullis::authn::outbound::{OutboundLayer, TokenRequest, TokenSource};
//! use portcullis::{body::Body, fetch::Fetch};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio_test::block_on(async {
//! // The provider, and the service that is called.
//! let provider = service_fn(|_: Request<Body>| async {
//!     let answer = r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer","expires_in":3600}"#;
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::from(answer)))
//! });
//! let stock = service_fn(|call: Request<Body>| async move {
//!     assert_eq!(call.headers()["authorization"], "Bearer 2YotnFZFEjr1zCsicMWpAA");
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::from("12 left")))
//! });
//!
//! let endpoint = Endpoint::new(
//!     "https://id.shop.example/token",
//!     Client::secret_basic("orders", "s3cret"),
//!     Fetch::new(provider),
//! )?;
//! let tokens = TokenSource::client_credentials(TokenRequest::new(endpoint).scopes(["stock.read"]));
//! let stock = OutboundLayer::new(tokens).layer(stock);
//! assert_eq!(stock.oneshot(Request::new(Body::empty())).await?.status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # Example, customised
//!
//! The caller's token in exchange for one that is good for the service that is called, and nowhere else:
//!
//! ```
//! use portcullis::authn::Providers;
//! use portcullis::authn::jwt::{Jwt, KeySet};
//! use portcullis::authn::oauth::{Client, Endpoint};
//! use portcullis::authn::outbound::{OutboundLayer, TokenRequest, TokenSource};
//! use portcullis::fetch::Fetch;
//!
//! # fn example(keys: KeySet, fetch: Fetch) -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint =
//!     Endpoint::new("https://id.shop.example/token", Client::secret_basic("orders", "s3cret"), fetch)?;
//! let tokens = TokenSource::exchange(TokenRequest::new(endpoint).audience("stock").scopes(["stock.read"]));
//! let client = OutboundLayer::new(tokens);
//!
//! // Callers' tokens are taken out of requests. Here they are kept aside for the exchange.
//! let jwt = Jwt::new(keys).issuer("https://id.shop.example").audiences(["orders"]);
//! let server = Providers::new().with(jwt).keep_token().layer();
//! # let _ = (client, server);
//! # Ok(())
//! # }
//! ```
//!
//! # Where tokens come from
//!
//! | source | whose | kept |
//! |---|---|---|
//! | [`client_credentials`](TokenSource::client_credentials) (RFC 6749 section 4.4) | ours | one |
//! | [`exchange`](TokenSource::exchange) (RFC 8693) | the caller's, for this service | one for each caller's token, by its SHA-256 |
//! | [`file`](TokenSource::file), such as Kubernetes' projected service account token | ours | the file, for 10 s |
//! | [`danger_caller`](TokenSource::danger_caller) | the caller's own | none |
//!
//! A token is had once for all who want it. When 70% to 77% of its life have passed a new one is had in the background,
//! while calls go on with the old one; it is used until shortly before it ends (10 s, or a tenth of its life). So a provider
//! that is down is noticed only by whoever needs a token that nobody had.
//!
//! If the service answers 401, the token is had anew, at most once in 10 s, and the call is made once more if its body can
//! be: if all its bytes are at hand in a [`Body`](crate::body::Body), or in a body of `http-body-util`. If not, the next call
//! has the new token. After UNAUTHENTICATED in the head of a gRPC answer the next call has it, too.
//!
//! No token is in any log, error or `Debug`, and the header's value is marked as sensitive.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no token can be had: the provider does not answer, or refuses us | `TokenUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//! | an exchange for a caller without a token | `MissingCredentials` | 401 + `WWW-Authenticate` | UNAUTHENTICATED |
//! | the provider gives none in exchange for the caller's | `InvalidCredentials` | 401 + `WWW-Authenticate` | UNAUTHENTICATED |
//!
//! # Position
//!
//! Around a client, innermost but for balancing and connections: inside of retries, so that a later try has a token that is
//! good then, and inside of what logs requests. It replaces what stands in `Authorization`.
//!
//! # Shared state
//!
//! The [`TokenSource`] owns the tokens: clones, and layers made of them, share them. A call that is given up takes no token
//! with it.
//!
//! # Compared with tower
//!
//! tower-http's `AddAuthorization` adds one and the same.
//!
//! # Metrics
//!
//! The [`TokenSourceHandle`] shows how often a token was at hand, was had anew, could not be had and was refused; in a
//! gateway `portcullis_outbound_tokens_total` with the labels `upstream` and `result`, and
//! `portcullis_outbound_token_age_seconds`.

mod answer;
mod counts;
mod future;
mod layer;
mod origin;
mod source;

pub use counts::TokenSourceHandle;
pub use future::OutboundFuture;
pub use layer::{Outbound, OutboundLayer};
pub use origin::TokenRequest;
pub use source::TokenSource;

#[cfg(test)]
mod tests;
