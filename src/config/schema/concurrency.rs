use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList, SkipRule, bounds};
use crate::{config::scalar::Text, ratio::Ratio};

/// A limit on how many requests are in flight: of `max`, or one that adapts.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConcurrencyLimit {
    /// How many requests may be in flight; with `key`, of each. Either this or `adaptive`.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) max: Option<NonZeroU32>,
    /// Finds out by itself how many requests in flight are good.
    pub(crate) adaptive: Option<AdaptiveLimit>,
    /// On whose account requests are counted. Default: all together.
    pub(crate) key: Option<KeyList>,
    /// The most keys with requests in flight that are told apart; for others there is room for one. Default: 10000.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) max_keys: Option<NonZeroU32>,
    /// Lets requests wait for a place. Default: none waits.
    pub(crate) queue: Option<QueueRules>,
    /// Keeps shares of the limit for some. Default: none.
    pub(crate) partitions: Option<PartitionRules>,
    /// When those who are refused may try again, at most 24 h. Default: 1 s.
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
    /// Where it begins, between `min` and `max`. Default: 20, or the nearest that is.
    pub(crate) initial: Option<NonZeroU32>,
    /// The least it becomes, at most `max`. Default: 2.
    pub(crate) min: Option<NonZeroU32>,
    /// The most it becomes. Default: 1000.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) max: Option<NonZeroU32>,
    /// What is taken for the latency. Default: `head`.
    #[serde(default)]
    pub(crate) latency: LatencyOf,
    /// A latency that is as bad as a failure, for `aimd` only: more than 0, at most 1 h. Default: 5 s.
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
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) length: NonZeroU32,
    /// How long one waits at most: more than 0, at most 1 h. Default: 1 s.
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
    /// The wait that is good: more than 0, and shorter than `interval` and half the queue's `timeout`.
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
    /// The shares by value, such as `gold: 60%`, each more than 0; not more of them than `max`. What is left is nobody's.
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
