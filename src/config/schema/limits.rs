use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList, Method, bounds};
use crate::{admission::rate_limit::Rate, config::scalar::Text, ratio::Ratio, time::Calendar};

/// A limit on how often.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RateLimit {
    /// On whose account a request is counted. What a request lacks is counted for the client's address. Default: one account for
    /// everybody together.
    pub(crate) key: Option<KeyList>,
    /// How many are let pass over time, such as `10/s` or `100/min`.
    pub(crate) rate: Text<Rate>,
    /// How it counts. Default: `tokenBucket`.
    #[serde(default)]
    pub(crate) algorithm: LimitAlgorithm,
    /// How many are let pass at once, by a `tokenBucket`. Default: the count of `rate`.
    pub(crate) burst: Option<NonZeroU32>,
    /// By whose clocks the windows of a `fixedWindow` begin: `+01:00`. Default: `Z`, which is UTC.
    pub(crate) utc_offset: Option<Text<Calendar>>,
    /// How long a request may have to wait for its turn, by a `leakyBucket`; at most 1 h. Default: 1 s.
    pub(crate) max_wait: Option<Text<Duration>>,
    /// How many requests may wait for their turn on all accounts, by a `leakyBucket`. Default: 1000.
    #[schemars(range(max = bounds::REQUESTS))]
    pub(crate) max_waiting: Option<NonZeroU32>,
    /// How much one request costs: a number, or what a header says. Default: 1.
    pub(crate) cost: Option<LimitCost>,
    /// What a request cost in the end, which then takes the place of `cost`. Default: `cost` stays.
    pub(crate) settle: Option<SettledBy>,
    /// How much an account may owe beyond what it holds when a request cost more in the end: what `rate`
    /// gives in a year at most, and only with `settle`. Default: 0.
    pub(crate) max_debt: Option<NonZeroU32>,
    /// Whether requests that are refused are charged too, as far as the account holds: who does not slow down is not let
    /// in. Who gives up while it waits is not refused. Default: `false`.
    #[serde(default)]
    pub(crate) spend_on_denial: bool,
    /// Whether it only looks on: what it would refuse is counted and logged. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// Requests that are not counted: those that one of these means.
    #[serde(default)]
    pub(crate) skip: Vec<SkipRule>,
    /// What accounts have whose caller has one of these plans, in place of `rate` and `burst`.
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, PlanQuota>,
    /// The server on which all instances of the gateway keep it together, by its name in `redis`. Default: each instance
    /// counts alone.
    pub(crate) redis: Option<String>,
    /// What becomes of requests while Redis does not decide. Default: `localShare`.
    pub(crate) fallback: Option<LimitFallback>,
    /// How long a decision of Redis may take, connecting included: more than 0, at most 1 min. Default: 50 ms.
    pub(crate) deadline: Option<Text<Duration>>,
    /// What share of an account all instances together may take ahead to decide by themselves, up to `5%`; by so much the
    /// limit may be exceeded. Default: none, every decision is exact.
    pub(crate) lease: Option<Text<Ratio>>,
    /// How many instances there are at least; beyond the most none is counted. One that starts while Redis does not answer has
    /// seen no other, and holds everybody to the share of one among so many. Default: 1.
    #[schemars(range(max = bounds::INSTANCES))]
    pub(crate) instances: Option<NonZeroU32>,
    /// How long it is remembered at most that an account is refused, so that Redis is not asked: `0s`, which asks each time, or
    /// any longer. For accounts that are changed on Redis by others than gateways. What comes back to any account of the limit
    /// ends it for all of them: with `lease` or `settle` under load that is each second or two. Default: until its time has come.
    pub(crate) remember_refusals: Option<Text<Duration>>,
    /// The most accounts that are kept; 100 million take 5 GB, and more would bound nothing. Default: 250000.
    #[schemars(range(max = bounds::KEYS))]
    pub(crate) max_keys: Option<NonZeroU32>,
    /// The memory for accounts, in place of `maxKeys`: one for each 48 bytes.
    #[schemars(range(max = bounds::BYTES))]
    pub(crate) max_bytes: Option<NonZeroU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LimitFallback {
    /// They pass.
    Allow,
    /// They are refused with 503.
    Deny,
    /// Each instance holds everybody to the limit divided by the number of instances that were seen last.
    LocalShare,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum LimitAlgorithm {
    /// An account holds up to `burst`, and refills steadily.
    #[default]
    TokenBucket,
    /// No more than the count of `rate` in the time that ends now.
    SlidingWindow,
    /// No more than the count of `rate` in each second, minute, hour, day, week, month or year of the calendar.
    FixedWindow,
    /// One after the other, at `rate`: who comes too early waits.
    LeakyBucket,
}

/// What a request costs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum LimitCost {
    Number(NonZeroU32),
    Header(CostHeader),
}

impl LimitCost {
    /// What every request costs at least.
    pub(crate) fn least(&self) -> u32 {
        match self {
            Self::Number(cost) => cost.get(),
            Self::Header(said) => said.min.unwrap_or(1),
        }
    }
}

/// A header of the request that says what it costs. Who sends it chooses what to pay: take it from those you trust.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CostHeader {
    /// Its name.
    pub(crate) header: Header,
    /// What is charged where it says no number. Default: 1.
    pub(crate) default: Option<NonZeroU32>,
    /// The least that is charged. Default: 1.
    pub(crate) min: Option<u32>,
    /// The most that is charged.
    pub(crate) max: NonZeroU32,
}

/// A header of the response that says what the request cost. Where it says no number, what was charged stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SettledBy {
    /// Its name.
    pub(crate) header: Header,
    /// The least that is charged. Default: 0.
    #[serde(default)]
    pub(crate) min: u32,
    /// The most that is charged.
    pub(crate) max: NonZeroU32,
}

/// Requests that a limit or quota does not count: all that is said must hold, and of each list one.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SkipRule {
    /// The method.
    #[serde(default)]
    pub(crate) methods: Vec<Method>,
    /// The path: as it is, or as a template in which `{name}` is one segment and `{**}` any number of them.
    #[serde(default)]
    pub(crate) paths: Vec<String>,
    /// The client's network, as trusted proxies tell it.
    #[serde(default)]
    pub(crate) networks: Vec<Text<IpNet>>,
    /// Who was authenticated, as `provider/subject`, or `provider/*`.
    #[serde(default)]
    pub(crate) principals: Vec<String>,
}

/// What accounts of a plan have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PlanQuota {
    /// How many are let pass over time. Where windows are counted, in a window of the same length.
    pub(crate) rate: Text<Rate>,
    /// How many are let pass at once, by a `tokenBucket`. Default: the count of `rate`.
    pub(crate) burst: Option<NonZeroU32>,
}

/// What responses tell of limits.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitFields {
    /// When `RateLimit` and `RateLimit-Policy` are told. Default: `onRefusal`.
    #[serde(default)]
    pub(crate) standard: FieldsWhen,
    /// Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are told wherever those are, of the limit that is nearest
    /// to refusing. Default: `false`.
    #[serde(default)]
    pub(crate) legacy: bool,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FieldsWhen {
    /// In every response.
    Always,
    /// In none; `Retry-After` stays.
    Never,
    /// Where a limit refused.
    #[default]
    OnRefusal,
}
