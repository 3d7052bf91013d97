//! MAY it enter? Policies that bound what comes in.
//!
//! - [`authz`]: who may do this, by scopes and roles.
//! - [`rate_limit`]: how much, over time, on each account.

pub mod authz;
pub mod rate_limit;
