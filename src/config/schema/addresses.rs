use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::Text;

/// From where requests may come. The longest network that holds an address decides; what is in none passes, unless
/// something is allowed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Addresses {
    /// Networks that are let in. Others are not, then.
    pub(crate) allow: Option<Vec<Text<IpNet>>>,
    /// A file with more of them: a network on each line, with comments after `#` or `;`.
    pub(crate) allow_file: Option<PathBuf>,
    /// Networks that are kept out, also if they are allowed as well.
    #[serde(default)]
    pub(crate) deny: Vec<Text<IpNet>>,
    /// A file with more of them.
    pub(crate) deny_file: Option<PathBuf>,
}

/// How fast peers must be at least, in bytes a second on average. 0: as slow as they like. At most a
/// gigabit, for more than which nobody would be fast enough.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MinimumRates {
    /// For heads of requests. Default: 240.
    #[schemars(range(max = 125_000_000))]
    pub(crate) head: Option<u32>,
    /// For bodies of requests but those of gRPC. Default: 240.
    #[schemars(range(max = 125_000_000))]
    pub(crate) body: Option<u32>,
    /// For reading responses. Default: 240.
    #[schemars(range(max = 125_000_000))]
    pub(crate) response: Option<u32>,
    /// How long they may take whatever they send: more than 0, at most 1 h. Default: 5 s.
    pub(crate) grace: Option<Text<Duration>>,
}
