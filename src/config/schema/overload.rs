use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Header;
use crate::{config::scalar::Text, ratio::Ratio};

/// What is refused when there is too much to do. The least important goes first.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Overload {
    /// By how late this process does what it has to do.
    pub(crate) event_loop: Option<DelayRange>,
    /// By how much memory is taken.
    pub(crate) memory: Option<MemoryRange>,
    /// By how long requests wait in the queues of `concurrency`, those with a `key` excepted.
    pub(crate) queue_delay: Option<DelayRange>,
    /// A header in which trusted proxies say how important a request is: `critical`, `high`, `normal` or `low`. It is
    /// removed from what others send. Default: none.
    pub(crate) header: Option<Header>,
    /// How important the requests of a plan are. Default: as the rule's `priority` says.
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, PriorityClass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PriorityClass {
    /// Refused only when nothing can be served any more.
    Critical,
    /// Refused late.
    High,
    /// What is not said to be anything else.
    Normal,
    /// Refused first.
    Low,
}

/// A delay at which requests begin to be refused, and one at which all are.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DelayRange {
    /// Where it begins, more than 0.
    pub(crate) start: Text<Duration>,
    /// Where everything is refused: above `start`, at most 1 h.
    pub(crate) full: Text<Duration>,
}

/// A share of memory at which requests begin to be refused, and one at which all are.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MemoryRange {
    /// Where it begins, such as `85%`; more than 0.
    pub(crate) start: Text<Ratio>,
    /// Where everything is refused: above `start`.
    pub(crate) full: Text<Ratio>,
    /// The bytes that this process may take. Default: the limit of its control group (version 2).
    pub(crate) bytes: Option<NonZeroU64>,
}

/// Asks a server less the more of its answers are failures.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SuccessRateRules {
    /// The share that must succeed for nothing to be refused, more than 0. Default: 95%.
    pub(crate) threshold: Option<Text<Ratio>>,
    /// The share that is refused at most: more than 0, and less than all. Default: 80%.
    pub(crate) max_refused: Option<Text<Ratio>>,
    /// How far back it looks, 1 s to 1 h. Default: 30 s.
    pub(crate) window: Option<Text<Duration>>,
    /// The requests in that time below which nothing is refused. Default: 100.
    pub(crate) fewest: Option<NonZeroU32>,
}
