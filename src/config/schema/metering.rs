use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList};
use crate::{
    config::scalar::{Name, Text},
    time::Calendar,
};

/// What each account may spend in a calendar period. Without `redis` and `file` counters live as long as the process.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Quota {
    /// What accounts may spend in a period, unless their plan says otherwise: units, or `unlimited`.
    pub(crate) allowance: Allowance,
    /// `day`, `week`, `month` or the like, or the day on which a billing period begins.
    pub(crate) period: QuotaPeriod,
    /// By which midnight days begin, as an offset from UTC. Default: `Z`.
    pub(crate) utc_offset: Option<Text<Calendar>>,
    /// On whose account a request is counted. Default: `principal`.
    pub(crate) key: Option<KeyList>,
    /// What accounts of a plan may spend.
    #[serde(default)]
    pub(crate) plans: BTreeMap<String, Allowance>,
    /// The claim that tells the plan, by name or JSON pointer. Default: the plan of the key.
    pub(crate) plan_claim: Option<String>,
    /// What each request costs. Default: 1.
    pub(crate) cost: Option<NonZeroU32>,
    /// A header of the response that says what a request has cost in the end, in units. The difference to `cost` is
    /// charged or given back. Default: none.
    pub(crate) cost_header: Option<Header>,
    /// The server that keeps the counters, for all instances. One of `redis`.
    pub(crate) redis: Option<String>,
    /// How long the server may take to decide. Default: 50 ms.
    pub(crate) deadline: Option<Text<Duration>>,
    /// A file that keeps the counters of one process.
    pub(crate) file: Option<PathBuf>,
    /// What becomes of requests while counters cannot be asked. Default: `allow`.
    #[serde(default)]
    pub(crate) on_outage: OnOutage,
    /// The accounts that are held without `redis`. Default: 250000.
    pub(crate) max_accounts: Option<NonZeroU32>,
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
}

/// A month from another day than the first.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BillingPeriod {
    /// The day of the month on which it begins, from 1 to 31; in shorter months their last day.
    pub(crate) billing_day: u8,
}

/// What becomes of requests while counters cannot be asked.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum OnOutage {
    /// They pass uncounted.
    #[default]
    Allow,
    /// They are answered with 503.
    Deny,
}

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
