//! `concurrency`, and what names it.
use std::{num::NonZeroU32, time::Duration};

use super::{Compiler, limits::key, overload::priority};
use crate::{
    admission::{
        concurrency::{
            Aimd, Concurrency, ConcurrencyBuilder, ConcurrencyError, Gradient, Latency, Order, Partitions,
            Queue,
        },
        shed::SuccessRate,
    },
    config::{
        at::At,
        scalar::Text,
        schema::{
            AdaptiveAlgorithm, AdaptiveLimit, Authenticate, ConcurrencyLimit, LatencyOf, PartitionBy,
            PartitionName, PartitionRules, Policies, QueueOrder, QueueRules, SuccessRateRules, Upstream,
        },
    },
    key::Key,
    ratio::Ratio,
    stack::gateway::{Backend, Listen, Rule},
};

/// More requests in flight, or waiting, than one process holds.
const MOST: u32 = 1_000_000;
/// A longer wait is a mistake: no client waits so long for its turn.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

impl Compiler<'_> {
    /// A named limit: the one that is in force, if the file says the same of it.
    pub(super) fn concurrency(
        &self,
        at: At<'_>,
        name: &str,
        limit: &ConcurrencyLimit,
    ) -> Option<(String, Concurrency)> {
        let said = format!("{limit:?}");
        let made = self.new_concurrency(at, name, limit);
        match self.kept.concurrency.get(name) {
            Some((before, kept)) if *before == said => made.map(|_| (said, kept.clone())),
            _ => made.map(|made| (said, made)),
        }
    }

    fn new_concurrency(&self, at: At<'_>, name: &str, limit: &ConcurrencyLimit) -> Option<Concurrency> {
        let mut builder = match (limit.max, &limit.adaptive) {
            (Some(max), None) => {
                few(at.field("max"), max);
                Concurrency::fixed(name, max)
            }
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
            few(at.field("maxKeys"), most);
            builder = builder.max_keys(most);
        }
        if let Some(rules) = &limit.queue {
            builder = builder.queue(queue(at.field("queue"), rules)?);
        }
        if let Some(rules) = &limit.partitions {
            builder = builder.partitions(self.partitions(at.field("partitions"), rules)?);
        }
        if let Some(after) = &limit.retry_after {
            builder = builder.retry_after(after.0);
        }
        builder.build().map_err(|error| at.field(field_of(&error)).error(error.to_string())).ok()
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

    /// A list of names of limits, each with its place.
    fn in_flight<'b>(&self, at: At<'b>, names: &'b [String]) -> Vec<(At<'b>, Concurrency)> {
        let find = |(at, name)| {
            let (_, limit) = self.find(at, name, "limit", "concurrency", &self.concurrency)?;
            Some((at, limit.clone()))
        };
        self.distinct(at, names).into_iter().filter_map(find).collect()
    }

    /// The limits of a listener.
    pub(super) fn listener_concurrency(&self, at: At<'_>, names: &[String], mut listen: Listen) -> Listen {
        for (at, limit) in self.in_flight(at, names) {
            let said = self.file.concurrency.get(limit.name());
            if said.is_some_and(|said| said.queue.is_some()) {
                at.error(
                    "this limit has a queue, and at a listener nobody waits: use it in rules or upstreams",
                );
            }
            if limit.needs_identity() || limit.needs_route() {
                at.error("this limit counts by what is known only inside of a rule");
            }
            listen = listen.concurrency(limit);
        }
        listen
    }

    /// The limits and the priority of a rule.
    pub(super) fn rule_load(&self, at: At<'_>, mut made: Rule, policies: &Policies) -> Rule {
        let knows_callers = !matches!(policies.authenticate, None | Some(Authenticate::None(_)));
        if let Some(class) = policies.priority {
            made = made.priority(priority(class));
        }
        for (at, limit) in self.in_flight(at.field("concurrency"), &policies.concurrency) {
            let listener = self
                .file
                .listeners
                .iter()
                .find(|listener| listener.concurrency.iter().any(|name| name == limit.name()));
            if let Some(listener) = listener {
                at.error(format!(
                    "the listener `{}` counts each request on this limit already: it would hold two places",
                    listener.name.0.0
                ));
            }
            if limit.needs_identity() && !knows_callers {
                at.warn("it looks at callers, and nobody asks who they are");
            }
            made = made.concurrency(limit);
        }
        made
    }

    /// The limits in front of an upstream, which a rule must not name again.
    pub(super) fn backend_load(
        &self,
        at: At<'_>,
        upstream: &str,
        mut made: Backend,
        policies: &Policies,
    ) -> Backend {
        let Some(said) = self.file.upstreams.get(upstream) else { return made };
        for name in &said.concurrency {
            if policies.concurrency.contains(name) {
                at.field("name").error(format!(
                    "the limit `{name}` stands in front of this upstream already: a request would hold two places"
                ));
            }
            if let Some((_, limit)) = self.concurrency.get(name.as_str()) {
                made = made.concurrency(limit.clone());
            }
        }
        match self.rates.get(upstream) {
            Some((_, rate)) => made.success_rate(rate.clone()),
            None => made,
        }
    }

    /// What an upstream says of limits, told once, and its success rate.
    pub(super) fn upstream_load(
        &self,
        at: At<'_>,
        name: &str,
        upstream: &Upstream,
    ) -> Option<(String, SuccessRate)> {
        self.in_flight(at.field("concurrency"), &upstream.concurrency);
        let rules = upstream.success_rate.as_ref()?;
        let said = format!("{rules:?}");
        let made = success_rate(at.field("successRate"), rules);
        Some(match self.kept.rates.get(name) {
            Some((before, kept)) if *before == said => (said, kept.clone()),
            _ => (said, made),
        })
    }
}

fn adaptive_limit(at: At<'_>, name: &str, rules: &AdaptiveLimit) -> Option<ConcurrencyBuilder> {
    let some = |number: Option<NonZeroU32>, default| number.map_or(default, NonZeroU32::get);
    let (min, max) = (some(rules.min, 2), some(rules.max, 1000));
    if min > max {
        return at.field("min").refuse("more than `max`");
    }
    if let Some(max) = rules.max {
        few(at.field("max"), max);
    }
    let initial = some(rules.initial, 20.clamp(min, max));
    if !(min..=max).contains(&initial) {
        return at.field("initial").refuse("not between `min` and `max`");
    }
    if rules.timeout.is_some() && rules.algorithm != AdaptiveAlgorithm::Aimd {
        at.field("timeout").error("is for the algorithm `aimd`");
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
    few(at.field("length"), rules.length);
    let mut queue = Queue::new(rules.length).order(match rules.order {
        QueueOrder::Fair => Order::Fair,
        QueueOrder::Newest => Order::Newest,
        QueueOrder::Priority => Order::Priority,
    });
    if let Some(timeout) = &rules.timeout {
        if timeout.0.is_zero() || timeout.0 > LONGEST {
            return at.field("timeout").refuse("expected more than nothing and at most an hour");
        }
        queue = queue.timeout(timeout.0);
    }
    if let Some(codel) = &rules.codel {
        let at = at.field("codel");
        if codel.target.0.is_zero() {
            return at.field("target").refuse("expected more than nothing");
        }
        if codel.target.0 >= codel.interval.0 {
            return at.field("target").refuse("not shorter than `interval`");
        }
        queue = queue.codel(codel.target.0, codel.interval.0);
    }
    Some(queue)
}

fn success_rate(at: At<'_>, rules: &SuccessRateRules) -> SuccessRate {
    let mut builder = SuccessRate::builder();
    if let Some(threshold) = &rules.threshold {
        some_share(at.field("threshold"), threshold.0);
        builder = builder.threshold(threshold.0);
    }
    if let Some(most) = &rules.max_refused {
        some_share(at.field("maxRefused"), most.0);
        if most.0 == Ratio::ALWAYS {
            at.field("maxRefused").error("a server that is never asked is never found again");
        }
        builder = builder.max(most.0);
    }
    if let Some(window) = &rules.window {
        if window.0 < Duration::from_secs(1) || window.0 > LONGEST {
            at.field("window").error("expected a second to an hour");
        }
        builder = builder.window(window.0);
    }
    if let Some(fewest) = rules.fewest {
        builder = builder.fewest(fewest.get().into());
    }
    builder.build()
}

/// The field that is to blame.
const fn field_of(error: &ConcurrencyError) -> &'static str {
    match error {
        ConcurrencyError::AdaptiveByKey => "key",
        ConcurrencyError::PartitionsByKey | ConcurrencyError::Shares => "partitions",
        ConcurrencyError::Queue => "queue",
    }
}

/// Reports a number that nothing ever reaches.
fn few(at: At<'_>, number: NonZeroU32) {
    if number.get() > MOST {
        at.error("more than a million: this would bound nothing");
    }
}

/// Reports a share that is none.
pub(super) fn some_share(at: At<'_>, share: Ratio) {
    if share == Ratio::NEVER {
        at.error("expected more than nothing");
    }
}
