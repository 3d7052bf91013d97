use schemars::JsonSchema;
use serde::Deserialize;

use super::Material;
use crate::config::scalar::{Name, Text};

/// A Redis or Valkey server, 6.2 or later.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RedisServer {
    /// Where it is: `redis://user@host:port/database`, or `rediss` for TLS. No password stands in it. Exactly one of `url`,
    /// `sentinel` and `cluster`.
    pub(crate) url: Option<String>,
    /// The Sentinels that know which server it is now.
    pub(crate) sentinel: Option<RedisSentinel>,
    /// Nodes of the Cluster that it is, as `url`: those by which the others are found. They agree on TLS and user.
    pub(crate) cluster: Option<Vec<String>>,
    /// The file with the password. It is read at each connection.
    pub(crate) password: Option<Material>,
    /// Roots in PEM, of which one must vouch for a server of `rediss`. Default: those of the platform.
    pub(crate) roots: Option<Material>,
    /// What all keys begin with. Default: `portcullis`.
    pub(crate) namespace: Option<Text<Name>>,
}

/// Sentinels, and of which master they are asked.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RedisSentinel {
    /// The name by which they know it.
    pub(crate) master: String,
    /// Where they are, as `url`. TLS, user and database are the master's too.
    pub(crate) sentinels: Vec<String>,
    /// The file with the password of the Sentinels. Default: they ask for none.
    pub(crate) password: Option<Material>,
}
