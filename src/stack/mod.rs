//! The layers in their proven order: a [`gateway`] before services, and a [`mesh`] between them.
//!
//! Which layer stands inside of which decides what a gateway does: whether a refused credential is counted, whether
//! a log knows who was refused, whether a client can remove a header that the gateway has added. The builders here
//! know the order; their methods can be called in any. [`order`] says it, with the reason of each place.
//!
//! | module | what it builds |
//! |---|---|
//! | [`gateway`] | listeners, rules and upstreams, taken into force and replaced as a whole |
//! | [`mesh`] | layers around the calls that a service makes, and around its handlers |
//! | [`order`] | what stands where, and why |
//!
//! With the feature `config` the same gateway is described by a file.

mod admin;
#[cfg(test)]
mod bless;
mod calling;
pub mod gateway;
mod guards;
#[cfg(feature = "tls")]
mod identities;
pub mod mesh;
pub mod order;
mod sessions;

pub use admin::Admin;
#[cfg(test)]
pub(crate) use bless::bless;
pub use calling::Contradiction;
#[cfg(feature = "tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
pub use identities::Identities;
