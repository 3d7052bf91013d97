use std::{fmt, sync::Arc};

use http::response;
use tokio::{sync::broadcast, time::Instant};

use super::{Policy, keyed::Keyed, policy::Judge};
use crate::{
    context::Deadline,
    gate::{Gate, Pass},
    head::Head,
    outcome::{End, Judgement, Outcome, lasts},
    reject::{Answer, Reason, Rejection},
    resilience::timeout::head_deadline,
    trip::{Change, CircuitOpen, Counts, Entry, Mode, Parts, State, Trip, Watcher},
    upload::Upload,
};

/// Events that are kept for subscribers who are busy.
const EVENTS: usize = 64;

/// What all services of a layer share: the gate.
pub(crate) struct Circuit {
    pub(super) name: Arc<str>,
    judge: Judge,
    pub(super) machines: Machines,
    pub(super) counts: Arc<Counts>,
    pub(super) events: broadcast::Sender<Event>,
}

pub(super) enum Machines {
    One(Trip),
    Keyed(Box<Keyed>),
}

/// A breaker has moved.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// Its name.
    pub breaker: Arc<str>,
    /// Where it stands from now on, and why. Of a breaker by key it is one of the keys that moved.
    pub change: Change,
}

impl Circuit {
    pub(super) fn new(policy: Policy) -> Self {
        let Policy { name, trip, judge, by, max_keys, in_shadow, chance } = policy;
        let (events, _) = broadcast::channel(EVENTS);
        let counts = Arc::<Counts>::default();
        let mode = if in_shadow { Mode::Observed } else { Mode::Enforced };
        let watcher = Some(watcher(Arc::clone(&name), events.clone()));
        let parts = Parts { chance, watcher, counts: Arc::clone(&counts), mode };
        let machines = match by {
            None => Machines::One(Trip::busy(trip, parts)),
            Some(key) => Machines::Keyed(Box::new(Keyed::new(key, max_keys, trip, parts))),
        };
        Self { name, judge, machines, counts, events }
    }
}

fn watcher(name: Arc<str>, events: broadcast::Sender<Event>) -> Watcher {
    Arc::new(move |change| {
        let (state, cause) = (change.state.label(), change.cause.label());
        let seconds = change.wait.map(|wait| wait.as_secs_f64());
        if change.state == State::Open {
            tracing::warn!(target: "portcullis::breaker", breaker = &*name, state, cause, seconds);
        } else {
            tracing::info!(target: "portcullis::breaker", breaker = &*name, state, cause);
        }
        // That nobody listens is no error.
        let _ = events.send(Event { breaker: Arc::clone(&name), change: *change });
    })
}

impl Gate for Circuit {
    type Pass = Judged;

    fn check(&self, head: &mut Head<'_>) -> Result<Judged, Answer> {
        let entry = match &self.machines {
            Machines::One(trip) => trip.ask(|| head.now()),
            Machines::Keyed(keyed) => match keyed.of(head) {
                Some(trip) => trip.ask(|| head.now()),
                None => return Ok(Judged { watching: None }),
            },
        };
        let entry = entry.map_err(refusal)?;
        if entry.is_spared() {
            let (gate, reason) = (&*self.name, Reason::CircuitOpen.label());
            tracing::info!(target: "portcullis::shadow", gate, reason, "would have answered");
            return Ok(Judged { watching: None });
        }
        let extensions = head.extensions();
        let watching = Watching {
            entry,
            judge: self.judge.clone(),
            until_head: head_deadline(extensions),
            until_end: extensions.get().copied(),
            upload: extensions.get().cloned(),
        };
        Ok(Judged { watching: Some(watching) })
    }
}

fn refusal(open: CircuitOpen) -> Answer {
    let refusal = Rejection::new(Reason::CircuitOpen).detail("too many requests before this one failed");
    refusal.retry_after(open.retry_after()).unsent().into()
}

/// Tells a breaker how a request ended.
pub struct Judged {
    /// `None`: nobody wants to know.
    watching: Option<Watching>,
}

struct Watching {
    entry: Entry,
    judge: Judge,
    until_head: Option<Deadline>,
    until_end: Option<Deadline>,
    upload: Option<Upload>,
}

impl Watching {
    fn judge(&self, outcome: &Outcome) -> Judgement {
        if let Some(own) = &self.judge.own {
            return own(outcome);
        }
        if outcome.end != End::Cancelled {
            let is_kept_to = |until: Deadline| until.is_callers_and_due(Instant::now());
            let of_caller = outcome.is_told_late() && self.until_end.is_some_and(is_kept_to);
            return self.judge.of_ended(outcome, self.entry.is_probe(), of_caller);
        }
        let now = Instant::now();
        if self.judge.cancelling_fails || self.timed_out(outcome, now) {
            Judgement::Failure
        } else if self.entry.is_slow(now) {
            Judgement::Success // a slow one
        } else {
            Judgement::Neither
        }
    }

    /// Whether it was a timeout of ours, further outside, that did not wait any longer.
    fn timed_out(&self, outcome: &Outcome, now: Instant) -> bool {
        let until = if outcome.status.is_none() { self.until_head } else { self.until_end };
        let is_over = until.is_some_and(|until| until.is_imposed() && until.left(now).is_zero());
        is_over && !self.upload.as_ref().is_some_and(Upload::is_awaited)
    }
}

impl Pass for Judged {
    fn watches(&self) -> bool {
        self.watching.is_some()
    }

    fn holds(&self) -> bool {
        self.watching.is_some()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        if let Some(watching) = &mut self.watching
            && lasts(head)
        {
            watching.entry.answered(Instant::now);
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let Some(watching) = &mut self.watching else { return };
        match watching.judge(outcome) {
            Judgement::Success => watching.entry.tell(false, Instant::now),
            Judgement::Failure => watching.entry.tell(true, Instant::now),
            Judgement::Neither => {}
        }
    }
}

impl fmt::Debug for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judged").field("watches", &self.watches()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit")
            .field("name", &self.name)
            .field("judge", &self.judge)
            .finish_non_exhaustive()
    }
}
