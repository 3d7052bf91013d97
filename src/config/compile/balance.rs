//! `upstreams.NAME.endpoints` and `.balance`.
use std::time::Duration;

use super::{limits, overload::LONGEST};
use crate::{
    config::{
        at::At,
        schema::{Balance, BalancePolicy, BalanceRules, Endpoint, SlowStartRules},
    },
    upstream::{self, Maglev, RingHash, SlowStart, UpstreamBuilder},
};

impl From<&Endpoint> for upstream::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let told = match endpoint {
            Endpoint::At(address) => return Self::from(address),
            Endpoint::Told(told) => told,
        };
        let mut endpoint = Self::from(&told.address).priority(told.priority);
        endpoint.weight = told.weight.unwrap_or(endpoint.weight);
        endpoint.zone = told.zone.as_deref().map(Into::into);
        endpoint.labels = told.labels.iter().map(|(key, value)| ((**key).into(), (**value).into())).collect();
        endpoint
    }
}

/// How endpoints are picked.
pub(super) fn balance(at: At<'_>, builder: UpstreamBuilder, balance: &Balance) -> Option<UpstreamBuilder> {
    let rules = match balance {
        Balance::By(policy) => return Some(builder.balance(known(at, *policy, None)?)),
        Balance::Told(rules) => rules,
    };
    let builder = builder.balance(known(at, rules.policy, Some(rules))?);
    let by_key = matches!(rules.policy, BalancePolicy::RingHash | BalancePolicy::Maglev);
    if by_key && rules.zone.is_some() {
        at.field("zone")
            .warn("balancers by key do not look at zones: the same key has one endpoint everywhere");
    }
    let builder = rules.zone.iter().fold(builder, |builder, zone| builder.zone(&**zone));
    let builder =
        rules.panic_threshold.iter().fold(builder, |builder, share| builder.panic_threshold(share.0));
    let Some(slow) = &rules.slow_start else { return Some(builder) };
    let at = at.field("slowStart");
    if by_key {
        return at.refuse("balancers by key cannot give an endpoint less than its keys");
    }
    Some(builder.slow_start(slow_start(at, slow)?))
}

/// The policy; `rules` as far as there are any.
fn known(at: At<'_>, policy: BalancePolicy, rules: Option<&BalanceRules>) -> Option<upstream::Balance> {
    let bound = rules.and_then(|rules| rules.hash_balance_factor);
    let sizes = rules.map_or((None, None), |rules| (rules.minimum_ring_size, rules.maximum_ring_size));
    if policy != BalancePolicy::RingHash {
        for (name, size) in [("minimumRingSize", sizes.0), ("maximumRingSize", sizes.1)] {
            if size.is_some() {
                return at.field(name).refuse("only `ringHash` has a ring");
            }
        }
    }
    let by_key = match policy {
        BalancePolicy::RoundRobin => upstream::Balance::RoundRobin,
        BalancePolicy::LeastRequest => upstream::Balance::LeastRequest,
        BalancePolicy::PeakEwma => upstream::Balance::PeakEwma,
        BalancePolicy::Random => upstream::Balance::Random,
        BalancePolicy::RingHash | BalancePolicy::Maglev => {
            let Some(key) = rules.and_then(|rules| rules.key.as_ref()) else {
                return at.refuse(
                    "`ringHash` and `maglev` need a `key`, such as `clientIp` or `{ header: x-user }`",
                );
            };
            let key = limits::key(at.field("key"), key, &|_| None)?;
            if policy == BalancePolicy::Maglev {
                let maglev = Maglev::new(key);
                return Some(upstream::Balance::Maglev(bound.into_iter().fold(maglev, Maglev::bounded_load)));
            }
            if let (Some(min), Some(max)) = sizes
                && min > max
            {
                return at.field("minimumRingSize").refuse("more than `maximumRingSize`");
            }
            let ring = sizes.0.into_iter().fold(RingHash::new(key), RingHash::min_size);
            let ring = sizes.1.into_iter().fold(ring, RingHash::max_size);
            return Some(upstream::Balance::RingHash(bound.into_iter().fold(ring, RingHash::bounded_load)));
        }
    };
    for (name, is_there) in
        [("key", rules.is_some_and(|rules| rules.key.is_some())), ("hashBalanceFactor", bound.is_some())]
    {
        if is_there {
            return at.field(name).refuse("only `ringHash` and `maglev` look at a key");
        }
    }
    Some(by_key)
}

fn slow_start(at: At<'_>, rules: &SlowStartRules) -> Option<SlowStart> {
    let window = rules.window.0;
    if window < Duration::from_secs(1) || window > LONGEST {
        return at.field("window").refuse("expected a second to an hour");
    }
    let slow = SlowStart::new(window);
    let slow = rules.aggression.iter().fold(slow, |slow, percent| slow.aggression(percent.get()));
    Some(rules.min_weight.iter().fold(slow, |slow, share| slow.min(share.0)))
}
