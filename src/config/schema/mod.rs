//! The shape of the file, as types. What serde and the published JSON Schema say comes from here; what a field means
//! is its comment, which the schema and `docs/config.md` repeat.
mod authentication;
mod authorization;
mod gateway;
mod load;
mod metering;
mod policies;
mod quotas;
mod redis;
mod retry;
mod route;
mod unbuilt;

pub(crate) use self::{
    authentication::*, authorization::*, gateway::*, load::*, metering::*, policies::*, quotas::*, redis::*,
    retry::*, route::*, unbuilt::*,
};
