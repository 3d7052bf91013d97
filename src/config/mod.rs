//! The stack as data.
mod at;
mod compile;
mod debounce;
mod document;
mod fault;
mod files;
mod gates;
mod kept;
mod load;
mod reader;
mod reload;
mod scalar;
#[expect(dead_code, reason = "what a field refuses stands in the schema, and is never read")]
mod schema;
mod suggest;
mod yaml;

pub use self::{
    fault::{Fault, Faults, Severity},
    gates::Gates,
    load::{Check, Config, schema},
    reload::{Configured, StartError},
};

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
