use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Header, KeyList};
use crate::{config::scalar::Text, ratio::Ratio};

/// Where an upstream runs: an address, or one of which there is more to say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Endpoint {
    At(String),
    Told(EndpointRules),
}

impl Endpoint {
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::At(address) => address,
            Self::Told(told) => &told.address,
        }
    }

    pub(crate) fn labels(&self) -> Option<&Labels> {
        match self {
            Self::At(_) => None,
            Self::Told(told) => Some(&told.labels),
        }
    }
}

/// An endpoint, and what is to be known of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EndpointRules {
    /// `10.0.0.1:8080`, `[::1]:8080` or `orders.internal:8080`, whose name is resolved.
    pub(crate) address: String,
    /// Its part of the requests, against the weights of the others. Default: 1.
    pub(crate) weight: Option<NonZeroU32>,
    /// When it is used: those of priority 1 take what those of priority 0 cannot. Default: 0.
    #[serde(default)]
    pub(crate) priority: u8,
    /// Where it stands. Default: nowhere that has a name.
    pub(crate) zone: Option<String>,
    /// What else there is to say of it, as in `version: v2`, by which a `subset` of `backendRefs` picks. Default: nothing.
    #[serde(default)]
    pub(crate) labels: Labels,
}

/// Labels: keys and values, of 1 to 63 visible ASCII characters each.
pub(crate) type Labels = BTreeMap<String, String>;

/// By what requests choose among endpoints by their labels, beside the `subset` of `backendRefs`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SubsetRules {
    /// Labels to the headers from which their values are taken: a request that has all of these headers is for the endpoints
    /// with these labels, unless its `backendRefs` say a `subset`. Whoever can send such a header can choose.
    #[serde(default)]
    pub(crate) from_headers: BTreeMap<String, Header>,
    /// What becomes of a request for a subset in which there is no endpoint. Default: `noFallback`.
    #[serde(default)]
    pub(crate) fallback_policy: FallbackPolicy,
    /// The labels of those who then get it, with `defaultSubset`.
    pub(crate) default_subset: Option<Labels>,
}

/// What becomes of a request for a subset in which there is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FallbackPolicy {
    /// It is refused.
    #[default]
    NoFallback,
    /// It goes to any endpoint.
    AnyEndpoint,
    /// It goes to the `defaultSubset`.
    DefaultSubset,
}

/// How an endpoint is picked: a policy, or one of which there is more to say.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Balance {
    By(BalancePolicy),
    Told(BalanceRules),
}

/// How an endpoint is picked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BalanceRules {
    /// How one of those that take requests is picked. Default: `roundRobin`.
    #[serde(default)]
    pub(crate) policy: BalancePolicy,
    /// What of a request says which endpoint it goes to, with `ringHash` and `maglev`, and only with these. What lacks it
    /// goes anywhere.
    pub(crate) key: Option<KeyList>,
    /// How many percent of its part of the requests in flight an endpoint has at most, with `ringHash` and `maglev`; 125,
    /// say. Default: no bound.
    #[schemars(range(min = 100))]
    pub(crate) hash_balance_factor: Option<u32>,
    /// How many places a ring has at least, up to 8388608. Default: 1024.
    #[schemars(range(min = 1, max = 8_388_608))]
    pub(crate) minimum_ring_size: Option<u32>,
    /// How many places a ring has at most, up to 8388608. Default: 8388608.
    #[schemars(range(min = 1, max = 8_388_608))]
    pub(crate) maximum_ring_size: Option<u32>,
    /// Where the gateway stands: endpoints of this zone are preferred as far as they bear it. Default: all zones are one.
    pub(crate) zone: Option<String>,
    /// If less than this share of the endpoints of a priority take requests, all of them are given some. Default: `50%`; `0%`
    /// turns it off.
    pub(crate) panic_threshold: Option<Text<Ratio>>,
    /// Gives new endpoints more and more. Default: all at once.
    pub(crate) slow_start: Option<SlowStartRules>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BalancePolicy {
    /// One after the other, each as often as it weighs.
    #[default]
    RoundRobin,
    /// Of two picked at random, the one with fewer requests in flight.
    LeastRequest,
    /// Of two picked at random, the one that is expected to answer sooner; failures count as slow.
    PeakEwma,
    /// At random.
    Random,
    /// The same key to the same endpoint, by a ring.
    RingHash,
    /// The same key to the same endpoint, by Maglev's table.
    Maglev,
}

/// How a new endpoint is given more and more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SlowStartRules {
    /// How long it takes until it has its whole part, 1 s to 1 h.
    pub(crate) window: Text<Duration>,
    /// How steeply it begins, in percent: above 100 with more than a straight line would give it. Default: 100.
    pub(crate) aggression: Option<NonZeroU32>,
    /// What it has at first, of its part. Default: `10%`.
    pub(crate) min_weight: Option<Text<Ratio>>,
}
