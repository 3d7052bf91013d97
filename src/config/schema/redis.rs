use schemars::JsonSchema;
use serde::Deserialize;

use super::Material;
use crate::config::scalar::{Name, Text};

/// A Redis or Valkey server, 6.2 or later.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RedisServer {
    /// Where it is: `redis://user@host:port/database`, or `rediss` for TLS. No password stands in it.
    pub(crate) url: String,
    /// The file with the password. It is read at each connection.
    pub(crate) password: Option<Material>,
    /// Roots in PEM, of which one must vouch for a server of `rediss`. Default: those of the platform.
    pub(crate) roots: Option<Material>,
    /// What all keys begin with. Default: `portcullis`.
    pub(crate) namespace: Option<Text<Name>>,
}
