//! `quotas`.
#[cfg(feature = "redis")]
use std::time::Duration;

use super::{
    Compiler,
    charges::{cost, settle, skips},
    limits::key,
};
#[cfg(feature = "redis")]
use super::{charges::deadline, limits::strangers};
use crate::{
    admission::quota::{self, QuotaError, QuotaStore},
    authn::Providers,
    config::{
        at::At,
        schema::{Allowance, BillingPeriod, PeriodName, Quota, QuotaFallback, QuotaPeriod},
    },
    key::Key,
    stack::gateway,
    time::{BillingDay, Period},
};

impl Compiler<'_> {
    /// A named quota, with the counters that are in force if they are the same.
    pub(super) fn quota(&self, at: At<'_>, name: &str, said: &Quota) -> Option<quota::Quota> {
        let counted = |part: &Key| match part {
            Key::Header(name) => self.removed(name),
            _ => None,
        };
        let period = period(at.field("period"), said.period)?;
        let mut builder = quota::Quota::builder(name, allowance(said.allowance), period)
            .store(self.quota_store(at, name, said)?);
        if let Some(list) = &said.key {
            builder = builder.by(key(at.field("key"), list, &counted)?);
        }
        if let Some(offset) = &said.utc_offset {
            builder = builder.calendar(offset.0);
        }
        for (plan, units) in &said.plans {
            builder = builder.plan(plan.as_str(), allowance(*units));
        }
        // With no units at all everybody is refused on purpose.
        let allowed = said.plans.values().chain([&said.allowance]).map(|said| said.units());
        let most = allowed.max().filter(|most| *most > 0).unwrap_or(u64::MAX);
        builder = builder.costing(cost(at.field("cost"), said.cost.as_ref(), most)?);
        if let Some(by) = &said.settle {
            builder = builder.settle(settle(at.field("settle"), by)?);
        }
        let skips = skips(at.field("skip"), &said.skip)?;
        builder = skips.into_iter().fold(builder.in_shadow(said.shadow), quota::QuotaBuilder::skip);
        match self.kept.quotas.define(builder) {
            Ok(quota) => Some(quota),
            Err(error @ QuotaError::Allowance) => at.field("allowance").refuse(error.to_string()),
            Err(error) => at.refuse(error.to_string()),
        }
    }

    fn quota_store(&self, at: At<'_>, name: &str, said: &Quota) -> Option<QuotaStore> {
        let store = match (&said.redis, &said.file) {
            (Some(server), None) => {
                // What was counted can be read for a day after its period.
                #[cfg(feature = "redis")]
                strangers(at.field("key"), said.key.as_ref(), Duration::from_secs(86_400));
                self.redis_store(at, name, server)?
            }
            (None, Some(file)) => {
                let same = |(other, quota): &(&String, &Quota)| {
                    other.as_str() < name && quota.file.as_ref() == Some(file)
                };
                if let Some((other, _)) = self.file.quotas.iter().find(same) {
                    return at.field("file").refuse(format!("it is the file of `{other}`"));
                }
                QuotaStore::file(self.path(file))
            }
            (None, None) if said.fallback.is_some() => {
                return at
                    .field("fallback")
                    .refuse("only what `redis` or a `file` keeps can be out of reach");
            }
            (None, None) => QuotaStore::memory(),
            (Some(_), Some(_)) => return at.field("file").refuse("`redis` keeps the counters already"),
        };
        let store = match (&said.deadline, &said.redis) {
            (Some(_), None) => return at.field("deadline").refuse("only `redis` has a deadline"),
            #[cfg(feature = "redis")]
            (Some(time), Some(_)) => store.deadline(deadline(at.field("deadline"), time)?),
            _ => store,
        };
        let store = match said.max_keys {
            Some(_) if said.redis.is_some() => {
                return at.field("maxKeys").refuse("`redis` holds as many as there are");
            }
            Some(most) => store.max_keys(most),
            None => store,
        };
        Some(match said.fallback {
            Some(QuotaFallback::Deny) => store.fallback(quota::QuotaFallback::Deny),
            Some(QuotaFallback::Allow) | None => store.fallback(quota::QuotaFallback::Allow),
        })
    }

    /// The store on this server, the same for all quotas there, so that a list of them is asked at once.
    #[cfg(feature = "redis")]
    fn redis_store(&self, at: At<'_>, _: &str, server: &str) -> Option<QuotaStore> {
        let (said, redis) = self.server(at.field("redis"), server)?;
        let kept = self.stores.borrow().quotas.before(server).cloned();
        let kept = kept.or_else(|| self.kept.stores.quotas.again(server, &said).cloned());
        let store = kept.unwrap_or_else(|| QuotaStore::redis(redis));
        self.stores.borrow_mut().quotas.insert(server, said, store.clone());
        Some(store)
    }

    #[cfg(not(feature = "redis"))]
    fn redis_store(&self, _: At<'_>, _: &str, _: &str) -> Option<QuotaStore> {
        // This was reported where the server is defined, or it is not.
        None
    }

    /// The quotas of a rule.
    pub(super) fn rule_quotas(
        &self,
        at: At<'_>,
        mut made: gateway::Rule,
        names: &[String],
        providers: Option<&Providers>,
    ) -> gateway::Rule {
        let removed = |part: &Key| self.removed_inside(part, providers);
        for (at, name) in self.distinct(at, names) {
            let Some(quota) = self.find(at, name, "quota", "quotas", &self.quotas) else { continue };
            if quota.key().needs_identity() && providers.is_none() {
                at.warn("it counts callers, and nobody asks who they are: addresses are counted instead");
            } else if quota.needs_identity() && providers.is_none() {
                at.warn("it knows callers or their plans, and nobody asks who they are");
            }
            if let Some(why) = quota.key().parts().into_iter().find_map(removed) {
                at.error(why);
            }
            made = made.quota(quota.clone());
        }
        made
    }
}

fn allowance(said: Allowance) -> quota::Allowance {
    match said {
        Allowance::Units(units) => quota::Allowance::Units(units),
        Allowance::Unlimited(_) => quota::Allowance::Unlimited,
    }
}

fn period(at: At<'_>, said: QuotaPeriod) -> Option<Period> {
    Some(match said {
        QuotaPeriod::Named(PeriodName::Minute) => Period::Minute,
        QuotaPeriod::Named(PeriodName::Hour) => Period::Hour,
        QuotaPeriod::Named(PeriodName::Day) => Period::Day,
        QuotaPeriod::Named(PeriodName::Week) => Period::Week,
        QuotaPeriod::Named(PeriodName::Month) => Period::Month,
        QuotaPeriod::Named(PeriodName::Year) => Period::Year,
        QuotaPeriod::From(BillingPeriod { billing_day }) => match BillingDay::new(billing_day) {
            Some(day) => Period::Billing(day),
            None => return at.field("billingDay").refuse("expected a day of a month, from 1 to 31"),
        },
    })
}
