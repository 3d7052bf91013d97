//! The shape of the file, as types. What serde and the published JSON Schema say comes from here; what a field means
//! is its comment, which the schema and `docs/config.md` repeat.
mod addresses;
mod authentication;
mod authorization;
mod balance;
mod bounds;
mod breaker;
mod client;
mod concurrency;
mod discovery;
mod endpoints;
mod fallback;
mod fault;
mod gateway;
mod hedge;
mod limits;
mod mirror;
mod overload;
mod paths;
mod policies;
mod quotas;
mod redis;
mod retry;
mod route;
mod session;
mod sidecar;
mod split;
mod tcp;
mod tls;
mod unbuilt;
mod usage;
mod written;

pub(crate) use self::{
    addresses::*, authentication::*, authorization::*, balance::*, breaker::*, client::*, concurrency::*,
    discovery::*, endpoints::*, fallback::*, fault::*, gateway::*, hedge::*, limits::*, mirror::*,
    overload::*, paths::*, policies::*, quotas::*, redis::*, retry::*, route::*, session::*, sidecar::*,
    split::*, tcp::*, tls::*, unbuilt::*, usage::*, written::*,
};
