//! From the typed file to a snapshot: each part is made by the public builders of its room, and what does not fit is
//! reported at its place in the file.
mod addresses;
mod api_key;
mod authentication;
mod authorization;
mod authorizers;
mod balance;
mod breaker;
mod canary;
mod certificates;
mod charges;
mod client;
mod compiler;
mod concurrency;
mod discovery;
mod endpoints;
mod fallback;
mod fault;
mod filters;
mod hedge;
#[cfg(feature = "jwt")]
mod jwks;
#[cfg(feature = "jwt")]
mod jwt;
mod limits;
mod listeners;
mod mirror;
#[cfg(feature = "jwt")]
mod oauth;
mod overload;
mod quotas;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "jwt")]
mod remembered;
mod removed;
mod retry;
mod routes;
mod session;
mod sidecar;
mod subsets;
mod tcp;
mod timeouts;
#[cfg(feature = "tls")]
mod tls;
mod upstreams;
mod usage;

pub(super) use self::{
    client::Calls,
    compiler::{Compiled, Compiler},
    endpoints::are_endpoints,
};
#[cfg(feature = "jwt")]
pub(super) use self::{jwks::KeySets, remembered::Remembered};
