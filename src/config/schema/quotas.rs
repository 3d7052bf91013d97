use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{KeyList, LimitCost, SettledBy, SkipRule, bounds};
use crate::{config::scalar::Text, time::Calendar};

/// What each account may spend in a calendar period. Without `redis` and `file` counters live as long as the process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Quota {
    /// What accounts may spend in a period, unless their plan says otherwise: units, or `unlimited`.
    pub(crate) allowance: Allowance,
    /// `day`, `week`, `month`, `year` or the like, or the day on which a billing period begins.
    pub(crate) period: QuotaPeriod,
    /// By which midnight days begin, as an offset from UTC. Default: `Z`.
    pub(crate) utc_offset: Option<Text<Calendar>>,
    /// On whose account a request is counted. Default: `principal`.
    pub(crate) key: Option<KeyList>,
    /// What accounts may spend whose caller has one of these plans, in place of `allowance`.
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, Allowance>,
    /// How much one request costs: a number, or what a header says. Default: 1.
    pub(crate) cost: Option<LimitCost>,
    /// What a request cost in the end, which then takes the place of `cost`. Default: `cost` stays.
    pub(crate) settle: Option<SettledBy>,
    /// Whether it only looks on: what it would refuse is counted and logged. Default: `false`.
    #[serde(default)]
    pub(crate) shadow: bool,
    /// Requests that are not counted: those that one of these means.
    #[serde(default)]
    pub(crate) skip: Vec<SkipRule>,
    /// The server that keeps the counters, for all instances, by its name in `redis`.
    pub(crate) redis: Option<String>,
    /// A file that keeps the counters of one process.
    pub(crate) file: Option<PathBuf>,
    /// What becomes of requests while `redis` or `file` cannot be asked. Default: `allow`.
    pub(crate) fallback: Option<QuotaFallback>,
    /// How long a decision of Redis may take, connecting included: more than 0, at most 1 min. Default: 50 ms.
    pub(crate) deadline: Option<Text<Duration>>,
    /// The most accounts that are kept, where Redis does not; 100 million take 5 GB or more. Default: 250000.
    #[schemars(range(max = bounds::KEYS))]
    pub(crate) max_keys: Option<NonZeroU32>,
}

/// Units, or `unlimited`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Allowance {
    Units(u64),
    Unlimited(Unlimited),
}

impl Allowance {
    /// The most that may be spent.
    pub(crate) const fn units(self) -> u64 {
        match self {
            Self::Units(units) => units,
            Self::Unlimited(_) => u64::MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unlimited {
    Unlimited,
}

/// A period of the calendar.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum QuotaPeriod {
    Named(PeriodName),
    From(BillingPeriod),
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum PeriodName {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// From midnight.
    Day,
    /// From Monday.
    Week,
    /// From the first.
    Month,
    /// From the first of January.
    Year,
}

/// A month from another day than the first.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BillingPeriod {
    /// The day of the month on which it begins; in shorter months their last day.
    #[schemars(range(min = 1, max = 31))]
    pub(crate) billing_day: u8,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum QuotaFallback {
    /// They pass uncounted.
    Allow,
    /// They are refused with 503.
    Deny,
}
