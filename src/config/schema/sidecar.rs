//! The two sides of a sidecar.
use std::{borrow::Cow, collections::BTreeMap};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::{DestinationRules, Listener, Route, Rule};
use crate::config::scalar::{Spelled, Text};

/// What comes to a service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Inbound {
    /// Where requests come in.
    #[schemars(length(min = 1))]
    pub(crate) listeners: Vec<Listener>,
    /// What is served there, and nowhere else.
    #[serde(default)]
    pub(crate) routes: Vec<Route>,
}

/// What a service calls: by plain HTTP at one of these listeners, which finds the upstream by the host that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Outbound {
    /// Where the service calls.
    #[schemars(length(min = 1))]
    #[serde(deserialize_with = "beside_us")]
    pub(crate) listeners: Vec<Listener>,
    /// What is called, by the names that requests have as their host; and how, as a mesh client does it.
    #[serde(default)]
    pub(crate) destinations: BTreeMap<String, Called>,
    /// What is called, where more is to be said of it.
    #[serde(default)]
    pub(crate) routes: Vec<Route>,
    /// What becomes of requests for hosts that are none of these. Default: `refuse`.
    #[serde(default)]
    pub(crate) unknown_hosts: UnknownHosts,
}

/// Who calls there is the service beside us, and speaks for its own callers. What is redirected to a loopback address was sent from
/// this machine, though from another address of it.
fn beside_us<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Listener>, D::Error> {
    let mut listeners = Vec::<Listener>::deserialize(from)?;
    for listener in &mut listeners {
        let is_local = listener.transparent && listener.address.0.ip().is_loopback();
        let beside = if is_local { ["0.0.0.0/0", "::/0"] } else { ["127.0.0.0/8", "::1/128"] };
        let networks = || beside.iter().filter_map(|network| IpNet::spell(network)).map(Text);
        listener.trusted_proxies.get_or_insert_with(|| networks().collect());
    }
    Ok(listeners)
}

/// What becomes of requests for hosts that nothing is said of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum UnknownHosts {
    /// They are answered with 404.
    #[default]
    Refuse,
    /// They are sent there as they are, by plain HTTP. What a `transparent` listener takes that is not HTTP goes where it was
    /// going, if no route of `tcpRoutes` is for that.
    PassThrough,
}

/// What is called, as a rule.
#[derive(Debug, Deserialize)]
#[serde(from = "DestinationRules")]
pub(crate) struct Called(pub(crate) Rule);

impl From<DestinationRules> for Called {
    fn from(destination: DestinationRules) -> Self {
        Self(destination.into_rule())
    }
}

impl JsonSchema for Called {
    fn schema_name() -> Cow<'static, str> {
        DestinationRules::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        DestinationRules::json_schema(generator)
    }
}
