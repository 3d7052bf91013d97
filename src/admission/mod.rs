//! To be written.
pub mod authz;
