//! MAY it enter? Policies that bound what comes in.
//!
//! - [`address`]: from where.
//! - [`authz`]: who may do this: policies, scopes and roles.
//! - [`concurrency`]: how many at a time, a fixed number or one that adapts.
//! - [`ext_authz`]: who may do this, as another server says.
//! - [`quota`]: how much in each day, month or billing period, by plan.
//! - [`rate_limit`]: how much, over time, on each account.
//! - [`shed`]: what is refused first when there is too much.
//!
//! [`Plans`] say what is granted to whom, [`Cost`] and [`Settle`] what a request costs, [`Skip`] which are not counted, [`Priorities`]
//! who is more important, and [`Fields`] when clients are told where they stand.

pub mod address;
pub mod authz;
#[cfg(feature = "redis")]
mod beside;
pub mod concurrency;
mod cost;
pub mod ext_authz;
mod fields;
mod plans;
mod priority;
pub mod quota;
pub mod rate_limit;
pub mod shed;
mod skip;
mod waited;

pub use cost::{Cost, HeaderCost, Settle};
pub use fields::Fields;
pub use plans::Plans;
pub use priority::{Priorities, Priority, UnknownPriority};
pub use skip::Skip;
