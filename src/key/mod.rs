//! On whose account a request is counted, and by what it is hashed.
//!
//! A [`Key`] names a part of the request, or several. Limits use its [`fingerprint`](Key::fingerprint), which is
//! keyed by a secret seed so that strangers cannot make keys collide. A split or a hash balancer uses its
//! [`stable_hash`](Key::stable_hash), which is the same on every instance, architecture and day.
//!
//! ```
//! use http::{HeaderName, Request};
//! use portcullis::{head::Head, key::Key};
//!
//! let mut a = Request::get("/").header("x-tenant", "a").body(()).unwrap();
//! let mut b = Request::get("/").header("x-tenant", "b").body(()).unwrap();
//! let tenant = Key::Header(HeaderName::from_static("x-tenant"));
//! assert_ne!(tenant.stable_hash(&Head::of(&mut a), "s"), tenant.stable_hash(&Head::of(&mut b), "s"));
//! ```
//!
//! A part that a request lacks falls back to the client's address, never to "no key": leaving out a header is no
//! way around a limit. Requests without a known address share one account.

mod account;
#[cfg(feature = "resilience")]
mod spell;

pub use account::{Key, KeySeed, RouteName};
#[cfg(feature = "resilience")]
pub(crate) use spell::Spelled;
