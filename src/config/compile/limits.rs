//! `rateLimits`, and the keys by which requests are counted and split.
use std::time::Duration;

#[cfg(feature = "redis")]
use super::charges::deadline;
use super::{
    Compiler,
    charges::{cost, settle, skips},
    removed::counts_credential,
};
use crate::{
    admission::{
        Fields, Plans,
        rate_limit::{Algorithm, Charge, Limit, LimitBuilder, LimitError, Quota},
    },
    authn::Providers,
    config::{
        at::At,
        schema::{
            FieldsWhen, KeyList, KeyName, KeyOf, KeyPart, LimitAlgorithm, LimitCost, LimitFallback,
            LimitFields, Listener, PlanQuota, Policies, RateLimit,
        },
    },
    key::Key,
    ratio::Ratio,
    stack::gateway,
    time::Calendar,
};

/// How long requests wait for a leaky bucket unless told.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The longest that they may.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// The longest time that somebody pays for what he had.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// The largest lease.
const MOST_AHEAD: Ratio = Ratio::percent(5);

impl Compiler<'_> {
    /// A named limit: the one that is in force, if nothing about its accounts has changed.
    pub(super) fn limit(&self, at: At<'_>, name: &str, said: &RateLimit) -> Option<Charge> {
        let counted = |part: &Key| match part {
            Key::Header(name) => self.removed(name),
            _ => None,
        };
        let builder = Limit::builder(name, said.rate.0).algorithm(algorithm(at, said)?);
        let mut builder = match &said.key {
            Some(list) => builder.by(key(at.field("key"), list, &counted)?),
            None => {
                if !at.field("key").is_said() {
                    at.warn("without a `key` everybody has one account together: whoever spends it, spends it for all");
                }
                builder.shared()
            }
        };
        if let Some(burst) = said.burst {
            builder = builder.burst(burst);
        }
        if let Some(most) = said.max_waiting {
            builder = builder.max_waiting(most.get());
        }
        if let Some(debt) = said.max_debt {
            if said.rate.0.interval().checked_mul(debt.get()).is_none_or(|time| time > YEAR) {
                return at.field("maxDebt").refuse("at this rate it would take more than a year to pay");
            }
            builder = builder.max_debt(debt.get());
        }
        if !said.plans.is_empty() {
            let plan = |(name, said): (&String, &PlanQuota)| (name.clone(), quota(said));
            let plans = said.plans.iter().map(plan);
            builder = builder.plans(plans.fold(Plans::new(), |plans, (name, quota)| plans.with(name, quota)));
        }
        builder = match (said.max_keys, said.max_bytes) {
            (Some(_), Some(_)) => {
                return at.field("maxBytes").refuse("`maxKeys` says how much is kept already");
            }
            (Some(most), None) => builder.max_keys(most),
            (None, Some(most)) => builder.max_bytes(most),
            (None, None) => builder,
        };
        let builder = self.distributed(at, said, builder)?;
        let limit = match self.kept.limits.define(builder) {
            Ok(limit) => limit,
            Err(error) => return refused(at, said, &error),
        };
        charge(at, said, limit)
    }

    /// Where its accounts are kept.
    fn distributed(&self, at: At<'_>, said: &RateLimit, builder: LimitBuilder) -> Option<LimitBuilder> {
        let Some(server) = &said.redis else {
            let only = [
                ("fallback", said.fallback.is_some()),
                ("deadline", said.deadline.is_some()),
                ("lease", said.lease.is_some()),
                ("instances", said.instances.is_some()),
                ("rememberRefusals", said.remember_refusals.is_some()),
            ];
            return match only.into_iter().find(|(_, is_said)| *is_said) {
                Some((field, _)) => at.field(field).refuse("only limits on `redis` have it"),
                None => Some(builder),
            };
        };
        if said.algorithm == LimitAlgorithm::LeakyBucket {
            return at
                .field("redis")
                .refuse("before a `leakyBucket` requests wait, and they wait in one process");
        }
        if said.lease.as_ref().is_some_and(|lease| lease.0 > MOST_AHEAD) {
            return at.field("lease").refuse("more than 5% of an account cannot be taken ahead");
        }
        let shares = said.fallback.is_none_or(|fallback| fallback == LimitFallback::LocalShare);
        if said.instances.is_some() && !shares {
            return at.field("instances").refuse("only the fallback `localShare` asks how many there are");
        }
        self.on_redis(at, server, said, builder)
    }

    #[cfg(feature = "redis")]
    fn on_redis(
        &self,
        at: At<'_>,
        server: &str,
        said: &RateLimit,
        builder: LimitBuilder,
    ) -> Option<LimitBuilder> {
        use crate::admission::rate_limit::Fallback;

        // A bucket that was asked for one unit is whole when it is back, and a window when it has gone by.
        let kept = match said.algorithm {
            LimitAlgorithm::TokenBucket | LimitAlgorithm::LeakyBucket => said.rate.0.interval(),
            LimitAlgorithm::SlidingWindow | LimitAlgorithm::FixedWindow => said.rate.0.period(),
        };
        strangers(at.field("key"), said.key.as_ref(), kept);
        let stores = self.stores.borrow();
        let (_, there) =
            self.find(at.field("redis"), server, "server", "redis", stores.distributions.all())?.clone();
        let there = match said.fallback {
            Some(LimitFallback::Allow) => there.fallback(Fallback::Allow),
            Some(LimitFallback::Deny) => there.fallback(Fallback::Deny),
            Some(LimitFallback::LocalShare) | None => there,
        };
        let there = match &said.deadline {
            Some(time) => there.deadline(deadline(at.field("deadline"), time)?),
            None => there,
        };
        let there = said.lease.iter().fold(there, |there, lease| there.lease(lease.0));
        let there = said.instances.iter().fold(there, |there, instances| there.at_least(*instances));
        let there = said.remember_refusals.iter().fold(there, |there, time| there.remember_refusals(time.0));
        Some(builder.distributed(there))
    }

    #[cfg(not(feature = "redis"))]
    fn on_redis(&self, _: At<'_>, _: &str, _: &RateLimit, _: LimitBuilder) -> Option<LimitBuilder> {
        // This was reported where the server is defined, or it is not.
        None
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
        let inside = charges.iter().any(|(_, charge)| charge.needs_identity());
        for (at, charge) in charges {
            let limit = charge.limit();
            let counts = |listener: &&Listener| listener.rate_limit.iter().any(|name| name == limit.name());
            if let Some(listener) = self.file.all_listeners().find(counts) {
                at.error(format!(
                    "the listener `{}` counts each request on this account already, and it is charged once",
                    listener.name.0.0
                ));
            }
            if limit.key().needs_identity() && providers.is_none() {
                at.warn("it counts callers, and nobody asks who they are: addresses are counted instead");
            } else if charge.needs_identity() && providers.is_none() {
                at.warn("it knows callers or their plans, and nobody asks who they are");
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

/// How a limit counts. What belongs to another algorithm is an error.
fn algorithm(at: At<'_>, said: &RateLimit) -> Option<Algorithm> {
    let only = [
        ("burst", said.burst.is_some(), LimitAlgorithm::TokenBucket, "a `tokenBucket` has a burst"),
        (
            "utcOffset",
            said.utc_offset.is_some(),
            LimitAlgorithm::FixedWindow,
            "a `fixedWindow` has a calendar",
        ),
        (
            "maxWait",
            said.max_wait.is_some(),
            LimitAlgorithm::LeakyBucket,
            "before a `leakyBucket` requests wait",
        ),
        (
            "maxWaiting",
            said.max_waiting.is_some(),
            LimitAlgorithm::LeakyBucket,
            "before a `leakyBucket` requests wait",
        ),
    ];
    for (field, is_said, algorithm, why) in only {
        if is_said && said.algorithm != algorithm {
            return at.field(field).refuse(format!("only {why}"));
        }
    }
    for (plan_at, _, plan) in at.field("plans").entries(&said.plans) {
        if plan.burst.is_some() && said.algorithm != LimitAlgorithm::TokenBucket {
            return plan_at.field("burst").refuse("only a `tokenBucket` has a burst");
        }
    }
    Some(match said.algorithm {
        LimitAlgorithm::TokenBucket => Algorithm::TokenBucket,
        LimitAlgorithm::SlidingWindow => Algorithm::SlidingWindow,
        LimitAlgorithm::FixedWindow => {
            Algorithm::FixedWindow { zone: said.utc_offset.as_ref().map_or(Calendar::UTC, |zone| zone.0) }
        }
        LimitAlgorithm::LeakyBucket => {
            let max_wait = said.max_wait.as_ref().map_or(MAX_WAIT, |wait| wait.0);
            if max_wait > LONGEST_WAIT {
                return at.field("maxWait").refuse("expected at most an hour: nobody waits for longer");
            }
            Algorithm::LeakyBucket { max_wait }
        }
    })
}

/// Where in the file it stands that a limit cannot be.
fn refused<T>(at: At<'_>, said: &RateLimit, error: &LimitError) -> Option<T> {
    let debt = said.max_debt.is_some();
    match error {
        LimitError::Burst { .. } if !debt || said.burst.is_some() => {
            at.field("burst").refuse("at this rate it would take more than a hundred years to refill")
        }
        LimitError::Burst { .. } | LimitError::Window { .. } if debt => {
            at.field("maxDebt").refuse("nobody can owe as much at this rate")
        }
        LimitError::Wait(_) => at.field("maxWait").refuse("nobody waits for so long"),
        LimitError::Plan { plan, .. } => {
            let at = at.field("plans").field(plan).field("rate");
            match said.algorithm {
                LimitAlgorithm::SlidingWindow | LimitAlgorithm::FixedWindow => at.refuse(format!(
                    "the limit counts in windows of another length: its rate is {}",
                    said.rate.0
                )),
                _ => at.refuse("with its burst it would take more than a hundred years to refill"),
            }
        }
        other => at.field("rate").refuse(other.to_string()),
    }
}

/// What requests are charged, and which.
fn charge(at: At<'_>, said: &RateLimit, limit: Limit) -> Option<Charge> {
    let holds = |plan: &PlanQuota| capacity(limit.algorithm(), quota(plan));
    let most = said.plans.values().map(holds).chain([limit.burst().get()]).max().unwrap_or_default();
    let cost = cost(at.field("cost"), said.cost.as_ref(), most.into())?;
    if let (Some(least), false) = (said.cost.as_ref().map(LimitCost::least), said.plans.is_empty()) {
        let plans = at.field("plans").entries(&said.plans).map(|(at, _, plan)| (at, holds(plan)));
        for (at, _) in plans.chain([(at.field("rate"), limit.burst().get())]).filter(|(_, all)| least > *all)
        {
            at.warn(format!("a request costs {least}, which is more than such an account ever holds"));
        }
    }
    let mut charge = limit.costing(cost).in_shadow(said.shadow).spend_on_denial(said.spend_on_denial);
    if let Some(by) = &said.settle {
        charge = charge.settle(settle(at.field("settle"), by)?);
    } else if said.max_debt.is_some() {
        return at.field("maxDebt").refuse("nobody comes into debt without `settle`");
    }
    Some(skips(at.field("skip"), &said.skip)?.into_iter().fold(charge, Charge::skip))
}

/// Whose accounts are kept for long on a server that bounds nothing, though who asks makes them up.
#[cfg(feature = "redis")]
pub(super) fn strangers(at: At<'_>, key: Option<&KeyList>, kept: Duration) {
    const LONG: Duration = Duration::from_secs(86_400);
    let is_made_up = |part: &KeyPart| match part {
        KeyPart::Named(name) => matches!(name, KeyName::ClientIp),
        KeyPart::Of(of) => of.claim.is_none(),
    };
    let parts = match key {
        Some(KeyList::One(part)) => std::slice::from_ref(part),
        Some(KeyList::All(parts)) => parts,
        None => &[],
    };
    if kept >= LONG && parts.iter().any(is_made_up) {
        at.warn("whoever asks makes up accounts, and Redis keeps each for a day or longer: count callers, or bound its memory");
    }
}

/// The most that an account of this quota holds.
fn capacity(algorithm: Algorithm, quota: Quota) -> u32 {
    let Algorithm::LeakyBucket { max_wait } = algorithm else { return quota.burst().get() };
    let waiting = max_wait.as_nanos() / quota.rate().interval().as_nanos().max(1);
    u32::try_from(waiting + 1).unwrap_or(u32::MAX)
}

fn quota(said: &PlanQuota) -> Quota {
    let quota = Quota::new(said.rate.0);
    said.burst.map_or(quota, |burst| quota.with_burst(burst))
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
