use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{KeyList, bounds};
use crate::{config::scalar::Text, ratio::Ratio};

/// Does not ask who keeps failing. It opens for any of `failureRateThreshold`, `slowCallRateThreshold` and
/// `consecutiveFailures` that is said; if none is, when half of the calls fail. 4xx is no failure, nor what a limit of ours
/// has refused, nor a call that its caller has left.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CircuitBreaker {
    /// The share of calls that fail for which it opens, more than 0.
    pub(crate) failure_rate_threshold: Option<Text<Ratio>>,
    /// The share of calls that are slow for which it opens, more than 0.
    pub(crate) slow_call_rate_threshold: Option<Text<Ratio>>,
    /// How long a call takes that is slow, more than 0: to the end of its body; to its head if it is a stream of events or an
    /// upgrade.
    pub(crate) slow_call_duration: Option<Text<Duration>>,
    /// How many calls there must be in the window for shares to count. Default: 20.
    pub(crate) minimum_calls: Option<NonZeroU32>,
    /// What shares are taken over. Default: 10 s.
    pub(crate) window: Option<BreakerWindow>,
    /// How many failures in a row open it, whatever the shares are.
    pub(crate) consecutive_failures: Option<NonZeroU32>,
    /// How long it stays open the first time, 1 ms to 1 h; half of it, and of each later time, is left to chance. Default: 1 s.
    pub(crate) open_for: Option<Text<Duration>>,
    /// The longest time for which it stays open while it opens again and again: `openFor` at least, at most 1 h. Default: 30 s,
    /// or `openFor` if that is longer.
    pub(crate) max_open_for: Option<Text<Duration>>,
    /// How many calls go at once when it is half open, and must do well for it to close. Default: 1.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) half_open_probes: Option<NonZeroU32>,
    /// A breaker of its own for each of these. Default: one for all.
    pub(crate) key: Option<KeyList>,
    /// The most keys that have one; those that do well make room for others. Default: 10000.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) max_keys: Option<NonZeroU32>,
    /// Whether 429 and gRPC's `RESOURCE_EXHAUSTED` are failures. Default: `false`.
    #[serde(default)]
    pub(crate) throttling_fails: bool,
    /// Whether calls that nobody waited for are failures. Default: `false`, unless a time of ours was over or they were slow.
    #[serde(default)]
    pub(crate) cancelling_fails: bool,
    /// For an upstream: whether each of its endpoints has a breaker of its own; who is open is passed over, unless most are.
    /// Default: `false`, one for all together.
    #[serde(default)]
    pub(crate) per_endpoint: bool,
    /// Whether it only looks on: it decides and counts, and lets everything pass. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
}

/// The last calls by their time or by their number; exactly one field.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BreakerWindow {
    /// Those of so long: 10 ms to 1 h.
    pub(crate) duration: Option<Text<Duration>>,
    /// So many, however old they are: `minimumCalls` at least.
    #[schemars(range(max = 10_000))]
    pub(crate) calls: Option<NonZeroU16>,
}
