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
//! the key is found and talked about, 256 bits of secret, and a checksum (the CRC-32 of all before it, in base 62). The
//! checksum tells typing errors from wrong keys without a look into any table ([`is_key`]), and what a
//! [secret scanner](PATTERN) finds from what only looks like a key. [`mint`] makes one.
//!
//! What is kept is a [`KeyEntry`]: the public part, [a hash](KeyHash), the owner, what the key may do, and from when
//! until when. A key file is a list of them:
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
//! # Where keys live
//!
//! A [`KeyStore`] keeps the entries: in [memory](MemoryKeyStore), in a file (`config::FileKeyStore`), on Redis
//! (`RedisKeyStore`, with the feature `redis`), or where you want. [`KeyAdmin`] makes keys there, lists, rotates,
//! revokes and restores them. A [`KeyFollower`] keeps the [`ApiKeys`] of this process like the store, so that a request
//! asks nobody: what changes in the store is in force within two seconds, and a store that is down is not noticed by
//! those who have keys.
//!
//! # What a request costs
//!
//! A key is looked up by its public part, and its hash is compared in constant time. An unknown key is hashed too and
//! compared with a dummy, so that neither the answer nor the time tells which keys there are; where there are
//! [peppers](Pepper), every key is hashed under one. When a key was last used is kept in the table, to a minute, and told
//! to the store once a minute: a request writes to no store.
//!
//! # Answers
//!
//! | when | reason | HTTP | gRPC |
//! |---|---|---|---|
//! | no key | `MissingCredentials` | 401 + `WWW-Authenticate: ApiKey realm="api"` | UNAUTHENTICATED |
//! | unknown, expired, revoked, not valid yet, malformed, or two keys | `InvalidCredentials` | 401 + the same | UNAUTHENTICATED |
//! | the same, from an address that has [failed too often](FailureLimit) | `RateLimited` | 429 + `Retry-After` | RESOURCE_EXHAUSTED |
//! | no keys were ever read from the store | `KeysUnavailable` | 503 + `Retry-After` | UNAVAILABLE |
//!
//! # Position
//!
//! As [authentication](super) in general.
//!
//! # Shared state
//!
//! The [`ApiKeys`]: one atomic pointer, read without a lock. The [`FailureLimit`], shared by the gate's clones: 64 KiB.
//!
//! # Compared with tower
//!
//! tower-http's `ValidateRequestHeader` compares with one secret that is kept as it is.
//!
//! # Metrics
//!
//! None of its own: refusals are counted by reason with all others. [`ApiKeys::health`] tells how fresh the keys are.

mod admin;
mod entry;
mod failures;
mod follow;
mod gate;
mod hash;
mod keys;
mod mint;
#[cfg(feature = "redis")]
mod redis;
mod store;
mod table;
mod text;

pub use self::mint::{Minted, mint};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisKeyStore;
pub use admin::{KeyAdmin, KeyAdminError, Restored, Rotation};
pub use entry::{InvalidText, KeyEntry, KeyState};
pub use failures::FailureLimit;
pub use follow::KeyFollower;
pub use gate::ApiKey;
pub use hash::{KeyHash, Pepper, PepperError, Peppers};
pub use keys::{ApiKeys, KeysHealth};
pub use store::{Asked, KeyChange, KeyList, KeyStore, KeyStoreError, KeyVersion, MemoryKeyStore};
pub use table::{InvalidKey, KeyTable, KeyTableError, KeyUse, MAX_KEYS};
pub use text::{PATTERN, is_key};

#[cfg(test)]
mod tests;
