//! Verifies API keys, of which only hashes are kept.
//!
//! # Example
//!
//! ```
//! use http::Request;
//! use portcullis::authn::api_key::{self, ApiKey, KeyTable};
//! use portcullis::{gate::Gate, head::Head, identity::Principal};
//!
//! let minted = api_key::mint("shop", "acme")?.with(|entry| entry.scopes(["orders.read"]));
//! let gate = ApiKey::new(KeyTable::new("partners", [minted.entry().clone()])?);
//!
//! let mut request = Request::get("/orders").header("x-api-key", minted.reveal()).body(())?;
//! gate.check(&mut Head::of(&mut request)).unwrap();
//! assert!(request.extensions().get::<Principal>().unwrap().has_scope("orders.read"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example, customised
//!
//! ```
//! use http::header::AUTHORIZATION;
//! use portcullis::authn::Location;
//! use portcullis::authn::api_key::{ApiKey, ApiKeys, KeyEntry, KeyHash, KeyTable};
//!
//! let hash: KeyHash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".parse()?;
//! let entry = KeyEntry::new("0123456789ab", hash, "acme").scopes(["orders.read"]).plan("gold");
//! let keys = ApiKeys::from(KeyTable::new("partners", [entry])?);
//! let layer = ApiKey::new(keys.clone())
//!     .locations([Location::scheme(AUTHORIZATION, "ApiKey"), Location::query("key")])
//!     .realm("shop")
//!     .layer();
//!
//! // Later, without a restart:
//! keys.replace(KeyTable::new("partners", [])?);
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a key is
//!
//! `shop_0123456789ab_` and 49 more letters and digits: a prefix that says whose keys these are, a public part by which
//! the key is found and talked about, 256 bits of secret, and a checksum that tells typing errors from wrong keys.
//! [`mint`] makes one. What is kept is a [`KeyEntry`]: the public part, [a hash](KeyHash), the owner, and what the key
//! may do. A key file is a list of them:
//!
//! ```yaml
//! keys:
//!   - id: "0123456789ab"
//!     hash: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//!     owner: "acme"
//!     scopes: ["orders.write", "orders.read"]
//!     plan: "gold"
//!     expires: "2027-02-19T08:00:00Z"
//! ```
//!
//! A key is looked up by its public part and its hash is compared in constant time. An unknown key is hashed too and
//! compared with a dummy, so that neither the answer nor the time tells which keys there are.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no key | `MissingCredentials` | 401 + `WWW-Authenticate: ApiKey realm="api"` | UNAUTHENTICATED |
//! | unknown, expired, malformed, or two keys | `InvalidCredentials` | 401 + the same | UNAUTHENTICATED |
//!
//! # Position
//!
//! As [authentication](super) in general.
//!
//! # Shared state
//!
//! The [`ApiKeys`]: one atomic pointer, read without a lock.
//!
//! # Compared with tower
//!
//! tower-http's `ValidateRequestHeader` compares with one secret that is kept as it is.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason with all others.

mod date;
mod entry;
mod gate;
mod table;
mod text;

pub use entry::{InvalidText, KeyEntry, KeyHash, Minted, mint};
pub use gate::ApiKey;
pub use table::{ApiKeys, InvalidKey, KeyTable, KeyTableError, MAX_KEYS};

#[cfg(test)]
mod tests;
