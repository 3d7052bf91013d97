//! `rateLimits`, and the keys by which requests are counted and split.
use super::Compiler;
use crate::{
    admission::rate_limit::{Charge, Limit},
    config::{
        at::At,
        schema::{KeyList, KeyName, KeyOf, KeyPart, RateLimit},
    },
    key::Key,
};

impl Compiler<'_> {
    /// A named limit: the one that is in force, if nothing about it has changed.
    pub(super) fn limit(&self, at: At<'_>, name: &str, limit: &RateLimit) -> Option<Charge> {
        let mut builder = Limit::builder(name, limit.rate.0).by(key(at.field("key"), &limit.key)?);
        if let Some(burst) = limit.burst {
            builder = builder.burst(burst);
        }
        if let Some(most) = limit.max_keys {
            builder = builder.max_keys(most);
        }
        let Ok(limit_of) = self.kept.limits.define(builder) else {
            return at
                .field("burst")
                .refuse("at this rate it would take more than a hundred years to refill");
        };
        let cost = limit.cost.map_or(1, std::num::NonZero::get);
        if cost > limit_of.burst().get() {
            return at.field("cost").refuse("more than `burst`: no request would ever pass");
        }
        Some(limit_of.costing(cost))
    }

    /// A list of names of limits.
    pub(super) fn charges(&self, at: At<'_>, names: &[String]) -> Vec<Charge> {
        let find = |(at, name)| self.find(at, name, "limit", "rateLimits", &self.limits).cloned();
        self.distinct(at, names).into_iter().filter_map(find).collect()
    }
}

/// By what requests are told apart.
pub(super) fn key(at: At<'_>, key: &KeyList) -> Option<Key> {
    match key {
        KeyList::One(part) => key_part(at, part),
        KeyList::All(parts) if parts.is_empty() => at.refuse("expected at least one part"),
        KeyList::All(parts) => {
            let parts: Vec<_> = at.items(parts).map(|(at, part)| key_part(at, part)).collect();
            parts.into_iter().collect::<Option<Vec<_>>>().map(Key::tuple)
        }
    }
}

fn key_part(at: At<'_>, part: &KeyPart) -> Option<Key> {
    let KeyOf { claim, header, cookie } = match part {
        KeyPart::Named(KeyName::ClientIp) => return Some(Key::ClientAddr),
        KeyPart::Named(KeyName::Principal) => return Some(Key::Principal),
        KeyPart::Named(KeyName::Route) => return Some(Key::Route),
        KeyPart::Of(of) => of,
    };
    match (claim, header, cookie) {
        (Some(claim), None, None) => Some(Key::Claim(claim.as_str().into())),
        (None, Some(header), None) => Some(Key::Header(header.0.clone())),
        (None, None, Some(cookie)) => Some(Key::Cookie(cookie.as_str().into())),
        _ => at.refuse("expected exactly one of `claim`, `header` and `cookie`"),
    }
}
