//! Keys over the network: fetched from a provider, kept up to date, shared by any number of layers.
//!
//! # Example
//!
//! ```
//! use portcullis::authn::{jwks::RemoteKeys, jwt::Jwt};
//! use portcullis::fetch::Fetch;
//! # use portcullis::body::Body;
//!
//! # fn example(client: Fetch) -> Result<(), Box<dyn std::error::Error>> {
//! // client: Fetch::new(upstream::Client::builder().tls(ClientTls::platform()?).build())
//! let keys = RemoteKeys::discover("https://id.shop.example", client).build()?;
//! let layer = Jwt::new(&keys).issuer("https://id.shop.example").audiences(["shop"]).layer();
//! // keys.ready().await: before traffic is let in
//! # let _ = layer;
//! # Ok(())
//! # }
//! # let fetch = Fetch::new(tower::service_fn(|_: http::Request<Body>| async {
//! #     Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
//! # }));
//! # example(fetch)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! Any tower service is a client. This one answers by itself:
//!
//! ```
//! use http::{Request, Response};
//! use portcullis::authn::jwks::{RemoteKeys, RemoteState};
//! use portcullis::{body::Body, fetch::Fetch};
//! use std::{convert::Infallible, time::Duration};
//!
//! # tokio_test::block_on(async {
//! let client = tower::service_fn(|_: Request<Body>| async {
//!     let set = r#"{ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "2026-11",
//!         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }, { "kty": "of another kind" }] }"#;
//!     Ok::<_, Infallible>(Response::builder().header("cache-control", "max-age=300").body(Body::from(set)).unwrap())
//! });
//! let keys = RemoteKeys::at("https://id.shop.example/keys", Fetch::new(client))
//!     .max_lifetime(Duration::from_secs(900))
//!     .stale_for(Duration::from_secs(4 * 3600))
//!     .wait(Duration::from_secs(2))
//!     .build()?;
//! keys.ready().await?;
//! let status = keys.status();
//! assert_eq!((status.state, status.keys, status.skipped), (RemoteState::Fresh, 1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! # What is fetched, and what is believed
//!
//! - A key set by its [URL](RemoteKeys::at), or through the metadata of an [issuer](RemoteKeys::discover):
//!   `/.well-known/openid-configuration` behind the issuer's path (OpenID Connect Discovery 1.0 section 4); if that is
//!   answered with 4xx, `/.well-known/oauth-authorization-server` before its path (RFC 8414 section 3.1). The document
//!   must name exactly the issuer that is configured. Its `jwks_uri` may be on another host, is believed for a day, and
//!   is asked for anew after a fetch that failed.
//! - Over `https`, unless [`danger_plain_http`](RemoteKeysBuilder::danger_plain_http) is chosen. A redirect leads
//!   nowhere but within the origin that was asked, three times at most.
//! - An answer of 200, of at most [`MAX_DOCUMENT`](super::jwt::MAX_DOCUMENT) bytes in at most 5 seconds, with at most
//!   [`MAX_KEYS`](super::jwt::MAX_KEYS) keys. Keys that cannot be used are left out and told in log and status; so are
//!   shared secrets (`oct`), which a published set cannot hold. A set without a usable key changes nothing.
//!
//! # When
//!
//! - First when [`ready`](RemoteKeys::ready) is called, or with the first token. Until a set is there, tokens are answered
//!   503, never 401: nobody knows that they are bad.
//! - Then again in the background, when 80 to 90% of the set's lifetime have passed: what `Cache-Control: max-age` or
//!   `Expires` say, less `Age`, between a minute and an hour; 10 minutes if they say nothing. No request waits for it.
//! - When a token names a key that is not in the set (or no key of a set without names verifies it): once for all who ask, and 10 seconds after the fetch before at the
//!   earliest, so that strangers with made-up names cannot make us hammer the provider. While it is being fetched, and
//!   for as long as it cannot be fetched, such tokens are answered 503; within 10 seconds of a set that does not have
//!   the key, 401.
//! - If a fetch fails, the last set stays in use, for a day after its lifetime. It is tried again after a second or less,
//!   growing to a minute.
//!
//! A key that has left the set verifies nothing from the next request on.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | the keys are not known yet, or not any more | `KeysUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//! | the token's key is not known, and may have come since | `KeysUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//!
//! The others are those of [`jwt`](super::jwt).
//!
//! # Position
//!
//! None: it is no layer. The layers that are given its keys stand where [authentication](super) does.
//!
//! # Shared state
//!
//! The set is one atomic pointer, read without a lock. One task for each [`RemoteKeys`] that was built, whoever shares
//! it, in the runtime that used it first; it ends when the last handle and the last layer are dropped. A reload
//! [inherits](RemoteKeysBuilder::inherit).
//!
//! # Compared with tower
//!
//! tower and tower-http have no counterpart.
//!
//! # Metrics
//!
//! [`RemoteKeys::status`] tells the numbers. A [gateway](crate::stack) shows them as `key_set_fetches_total` by `provider`
//! and `result`, `key_set_age_seconds`, `key_set_keys` and `key_set_skipped_keys`, and in its `/status`.

mod fault;
mod keeper;
mod metadata;
mod remote;
mod schedule;
mod source;
mod status;

pub use fault::KeysNotReady;
pub use metadata::{InvalidUrl, MetadataError};
pub use remote::{RemoteKeys, RemoteKeysBuilder};
pub use status::{FetchResult, RemoteState, RemoteStatus};

#[cfg(test)]
mod tests;
