//! `concurrency`: the named limits of what is in flight.
use std::{num::NonZeroU32, time::Duration};

use super::{
    Compiler,
    charges::skips,
    limits::key,
    overload::{some_share, some_time},
};
use crate::{
    admission::concurrency::{
        Aimd, Concurrency, ConcurrencyBuilder, ConcurrencyError, Gradient, Latency, Order, Partitions, Queue,
    },
    config::{
        at::At,
        scalar::Text,
        schema::{
            AdaptiveAlgorithm, AdaptiveLimit, ConcurrencyLimit, LatencyOf, PartitionBy, PartitionName,
            PartitionRules, QueueOrder, QueueRules,
        },
    },
    key::Key,
    ratio::Ratio,
};

/// How long a request waits unless told.
const WAIT: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl Compiler<'_> {
    /// A named limit. One of that name which is in force goes on, if need be under other terms.
    pub(super) fn concurrency(
        &self,
        at: At<'_>,
        name: &str,
        limit: &ConcurrencyLimit,
    ) -> Option<Concurrency> {
        let terms = self.terms(at, name, limit)?;
        if let Some(same) = self.kept.concurrency.again(name, limit) {
            return Some(same.clone());
        }
        let made = match self.kept.concurrency.before(name) {
            Some(before) => before.redefine(terms),
            None => terms.build(),
        };
        made.map_err(|error| at.field(field_of(&error)).error(error.to_string())).ok()
    }

    fn terms(&self, at: At<'_>, name: &str, limit: &ConcurrencyLimit) -> Option<ConcurrencyBuilder> {
        let mut builder = match (limit.max, &limit.adaptive) {
            (Some(max), None) => Concurrency::fixed(name, max),
            (None, Some(adaptive)) => adaptive_limit(at.field("adaptive"), name, adaptive)?,
            _ if at.is_broken() => return None,
            _ => return at.refuse("expected exactly one of `max` and `adaptive`"),
        };
        if let Some(by) = &limit.key {
            let removed = |part: &Key| match part {
                Key::Header(name) => self.removed(name),
                _ => None,
            };
            builder = builder.by(key(at.field("key"), by, &removed)?);
        } else if limit.max_keys.is_some() {
            at.field("maxKeys").error("there is no `key`");
        }
        if let Some(most) = limit.max_keys {
            builder = builder.max_keys(most);
        }
        if let Some(rules) = &limit.queue {
            builder = builder.queue(queue(at.field("queue"), rules)?);
        }
        if let Some(rules) = &limit.partitions {
            let at = at.field("partitions");
            // Each share is a place at least.
            if limit.max.is_some_and(|max| rules.shares.len() > max.get() as usize) {
                at.field("shares").error("more shares than places: each has one at least");
            }
            builder = builder.partitions(self.partitions(at, rules)?);
        }
        if let Some(after) = &limit.retry_after {
            if after.0 > DAY {
                at.field("retryAfter").error("expected at most a day: nobody comes again after longer");
            }
            builder = builder.retry_after(after.0);
        }
        let skips = skips(at.field("skip"), &limit.skip)?;
        Some(skips.into_iter().fold(builder.in_shadow(limit.shadow), ConcurrencyBuilder::skip))
    }

    fn partitions(&self, at: At<'_>, rules: &PartitionRules) -> Option<Partitions> {
        let by = at.field("by");
        let partitions = match &rules.by {
            PartitionBy::Named(PartitionName::Plan) => Partitions::by_plan(),
            PartitionBy::Named(PartitionName::Route) => Partitions::by_route(),
            PartitionBy::Of(of) => match (&of.claim, &of.header) {
                (Some(claim), None) => Partitions::by_claim(claim.as_str()),
                (None, Some(header)) => match self.removed(&header.0) {
                    Some(why) => return by.field("header").refuse(why),
                    None => Partitions::by_header(header.0.clone()),
                },
                _ => return by.refuse("expected exactly one of `claim` and `header`"),
            },
        };
        if rules.shares.is_empty() && !at.field("shares").is_broken() {
            at.field("shares").error("keeps nothing for anybody");
        }
        for (at, _, share) in at.field("shares").entries(&rules.shares) {
            some_share(at, share.0);
        }
        let with = |partitions: Partitions, (value, share): (&String, &Text<Ratio>)| {
            partitions.share(value.as_str(), share.0)
        };
        Some(rules.shares.iter().fold(partitions, with))
    }
}

fn adaptive_limit(at: At<'_>, name: &str, rules: &AdaptiveLimit) -> Option<ConcurrencyBuilder> {
    let some = |number: Option<NonZeroU32>, default| number.map_or(default, NonZeroU32::get);
    let (min, max) = (some(rules.min, 2), some(rules.max, 1000));
    if min > max {
        return at.field("min").refuse("more than `max`");
    }
    let initial = some(rules.initial, 20.clamp(min, max));
    if !(min..=max).contains(&initial) {
        return at.field("initial").refuse("not between `min` and `max`");
    }
    if let Some(timeout) = &rules.timeout {
        some_time(at.field("timeout"), timeout.0);
        if rules.algorithm != AdaptiveAlgorithm::Aimd {
            at.field("timeout").error("is for the algorithm `aimd`");
        }
    }
    let (min, max) = (NonZeroU32::new(min)?, NonZeroU32::new(max)?);
    let initial = NonZeroU32::new(initial)?;
    let builder = match rules.algorithm {
        AdaptiveAlgorithm::Gradient => {
            Concurrency::adaptive(name, Gradient::new().bounds(min, max).initial(initial))
        }
        AdaptiveAlgorithm::Aimd => {
            let aimd = Aimd::new().bounds(min, max).initial(initial);
            Concurrency::adaptive(
                name,
                rules.timeout.iter().fold(aimd, |aimd, timeout| aimd.timeout(timeout.0)),
            )
        }
    };
    Some(builder.latency(match rules.latency {
        LatencyOf::End => Latency::End,
        LatencyOf::Head => Latency::Head,
    }))
}

fn queue(at: At<'_>, rules: &QueueRules) -> Option<Queue> {
    let mut queue = Queue::new(rules.length).order(match rules.order {
        QueueOrder::Fair => Order::Fair,
        QueueOrder::Newest => Order::Newest,
        QueueOrder::Priority => Order::Priority,
    });
    if let Some(timeout) = &rules.timeout {
        some_time(at.field("timeout"), timeout.0);
        queue = queue.timeout(timeout.0);
    }
    let timeout = rules.timeout.as_ref().map_or(WAIT, |timeout| timeout.0);
    if let Some(codel) = &rules.codel {
        let at = at.field("codel");
        if codel.target.0.is_zero() {
            return at.field("target").refuse("expected more than nothing");
        }
        if codel.target.0 >= codel.interval.0 {
            return at.field("target").refuse("not shorter than `interval`");
        }
        // It refuses who has waited for longer than twice that.
        if codel.target.0 * 2 >= timeout {
            return at
                .field("target")
                .refuse("not shorter than half the queue's `timeout`: nobody waits for long enough");
        }
        queue = queue.codel(codel.target.0, codel.interval.0);
    }
    Some(queue)
}

/// The field that is to blame.
const fn field_of(error: &ConcurrencyError) -> &'static str {
    match error {
        ConcurrencyError::AdaptiveByKey => "key",
        ConcurrencyError::PartitionsByKey | ConcurrencyError::Shares => "partitions",
        ConcurrencyError::Queue => "queue",
    }
}
