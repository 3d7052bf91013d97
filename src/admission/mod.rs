//! MAY it enter? Policies that bound what comes in.
//!
//! - [`authz`]: who may do this: policies, scopes and roles.
//! - [`ext_authz`]: who may do this, as another server says.
//! - [`rate_limit`]: how much, over time, on each account.

pub mod authz;
pub mod ext_authz;
pub mod rate_limit;
