//! JSON Web Tokens.

mod algorithm;
#[cfg(feature = "axum")]
mod axum;
mod claims;
mod gate;
mod json;
mod jwk;
mod key;
mod key_set;
mod keys;
mod pointer;
mod rules;
mod token;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use claims::Claims;
pub use gate::Jwt;
pub use key::{Key, KeyError};
pub use key_set::{KeySet, KeySetError, MAX_DOCUMENT, MAX_KEYS, Skipped};
pub use keys::Keys;
pub use pointer::Pointer;
pub use token::TokenError;
