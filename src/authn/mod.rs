//! Who is calling?

pub mod api_key;
mod authenticator;
mod challenge;
mod credential;
#[cfg(feature = "jwt")]
pub mod jwt;
mod providers;

pub use authenticator::{Authenticator, Credential};
pub use credential::Location;
pub use providers::Providers;
