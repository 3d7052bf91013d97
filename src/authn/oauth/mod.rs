//! The client's side of OAuth 2.0: how we prove who we are at a provider's endpoints, and ask them.
//!
//! [`introspection`](super::introspection) asks about the tokens of others, and [`outbound`](super::outbound) for tokens
//! of our own. Both are given an [`Endpoint`]: where it is, as which [`Client`] we come, and through which
//! [`Fetch`](crate::fetch::Fetch).
//!
//! # Example
//!
//! ```
//! use http::Response;
//! use portcullis::authn::oauth::{Client, Endpoint};
//! use portcullis::{body::Body, fetch::Fetch};
//!
//! # let http = tower::service_fn(|_: http::Request<Body>| async {
//! #     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! # });
//! let client = Client::secret_basic("gateway", "s3cret");
//! let endpoint = Endpoint::new("https://id.shop.example/introspect", client, Fetch::new(http))?;
//! # let _ = endpoint;
//! # Ok::<(), portcullis::authn::oauth::InvalidEndpoint>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::Response;
//! use portcullis::authn::oauth::{Client, Endpoint, SigningKey};
//! use portcullis::{body::Body, fetch::Fetch, trip};
//! use std::time::Duration;
//!
//! # let http = tower::service_fn(|_: http::Request<Body>| async {
//! #     Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
//! # });
//! # let pem = b"-----BEGIN PRIVATE KEY-----
//! # MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
//! # -----END PRIVATE KEY-----";
//! // No secret is shared: what we know of each call is signed (RFC 7523).
//! let key = SigningKey::pem(pem)?.named("2026-11");
//! let client = Client::private_key_jwt("gateway", key).audience("https://id.shop.example");
//! let fetch = Fetch::new(http).timeout(Duration::from_secs(2));
//! let endpoint = Endpoint::new("https://id.shop.example/token", client, fetch)?.breaker(trip::Policy::new());
//! # let _ = endpoint;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When the provider does not answer
//!
//! Each call has the time of its [`Fetch`](crate::fetch::Fetch), 5 s unless told, and its answer at most
//! [`MAX_ANSWER`](Endpoint::MAX_ANSWER) bytes. A redirect is no answer: a token or a secret is not carried elsewhere. What
//! fails is counted by a breaker ([`trip`](crate::trip)): while it is open nobody asks, and whoever would have to is told at
//! once when it makes sense again. Failed is a call that got no answer, one with a status that blames the provider
//! (5xx) or us (401, 429), and, where we ask for a token of our own, any other that cannot be used. What is answered to the
//! token of a caller (400, 403, 404, 413, what cannot be understood) counts neither as failed nor as well: anybody can make
//! up a token that a provider does not like.
//!
//! Neither tokens nor secrets are in any log, error or `Debug`.
//!
//! # Shared state
//!
//! Clones of an [`Endpoint`] share its breaker.
//!
//! # Metrics
//!
//! None of its own: [`introspection`](super::introspection) and [`outbound`](super::outbound) count what they ask.

mod client;
mod endpoint;
mod form;
mod signing;

pub use client::Client;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub(super) use endpoint::{Odd, Unavailable, Words};
pub(super) use form::Form;
pub use signing::SigningKey;

#[cfg(test)]
pub(super) mod stub;
#[cfg(test)]
mod tests;
