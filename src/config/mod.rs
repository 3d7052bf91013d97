//! The stack as data.
mod at;
mod document;
mod fault;
mod reader;
mod scalar;
mod schema;
mod suggest;
mod yaml;

pub use self::fault::{Fault, Faults, Severity};

#[cfg(test)]
mod tests;
