//! The stack as data.
mod at;
mod debounce;
mod document;
mod fault;
mod files;
mod reader;
mod scalar;
mod schema;
mod suggest;
mod yaml;

pub use self::fault::{Fault, Faults, Severity};

#[cfg(test)]
mod tests;
