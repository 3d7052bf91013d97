//! `overload`, priorities, success rates, and who names the limits of `concurrency`.
use std::time::Duration;

use super::Compiler;
use crate::{
    admission::{
        Priorities, Priority,
        concurrency::Concurrency,
        shed::{Memory, Overload, OverloadBuilder, SuccessRate},
    },
    config::{
        at::At,
        kept::KeptOverload,
        schema::{
            Authenticate, ConcurrencyLimit, DelayRange, MemoryRange, Overload as OverloadRules, Policies,
            PriorityClass, SuccessRateRules, Upstream,
        },
    },
    identity::TrustedProxies,
    ratio::Ratio,
    stack::gateway::{Backend, Listen, Rule, SnapshotBuilder},
};

/// A longer wait is a mistake: no client waits so long for its turn.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);

impl Compiler<'_> {
    /// A list of names of limits, each with its place.
    fn in_flight<'b>(&self, at: At<'b>, names: &'b [String]) -> Vec<(At<'b>, Concurrency)> {
        let find =
            |(at, name)| Some((at, self.find(at, name, "limit", "concurrency", &self.concurrency)?.clone()));
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
            if let Some(upstream) = self.upstream_with_queue(&limit) {
                at.error(format!(
                    "requests wait for this limit in front of the upstream `{upstream}` too: two of them could each hold \
                     what the other waits for. It may stand in rules or in front of upstreams, not both"
                ));
            }
            made = made.concurrency(limit);
        }
        made
    }

    /// An upstream in front of which requests wait for this limit.
    fn upstream_with_queue(&self, limit: &Concurrency) -> Option<&str> {
        let names_it = |upstream: &Upstream| upstream.concurrency.iter().any(|name| name == limit.name());
        let mut upstreams = self.file.upstreams.iter();
        let found = upstreams.find(|(_, upstream)| limit.has_queue() && names_it(upstream))?;
        Some(found.0)
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
            let Some(limit) = self.concurrency.get(name.as_str()) else { continue };
            // One with a queue was reported where the rule names it.
            if policies.concurrency.contains(name) && !limit.has_queue() {
                at.field("name").error(format!(
                    "the limit `{name}` stands in front of this upstream already: a request would hold two places"
                ));
            }
            made = made.concurrency(limit.clone());
        }
        match self.rates.get(upstream) {
            Some(rate) => made.success_rate(rate.clone()),
            None => made,
        }
    }

    /// What an upstream says of limits, told once, and its success rate.
    pub(super) fn upstream_load(&self, at: At<'_>, name: &str, upstream: &Upstream) -> Option<SuccessRate> {
        self.in_flight(at.field("concurrency"), &upstream.concurrency);
        let rules = upstream.success_rate.as_ref()?;
        let made = success_rate(at.field("successRate"), rules);
        Some(self.kept.rates.again(name, rules).cloned().unwrap_or(made))
    }

    /// What is watched, and what tells how important a request is.
    pub(super) fn overload(&self, builder: SnapshotBuilder) -> (SnapshotBuilder, Option<KeptOverload>) {
        let (at, Some(rules)) = (self.top.field("overload"), &self.file.overload) else {
            return (builder, None);
        };
        let nothing = rules.event_loop.is_none() && rules.memory.is_none() && rules.queue_delay.is_none();
        if nothing && !at.is_broken() {
            at.error("watches nothing: expected `eventLoop`, `memory` or `queueDelay`");
        }
        let mut priorities = Priorities::default();
        if let Some(header) = &rules.header {
            // Each listener believes its own trusted proxies.
            priorities = priorities.header(header.0.clone(), TrustedProxies::none());
            if self.file.all_listeners().all(|listener| listener.trusted().is_empty()) {
                at.field("header").warn("no listener has `trustedProxies`: nobody is believed");
            }
        }
        priorities = rules
            .plans
            .iter()
            .fold(priorities, |priorities, (plan, class)| priorities.plan(plan.as_str(), priority(*class)));
        let watched = self.watched_queues(at, rules);
        let made = self.sources(at, rules, &watched).and_then(|made| at.accept(made.build()));
        let Some(made) = made else { return (builder, None) };
        let same = |((before, queues), _): &&KeptOverload| {
            before == rules
                && queues.len() == watched.len()
                && queues.iter().zip(&watched).all(|(before, now)| before.is_same(now))
        };
        let overload = self.kept.overload.as_ref().filter(same).map_or(made, |(_, kept)| kept.clone());
        (builder.overload(overload.clone(), priorities), Some(((rules.clone(), watched), overload)))
    }

    /// The limits whose queues are for all.
    fn watched_queues(&self, at: At<'_>, rules: &OverloadRules) -> Vec<Concurrency> {
        if rules.queue_delay.is_none() {
            return Vec::new();
        }
        let has_one = |limit: &ConcurrencyLimit| limit.queue.is_some() && limit.key.is_none();
        if !self.file.concurrency.values().any(has_one) {
            at.field("queueDelay")
                .error("no limit of `concurrency` has a queue for all: those of a `key` do not count");
        }
        let made = self.concurrency.iter();
        let watched = made.filter(|(name, _)| self.file.concurrency.get(**name).is_some_and(has_one));
        watched.map(|(_, limit)| limit.clone()).collect()
    }

    fn sources(&self, at: At<'_>, rules: &OverloadRules, queues: &[Concurrency]) -> Option<OverloadBuilder> {
        let mut builder = Overload::builder();
        if let Some(DelayRange { start, full }) = &rules.event_loop
            && delays(at.field("eventLoop"), start.0, full.0).is_some()
        {
            builder = builder.event_loop(start.0..full.0);
        }
        if let Some(DelayRange { start, full }) = &rules.queue_delay
            && delays(at.field("queueDelay"), start.0, full.0).is_some()
        {
            let queues = queues.iter();
            builder = queues.fold(builder, |builder, limit| builder.queue_delay(limit, start.0..full.0));
        }
        if let Some(MemoryRange { start, full, bytes }) = &rules.memory {
            let at = at.field("memory");
            some_share(at.field("start"), start.0);
            let memory = match bytes {
                Some(bytes) => Ok(Memory::resident(*bytes)),
                None => Memory::cgroup(),
            };
            match memory {
                _ if ratio(start.0) >= ratio(full.0) => at.field("full").error("not more than `start`"),
                Ok(memory) => builder = builder.memory(memory, start.0..full.0),
                Err(error) => {
                    at.warn(format!("not watched on this machine: {error}; `bytes` says how much there is"));
                }
            }
        }
        Some(builder)
    }
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

const fn priority(class: PriorityClass) -> Priority {
    match class {
        PriorityClass::Critical => Priority::Critical,
        PriorityClass::High => Priority::High,
        PriorityClass::Normal => Priority::Normal,
        PriorityClass::Low => Priority::Low,
    }
}

/// Reports a time that is none, or longer than anybody waits.
pub(super) fn some_time(at: At<'_>, time: Duration) {
    if time.is_zero() || time > LONGEST {
        at.error("expected more than nothing and at most an hour");
    }
}

/// Reports a share that is none.
pub(super) fn some_share(at: At<'_>, share: Ratio) {
    if share == Ratio::NEVER {
        at.error("expected more than nothing");
    }
}

fn delays(at: At<'_>, start: Duration, full: Duration) -> Option<()> {
    if start.is_zero() {
        return at.field("start").refuse("expected more than nothing: some delay is always there");
    }
    if start >= full {
        return at.field("full").refuse("not more than `start`");
    }
    if full > LONGEST { at.field("full").refuse("expected at most an hour") } else { Some(()) }
}

fn ratio(share: Ratio) -> f64 {
    f64::from(share.numerator()) / f64::from(share.denominator())
}
