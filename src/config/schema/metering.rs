use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Header;
use crate::config::scalar::{Name, Text};

/// Who has used how much, told for bills.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Usage {
    /// What events call this instance. Default: `gateway`.
    pub(crate) instance: Option<String>,
    /// How long events are added up. Default: 10 s.
    pub(crate) interval: Option<Text<Duration>>,
    /// A header of the response that says what a request counts for, in units. Default: each counts for 1.
    pub(crate) units_header: Option<Header>,
    /// A file to which events are written, a JSON object on each line.
    pub(crate) file: Option<UsageFile>,
    /// A stream to which events are added.
    pub(crate) redis: Option<UsageStream>,
    /// A directory in which sealed batches lie until they are delivered. Default: none.
    pub(crate) spool: Option<PathBuf>,
    /// The most entries of a batch: principals, plans, routes and outcomes. Default: 10000.
    pub(crate) max_entries: Option<NonZeroU32>,
    /// The most bytes that wait for the file, and for the stream. Default: 67108864.
    pub(crate) max_waiting_bytes: Option<NonZeroU32>,
}

/// A file of events.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UsageFile {
    /// Where it is; relative to this file.
    pub(crate) path: PathBuf,
    /// The size beyond which it is renamed. Default: none.
    pub(crate) rotate_bytes: Option<NonZeroU64>,
}

/// A stream of events.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UsageStream {
    /// The server. One of `redis`.
    pub(crate) server: String,
    /// The name of the stream, which is `namespace:{usage}:<name>`. Default: `events`.
    pub(crate) stream: Option<Text<Name>>,
    /// About how many entries the server keeps, read or not. Default: all.
    pub(crate) max_length: Option<NonZeroU64>,
}

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

/// How fast peers must be at least, in bytes a second on average. 0: as slow as they like.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MinimumRates {
    /// For heads of requests. Default: 240.
    pub(crate) head: Option<u32>,
    /// For bodies of requests but those of gRPC. Default: 240.
    pub(crate) body: Option<u32>,
    /// For reading responses. Default: 240.
    pub(crate) response: Option<u32>,
    /// How long they may take whatever they send. Default: 5 s.
    pub(crate) grace: Option<Text<Duration>>,
}
