//! What rate limits and quotas have in common: what a request costs, what is not counted, and bounds.
use std::num::NonZeroU32;
#[cfg(feature = "redis")]
use std::time::Duration;

#[cfg(feature = "redis")]
use crate::config::scalar::Text;
use crate::{
    admission::{Cost, HeaderCost, Settle, Skip},
    config::{
        at::At,
        schema::{LimitCost, SettledBy, SkipRule},
    },
    matching::PathTemplate,
};

/// The longest that a request may be kept waiting for a decision.
#[cfg(feature = "redis")]
const LONGEST: Duration = Duration::from_secs(60);

/// What a request costs, where no account holds more than `most`.
pub(super) fn cost(at: At<'_>, said: Option<&LimitCost>, most: u64) -> Option<Cost> {
    let too_much = "more than any account ever holds: no request would ever pass";
    let said = match said {
        None => return Some(Cost::ONE),
        Some(LimitCost::Number(cost)) if u64::from(cost.get()) > most => return at.refuse(too_much),
        Some(LimitCost::Number(cost)) => return Some(Cost::from(cost.get())),
        Some(LimitCost::Header(said)) => said,
    };
    let (least, default) = (said.min.unwrap_or(1), said.default.map_or(1, NonZeroU32::get));
    if least > said.max.get() {
        return at.field("min").refuse("more than `max`");
    }
    if let Some((field, _)) =
        [("min", least), ("default", default)].into_iter().find(|(_, cost)| u64::from(*cost) > most)
    {
        return at.field(field).refuse(too_much);
    }
    let cost = HeaderCost::new(said.header.0.clone()).at_least(least).at_most(said.max.get());
    Some(cost.otherwise(default).into())
}

/// What a request cost in the end.
pub(super) fn settle(at: At<'_>, said: &SettledBy) -> Option<Settle> {
    if said.min > said.max.get() {
        return at.field("min").refuse("more than `max`");
    }
    let cost = HeaderCost::new(said.header.0.clone()).at_least(said.min).at_most(said.max.get());
    Some(Settle::by_header(cost))
}

/// What is not counted.
pub(super) fn skips<'a>(at: At<'a>, said: &'a [SkipRule]) -> Option<Vec<Skip>> {
    at.items(said).map(|(at, rule)| skip(at, rule)).collect()
}

fn skip(at: At<'_>, said: &SkipRule) -> Option<Skip> {
    let SkipRule { methods, paths, networks, principals } = said;
    if methods.is_empty() && paths.is_empty() && networks.is_empty() && principals.is_empty() {
        return at.refuse("expected at least one of `methods`, `paths`, `networks` and `principals`");
    }
    let mut skip = Skip::new()
        .methods(methods.iter().map(|method| method.known()))
        .networks(networks.iter().map(|network| network.0));
    for (at, path) in at.field("paths").items(paths) {
        skip = skip.paths([at.accept(PathTemplate::parse(path))?]);
    }
    for (at, principal) in at.field("principals").items(principals) {
        skip = match principal.split_once('/') {
            Some((provider, "*")) if !provider.is_empty() => skip.principals_of(provider),
            Some((provider, subject)) if !provider.is_empty() && !subject.is_empty() => {
                skip.principal(provider, subject)
            }
            _ => return at.refuse("expected `provider/subject`, or `provider/*`"),
        };
    }
    Some(skip)
}

/// How long a decision may take.
#[cfg(feature = "redis")]
pub(super) fn deadline(at: At<'_>, said: &Text<Duration>) -> Option<Duration> {
    match said.0 {
        time if time.is_zero() => at.refuse("nothing is decided in no time"),
        time if time > LONGEST => at.refuse("expected at most a minute: requests wait for so long"),
        time => Some(time),
    }
}
