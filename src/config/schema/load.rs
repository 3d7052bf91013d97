use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList, SkipRule};
use crate::{config::scalar::Text, ratio::Ratio};

/// A limit on how many requests are in flight: of `max`, or one that adapts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConcurrencyLimit {
    /// How many requests may be in flight; with `key`, of each. Either this or `adaptive`.
    pub(crate) max: Option<NonZeroU32>,
    /// Finds out by itself how many requests in flight are good.
    pub(crate) adaptive: Option<AdaptiveLimit>,
    /// On whose account requests are counted. Default: all together.
    pub(crate) key: Option<KeyList>,
    /// The most keys with requests in flight that are told apart; for others there is room for one. Default: 10000.
    pub(crate) max_keys: Option<NonZeroU32>,
    /// Lets requests wait for a place. Default: none waits.
    pub(crate) queue: Option<QueueRules>,
    /// Keeps shares of the limit for some. Default: none.
    pub(crate) partitions: Option<PartitionRules>,
    /// When those who are refused may try again. Default: 1 s.
    pub(crate) retry_after: Option<Text<Duration>>,
    /// Requests that are not counted, and need no place: those that one of these means.
    #[serde(default)]
    pub(crate) skip: Vec<SkipRule>,
    /// Whether it only looks on: it counts, and lets pass at once whom it would let wait or refuse. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
}

/// A limit that finds its number by itself.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AdaptiveLimit {
    /// By what. Default: `gradient`.
    #[serde(default)]
    pub(crate) algorithm: AdaptiveAlgorithm,
    /// Where it begins. Default: 20.
    pub(crate) initial: Option<NonZeroU32>,
    /// The least it becomes. Default: 2.
    pub(crate) min: Option<NonZeroU32>,
    /// The most it becomes. Default: 1000.
    pub(crate) max: Option<NonZeroU32>,
    /// What is taken for the latency. Default: `head`.
    #[serde(default)]
    pub(crate) latency: LatencyOf,
    /// A latency that is as bad as a failure; for `aimd` only. Default: 5 s.
    pub(crate) timeout: Option<Text<Duration>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AdaptiveAlgorithm {
    /// One more while all goes well, a tenth less when requests fail or are slower than `timeout`.
    Aimd,
    /// By how latency rises over what it was for long.
    #[default]
    Gradient,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LatencyOf {
    /// Until the end of the response's body.
    End,
    /// Until the response's head.
    #[default]
    Head,
}

/// How requests wait for a place.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QueueRules {
    /// How many wait at most.
    pub(crate) length: NonZeroU32,
    /// How long one waits at most. Default: 1 s.
    pub(crate) timeout: Option<Text<Duration>>,
    /// Who is next. Default: `fair`.
    #[serde(default)]
    pub(crate) order: QueueOrder,
    /// Keeps the queue short while bursts may wait. Default: off.
    pub(crate) codel: Option<CodelRules>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum QueueOrder {
    /// Who came first.
    #[default]
    Fair,
    /// Who came last.
    Newest,
    /// The most important, by `overload` and the rule's `priority`; among equals who came first.
    Priority,
}

/// If for a whole `interval` nobody waited less than `target`, whoever has waited longer than twice the target is refused.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CodelRules {
    /// The wait that is good.
    pub(crate) target: Text<Duration>,
    /// How long a burst may take to be worked off.
    pub(crate) interval: Text<Duration>,
}

/// Shares of a limit. While the limit is not reached everybody takes what is free; when it is, each has its share for
/// certain.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PartitionRules {
    /// What tells whose share it is.
    pub(crate) by: PartitionBy,
    /// The shares by value, such as `gold: 60%`. What is left is nobody's.
    pub(crate) shares: BTreeMap<String, Text<Ratio>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PartitionBy {
    Named(PartitionName),
    Of(PartitionOf),
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PartitionName {
    /// The caller's plan.
    Plan,
    /// The rule that matched.
    Route,
}

/// A value that needs a name; exactly one field.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PartitionOf {
    /// A claim of the verified token.
    pub(crate) claim: Option<String>,
    /// A header.
    pub(crate) header: Option<Header>,
}

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
    /// Where it begins.
    pub(crate) start: Text<Duration>,
    /// Where everything is refused.
    pub(crate) full: Text<Duration>,
}

/// A share of memory at which requests begin to be refused, and one at which all are.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MemoryRange {
    /// Where it begins, such as `85%`.
    pub(crate) start: Text<Ratio>,
    /// Where everything is refused.
    pub(crate) full: Text<Ratio>,
    /// The bytes that this process may take. Default: the limit of its control group (version 2).
    pub(crate) bytes: Option<NonZeroU64>,
}

/// Asks a server less the more of its answers are failures.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SuccessRateRules {
    /// The share that must succeed for nothing to be refused. Default: 95%.
    pub(crate) threshold: Option<Text<Ratio>>,
    /// The share that is refused at most. Default: 80%.
    pub(crate) max_refused: Option<Text<Ratio>>,
    /// How far back it looks. Default: 30 s.
    pub(crate) window: Option<Text<Duration>>,
    /// The requests in that time below which nothing is refused. Default: 100.
    pub(crate) fewest: Option<NonZeroU32>,
}
