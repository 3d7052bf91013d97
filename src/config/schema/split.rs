use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList};
use crate::{config::scalar::Text, ratio::Ratio};

/// How requests are divided among several `backendRefs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Split {
    /// The same value always goes to the same backend: after a restart, on every instance, and when weights grow.
    /// Default: each request by itself, at random.
    pub(crate) by: Option<KeyList>,
    /// A header of the response that names the backend that was chosen. Default: none.
    pub(crate) variant_header: Option<Header>,
    /// Moves requests from the first of two backends to the second by itself. Default: the weights stay.
    pub(crate) canary: Option<Canary>,
}

/// Gives the second of two `backendRefs` more and more of the requests as long as it is no worse than the first, and takes
/// them away when it is. It goes on across reloads as long as nothing else than `steer` is changed of it, and the upstreams
/// are the same; otherwise it is another canary, and begins anew. It is in memory: each instance judges by what it sees.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Canary {
    /// Its shares, one after the other, each more than the one before; after the last it gets all. Default: 1%, 5%, 25%.
    #[schemars(length(max = 32))]
    pub(crate) steps: Option<Vec<Text<Ratio>>>,
    /// How long a step lasts at least. Default: 5 min.
    pub(crate) min_time: Option<Text<Duration>>,
    /// How many requests the new version has in a step at least. Default: 100.
    pub(crate) min_calls: Option<u32>,
    /// How often a version that is no worse is rolled back at most, over all steps together. Default: 5%.
    pub(crate) alpha: Option<Text<Ratio>>,
    /// How often a version that is worse by a margin passes at most. Default: 5%.
    pub(crate) beta: Option<Text<Ratio>>,
    /// By what requests fail.
    #[serde(default)]
    pub(crate) failures: CanaryFailures,
    /// By what requests are slow.
    #[serde(default)]
    pub(crate) latency: CanaryLatency,
    /// What is being tried: another one is another canary. Default: nothing.
    pub(crate) release: Option<String>,
    /// What it is to do. It is told when this changes; a canary that has ended by itself stays as it is. Default: `run`.
    #[serde(default)]
    pub(crate) steer: CanarySteer,
}

/// What a new version may not do more often: fail, at the end of the response, in gRPC's trailers too.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CanaryFailures {
    /// By how much more of all requests fail if a version is to be caught. The smaller, the longer a step takes. Default: 1%.
    pub(crate) margin: Option<Text<Ratio>>,
    /// Whether what the caller did wrong counts as failed, such as 401 and 404. Default: `false`.
    #[serde(default)]
    pub(crate) caller_faults: bool,
}

/// What a new version may not do more often: take long, to the head of the response.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CanaryLatency {
    /// Requests that take longer than this are slow. Default: as `quantile` says.
    pub(crate) slower_than: Option<Text<Duration>>,
    /// Requests that take longer than this share of the old version's are slow. Default: 99%.
    pub(crate) quantile: Option<Text<Ratio>>,
    /// By how much more of all requests are slow if a version is to be caught. Default: 5%.
    pub(crate) margin: Option<Text<Ratio>>,
    /// Whether it does not matter how long they take. Default: `false`.
    #[serde(default)]
    pub(crate) ignore: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CanarySteer {
    /// The new version gets nothing, at once.
    Abort,
    /// It stays where it is; one that is new begins with nothing. It is still rolled back if the new version is worse.
    Pause,
    /// The new version gets all, at once.
    Promote,
    /// It goes on by itself, or, if it has ended, begins anew.
    #[default]
    Run,
}
