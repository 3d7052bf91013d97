//! MAY it enter? Policies that bound what comes in.
//!
//! - [`authz`]: what the caller must be allowed to do.
//! - [`rate_limit`]: how much, over time, on each account.

pub mod authz;
pub mod rate_limit;
