//! The gateway as a whole: served in this process, and as the program that users run.
mod balance;
mod breakers;
mod canaries;
mod cost;
mod deadlines;
mod limits;
mod mirrors;
mod oidc;
mod overload;
mod policies;
mod process;
mod protocols;
mod reload;
mod retries;
mod serving;
mod subsets;
mod tokens;
pub(crate) mod world;
