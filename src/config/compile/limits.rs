//! `rateLimits`, and the keys by which requests are counted and split.
use super::{Compiler, removed::counts_credential};
use crate::{
    admission::rate_limit::{Charge, Fields, Limit},
    authn::Providers,
    config::{
        at::At,
        schema::{FieldsWhen, KeyList, KeyName, KeyOf, KeyPart, LimitFields, Listener, Policies, RateLimit},
    },
    key::Key,
    stack::gateway,
};

impl Compiler<'_> {
    /// A named limit: the one that is in force, if nothing about it has changed.
    pub(super) fn limit(&self, at: At<'_>, name: &str, limit: &RateLimit) -> Option<Charge> {
        let counted = |part: &Key| match part {
            Key::Header(name) => self.removed(name),
            _ => None,
        };
        let mut builder = Limit::builder(name, limit.rate.0).by(key(at.field("key"), &limit.key, &counted)?);
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

    /// A list of names of limits, each with its place.
    pub(super) fn charges<'b>(&self, at: At<'b>, names: &'b [String]) -> Vec<(At<'b>, Charge)> {
        let find = |(at, name)| Some((at, self.find(at, name, "limit", "rateLimits", &self.limits)?.clone()));
        self.distinct(at, names).into_iter().filter_map(find).collect()
    }

    /// The limits of a rule.
    pub(super) fn rule_limits(
        &self,
        at: At<'_>,
        mut made: gateway::Rule,
        policies: &Policies,
        providers: Option<&Providers>,
    ) -> gateway::Rule {
        let charges = self.charges(at.field("rateLimit"), &policies.rate_limit);
        let inside = charges.iter().any(|(_, charge)| charge.limit().key().needs_identity());
        for (at, charge) in charges {
            let limit = charge.limit();
            let counts = |listener: &&Listener| listener.rate_limit.iter().any(|name| name == limit.name());
            if let Some(listener) = self.file.listeners.iter().find(counts) {
                at.error(format!(
                    "the listener `{}` counts each request on this account already, and it is charged once",
                    listener.name.0.0
                ));
            }
            if limit.key().needs_identity() && providers.is_none() {
                at.warn("it counts callers, and nobody asks who they are: addresses are counted instead");
            }
            if inside && providers.is_some_and(|providers| counts_credential(limit.key(), providers)) {
                at.error(
                    "it counts by a credential, and one of this list counts callers: the list is decided when they are \
                     known, and credentials are taken out by then; count by `principal`",
                );
            }
            made = made.limit(charge);
        }
        let (fields, legacy) = self.limit_fields(policies.rate_limit_fields);
        made.limit_fields(fields).legacy_limit_fields(legacy)
    }

    /// What responses tell of limits, by what is said there or at the top.
    pub(super) fn limit_fields(&self, said: Option<LimitFields>) -> (Fields, bool) {
        let LimitFields { standard, legacy } = said.unwrap_or(self.file.rate_limit_fields);
        let fields = match standard {
            FieldsWhen::Always => Fields::Always,
            FieldsWhen::Never => Fields::Never,
            FieldsWhen::OnRefusal => Fields::OnRefusal,
        };
        (fields, legacy)
    }
}

/// By what requests are told apart. `removed` says why no request has a part.
pub(super) fn key(at: At<'_>, key: &KeyList, removed: &dyn Fn(&Key) -> Option<&'static str>) -> Option<Key> {
    match key {
        KeyList::One(part) => key_part(at, part, removed),
        KeyList::All(parts) if parts.is_empty() => at.refuse("expected at least one part"),
        KeyList::All(parts) => {
            let parts: Vec<_> = at.items(parts).map(|(at, part)| key_part(at, part, removed)).collect();
            parts.into_iter().collect::<Option<Vec<_>>>().map(Key::tuple)
        }
    }
}

fn key_part(at: At<'_>, part: &KeyPart, removed: &dyn Fn(&Key) -> Option<&'static str>) -> Option<Key> {
    let KeyOf { claim, header, cookie } = match part {
        KeyPart::Named(KeyName::ClientIp) => return Some(Key::ClientAddr),
        KeyPart::Named(KeyName::Principal) => return Some(Key::Principal),
        KeyPart::Named(KeyName::Route) => return Some(Key::Route),
        KeyPart::Of(of) => of,
    };
    let key = match (claim, header, cookie) {
        (Some(claim), None, None) => Key::Claim(claim.as_str().into()),
        (None, Some(header), None) => Key::Header(header.0.clone()),
        (None, None, Some(cookie)) => Key::Cookie(cookie.as_str().into()),
        _ => return at.refuse("expected exactly one of `claim`, `header` and `cookie`"),
    };
    match removed(&key) {
        Some(why) => at.refuse(why),
        None => Some(key),
    }
}
