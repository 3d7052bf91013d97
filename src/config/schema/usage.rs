use std::{
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

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
    /// How long events are added up: more than 0, at most 24 h. Default: 10 s.
    pub(crate) interval: Option<Text<Duration>>,
    /// A header of the response that says what a request counts for, in units. Default: each counts for 1.
    pub(crate) units_header: Option<Header>,
    /// A file to which events are written, a JSON object on each line.
    pub(crate) file: Option<UsageFile>,
    /// A stream to which events are added.
    pub(crate) redis: Option<UsageStream>,
    /// A directory in which sealed batches lie until they are delivered; `file` is not in it. Default: none.
    pub(crate) spool: Option<PathBuf>,
    /// The most entries of a batch: principals, plans, routes and outcomes. Default: 10000.
    pub(crate) max_entries: Option<NonZeroU32>,
    /// The most bytes that wait for the file, and for the stream; what has no room is lost: in less than the least
    /// no batch would have any. Default: 67108864.
    #[schemars(range(min = 65_536))]
    pub(crate) max_waiting_bytes: Option<NonZeroU32>,
}

/// A file of events.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UsageFile {
    /// Where it is; relative to this file.
    pub(crate) path: PathBuf,
    /// The size beyond which it is renamed; below the least, each line would be a file of its own. Default: none.
    #[schemars(range(min = 4096))]
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
