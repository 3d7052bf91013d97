//! The gateway as a whole: served in this process, and as the program that users run.
mod balance;
mod breakers;
mod canaries;
#[cfg(feature = "tls")]
mod certificates;
mod cost;
mod deadlines;
mod endpoints;
mod fallbacks;
mod faults;
#[cfg(feature = "redis")]
mod fields;
mod hedging;
#[cfg(feature = "tls")]
mod identities;
mod limits;
mod mirrors;
mod oidc;
mod overload;
mod policies;
mod process;
mod protocols;
mod refusals;
mod reload;
mod retries;
mod serving;
mod sessions;
mod shop;
mod shutdown;
mod subsets;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
pub(crate) mod world;
