//! `overload`.
use std::time::Duration;

use super::{
    Compiler,
    load::{LONGEST, some_share},
};
use crate::{
    admission::shed::{Memory, Overload, OverloadBuilder, Priorities, Priority},
    config::{
        at::At,
        schema::{ConcurrencyLimit, DelayRange, MemoryRange, PriorityClass},
    },
    identity::TrustedProxies,
    ratio::Ratio,
    stack::gateway::SnapshotBuilder,
};

impl Compiler<'_> {
    /// What is watched, and what tells how important a request is.
    pub(super) fn overload(&self, builder: SnapshotBuilder) -> (SnapshotBuilder, Option<(String, Overload)>) {
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
            if self.file.listeners.iter().all(|listener| listener.trusted_proxies.is_empty()) {
                at.field("header").warn("no listener has `trustedProxies`: nobody is believed");
            }
        }
        priorities = rules
            .plans
            .iter()
            .fold(priorities, |priorities, (plan, class)| priorities.plan(plan.as_str(), priority(*class)));
        // The queues that are watched are part of what is said.
        let said = format!("{rules:?} {:?}", self.file.concurrency);
        let made = self.sources(at, Overload::builder()).and_then(|made| at.accept(made.build()));
        let Some(made) = made else { return (builder, None) };
        let overload = match &self.kept.overload {
            Some((before, kept)) if *before == said => kept.clone(),
            _ => made,
        };
        (builder.overload(overload.clone(), priorities), Some((said, overload)))
    }

    fn sources(&self, at: At<'_>, mut builder: OverloadBuilder) -> Option<OverloadBuilder> {
        let rules = self.file.overload.as_ref()?;
        if let Some(DelayRange { start, full }) = &rules.event_loop
            && delays(at.field("eventLoop"), start.0, full.0).is_some()
        {
            builder = builder.event_loop(start.0..full.0);
        }
        if let Some(DelayRange { start, full }) = &rules.queue_delay {
            let at = at.field("queueDelay");
            let has_one = |limit: &ConcurrencyLimit| limit.queue.is_some() && limit.key.is_none();
            if !self.file.concurrency.values().any(has_one) {
                at.error("no limit of `concurrency` has a queue for all: those of a `key` do not count");
            }
            if delays(at, start.0, full.0).is_some() {
                let watched = self
                    .concurrency
                    .iter()
                    .filter(|(name, _)| self.file.concurrency.get(**name).is_some_and(has_one));
                builder = watched
                    .fold(builder, |builder, (_, (_, limit))| builder.queue_delay(limit, start.0..full.0));
            }
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

pub(super) const fn priority(class: PriorityClass) -> Priority {
    match class {
        PriorityClass::Critical => Priority::Critical,
        PriorityClass::High => Priority::High,
        PriorityClass::Normal => Priority::Normal,
        PriorityClass::Low => Priority::Low,
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
