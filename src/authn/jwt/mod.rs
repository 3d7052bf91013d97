//! Verifies JSON Web Tokens (RFC 7519), signed in compact form (RFC 7515).
//!
//! # Example
//!
//! ```
//! use portcullis::authn::jwt::{Jwt, KeySet};
//!
//! let keys = KeySet::jwks(r#"{ "keys": [{
//!     "kty": "EC", "crv": "P-256", "kid": "2026-11", "use": "sig", "alg": "ES256",
//!     "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
//!     "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
//! }] }"#)?;
//! let layer = Jwt::new(keys).issuer("https://id.shop.example").audiences(["shop"]).layer();
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::HeaderName;
//! use portcullis::authn::Location;
//! use portcullis::authn::jwt::{Algorithm, Jwt, Key, KeySet, Keys};
//!
//! let keys = Keys::from(KeySet::new([Key::secret(&[7; 64])?.only(&[Algorithm::Hs512])?])?);
//! let jwt = Jwt::new(keys.clone())
//!     .named("customers")
//!     .issuer("https://id.shop.example")
//!     .audiences(["shop", "shop-admin"])
//!     .algorithms([Algorithm::Hs512])
//!     .types(["at+jwt"])
//!     .require(["sub", "client_id"])
//!     .locations([Location::bearer(), Location::cookie("session")])
//!     .claim_header(HeaderName::from_static("x-user"), "sub")
//!     .roles_at("/realm_access/roles");
//!
//! // Later, without a restart:
//! keys.replace(KeySet::new([Key::secret(&[8; 64])?])?);
//! # let _ = jwt;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Several issuers
//!
//! [`also`](Jwt::also) makes one gate of several, each with its own keys, audiences, algorithms, required claims, skew,
//! scopes, roles and headers. A token's `iss` tells by whose rules it is looked at, and nobody else's are asked. In a list of
//! [providers](super::Providers), too, a token of another issuer is told by its `iss` and costs no signature.
//!
//! ```
//! use portcullis::authn::jwt::{Algorithm, Jwt, Key, KeySet};
//!
//! let (customers, staff) = (KeySet::new([Key::secret(&[7; 64])?])?, KeySet::new([Key::secret(&[8; 64])?])?);
//! let jwt = Jwt::new(customers).named("customers").issuer("https://id.shop.example").audiences(["shop"]).also(
//!     Jwt::new(staff)
//!         .named("staff")
//!         .issuer("https://login.corp.example/realms/staff")
//!         .audiences(["shop-admin"])
//!         .algorithms([Algorithm::Hs512])
//!         .scopes_at("/permissions")
//!         .roles_at("/realm_access/roles"),
//! );
//! # let _ = jwt;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is checked
//!
//! In this order; of the payload nothing but `iss` is looked at before its signature has been verified:
//!
//! 1. There is one token, in one of the [locations](Jwt::locations), of at most [`MAX_SIZE`](Jwt::MAX_SIZE) bytes.
//! 2. It has three parts of base64url without padding, and is of an issuer that is known here.
//! 3. Its header is a JSON object with an `alg` that is allowed, a `typ` that is [taken](Jwt::types), and no `crit`. Keys that
//!    it brings along (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
//! 4. A [key](KeySet) verifies the signature with that algorithm. The key decides which algorithms may be used with it.
//! 5. The claims are a JSON object. `exp`, `nbf` and `iat` are numbers between 1970 and the year 9999, `iss` and `sub` are
//!    strings, `aud` is a string or a list of strings, `scope` and `scp` too, and `cnf` is an object.
//! 6. `exp` is there and has not passed and `nbf` has come, give or take 60 s; `iss` is the issuer; `aud` names one of
//!    the audiences, or nobody where there are none; the [required](Jwt::require) claims are there and say something.
//! 7. A token that is bound to a certificate by `cnf` (RFC 8705) comes over a connection with that certificate, by the
//!    [`PeerIdentity`](crate::identity::PeerIdentity) in the extensions. One that is bound in a way that cannot be checked
//!    here is not taken.
//!
//! In no object, however deep, of header and claims, may a name stand twice, and none is nested deeper than 128.
//!
//! That is what RFC 8725 asks for, as far as it concerns who verifies; [`access_tokens`](Jwt::access_tokens) is the profile of
//! RFC 9068.
//!
//! The principal is (provider, `iss`, `sub`), its scopes are those of `scope` or else of `scp`, or of another
//! [claim](Jwt::scopes_at), its roles those of [`roles`](Jwt::roles_at). Which scopes and roles may do what, any of them or
//! all, is a matter of authorization. Tokens of one issuer that have no `sub` are one principal: require it if that
//! matters. The [`Claims`] are in the request's extensions.
//!
//! # Tokens that were seen before
//!
//! A client sends its token with each request until it ends, and a signature costs 50 us where all else costs less than one.
//! So a token that was found valid is [remembered](Jwt::memory), under the rules by which it was and as a whole, byte by byte,
//! with the key that verified it. The next time its signature is not verified again, and nothing else is left out: `exp` and
//! `nbf`, the certificate to which it is bound, and whether that key is still in the set. The audiences are part of the rules:
//! others have nothing remembered. A key that leaves the set takes along what it verified.
//!
//! What is remembered is bounded in bytes, a read takes no lock, and who floods us with valid tokens makes us forget and
//! verify again. A token costs its own length and 0.5 KB, and three quarters of its length again once somebody reads its
//! claims by name. Tokens stay in memory until they are ended *and* their place is wanted; with [`memory(0)`](Jwt::memory) none
//! does.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no token | `MissingCredentials` | 401 + `WWW-Authenticate: Bearer realm="api"` | UNAUTHENTICATED |
//! | the token is not valid, or too large, or bound to another sender | `InvalidCredentials` | 401 + the same with `error="invalid_token"` | UNAUTHENTICATED |
//! | two tokens, an empty one, or one that is not visible ASCII | `InvalidCredentials` | 401 + the same with `error="invalid_request"` | UNAUTHENTICATED |
//! | the keys are not known yet | `KeysUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//!
//! RFC 6750 would have 400 for the third row. It is 401 here, so that whatever is wrong with credentials is told in
//! one way. Why a token is not valid is told to logs only: [`TokenError`].
//!
//! # Position
//!
//! As [authentication](super) in general.
//!
//! # Shared state
//!
//! The [`Keys`]: one atomic pointer, read without a lock. The [remembered tokens](#tokens-that-were-seen-before), by all clones
//! with the same rules.
//!
//! # Compared with tower
//!
//! tower-http has no counterpart.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason with all others.

mod algorithm;
#[cfg(feature = "axum")]
mod axum;
pub(super) mod binding;
pub(super) mod claims;
mod gate;
mod headers;
pub(super) mod issuer;
pub(super) mod json;
mod jwk;
mod key;
mod key_set;
mod keys;
pub(super) mod memory;
pub(in crate::authn) mod pem;
pub(super) mod pointer;
pub(super) mod rules;
mod token;
pub(super) mod verify;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use claims::Claims;
pub use gate::Jwt;
pub use key::{Key, KeyError};
pub use key_set::{KeySet, KeySetError, MAX_DOCUMENT, MAX_KEYS, Skipped};
pub use keys::Keys;
pub(in crate::authn) use keys::{Keeper, WeakKeys};
pub use pointer::Pointer;
pub use token::TokenError;

#[cfg(test)]
mod tests;
