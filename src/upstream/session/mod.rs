//! Sessions: the same client to the same endpoint, by a cookie or a header that we give it.

mod held;
mod policy;
#[cfg(test)]
mod tests;
mod token;

pub(super) use held::Held;
pub use policy::{InvalidCookie, SameSite, Session, SessionCookie};
pub use token::SessionKey;
