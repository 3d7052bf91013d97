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
pub mod gateway;
pub mod mesh;
pub mod order;

pub use admin::Admin;

/// Compares a file of the repository with what it should be; with `BLESS=1` in the environment it is written.
#[cfg(test)]
pub(crate) fn bless(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{} is not current: run the tests once with BLESS=1", path.display());
}
