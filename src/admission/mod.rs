//! MAY it enter? Policies that bound what comes in.
//!
//! - [`rate_limit`]: how much, over time, on each account.

pub mod rate_limit;
