//! The gateway as a whole: served in this process, and as the program that users run.
mod breakers;
mod cost;
mod deadlines;
mod faults;
mod hedging;
mod limits;
mod oidc;
mod overload;
mod policies;
mod process;
mod protocols;
mod reload;
mod retries;
mod serving;
mod tokens;
pub(crate) mod world;
