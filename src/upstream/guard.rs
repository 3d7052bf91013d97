//! The circuit breaker of one endpoint: while it is open, and half open while a probe is under way, the endpoint is withheld.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use http::response;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{availability::Withheld, member::Member};
use crate::{
    context::Deadline,
    outcome::{End, Judgement, Outcome, lasts},
    trip::{Entry, PATIENCE, Parts, State, Trip, Watcher},
};

/// The machine of a member that is to have one, made with its first request.
pub(super) type Guard = OnceLock<Trip>;

/// A request that a machine has let go.
pub(super) struct Watched {
    entry: Entry,
    /// Until when it is of use.
    until: Option<Deadline>,
}

/// Lets a request go to `member`. `None`: nobody looks at what becomes of it, since there is no breaker, or it is open and
/// the endpoint was picked for want of a better.
pub(super) fn admit(member: &Arc<Member>, until: Option<Deadline>) -> Option<Watched> {
    let trip = trip(member)?;
    let entry = trip.ask(Instant::now).ok()?;
    if entry.is_probe() {
        member.withhold(Withheld::Open, true); // one after the other
    }
    Some(Watched { entry, until })
}

fn trip(member: &Arc<Member>) -> Option<&Trip> {
    let policy = member.options().breaker?;
    let watcher = || Some(watcher(Arc::downgrade(member)));
    Some(member.guard().get_or_init(|| Trip::of(policy, Parts { watcher: watcher(), ..Parts::default() })))
}

fn watcher(member: Weak<Member>) -> Watcher {
    Arc::new(move |change| {
        let Some(member) = member.upgrade() else { return };
        tracing::info!(
            target: "portcullis::breaker",
            endpoint = %member.address(),
            state = change.state.label(),
            cause = change.cause.label(),
        );
        match (change.state, change.wait) {
            // Without a runtime nobody would let it back in.
            (State::Open, Some(wait)) => {
                if let Ok(runtime) = Handle::try_current() {
                    member.withhold(Withheld::Open, true);
                    runtime.spawn(let_probes_through(Arc::downgrade(&member), wait));
                }
            }
            (State::Closed, _) => member.withhold(Withheld::Open, false),
            _ => {}
        }
    })
}

/// When the wait is over, and again and again as long as probes do not end.
async fn let_probes_through(member: Weak<Member>, mut wait: Duration) {
    loop {
        sleep(wait).await;
        let Some(member) = member.upgrade() else { return };
        if state(&member) != State::HalfOpen {
            return;
        }
        member.withhold(Withheld::Open, false);
        wait = PATIENCE;
    }
}

fn state(member: &Member) -> State {
    member.guard().get().map_or(State::Closed, |trip| trip.state(Instant::now()))
}

impl Watched {
    /// The head of the response has come.
    pub(super) fn answered(&mut self, head: &response::Parts) {
        if lasts(head) {
            self.entry.answered(Instant::now);
        }
    }

    /// Tells the machine what became of it.
    pub(super) fn ended(self, member: &Member, outcome: &Outcome) {
        let Self { entry, until } = self;
        let is_probe = entry.is_probe();
        match judge(outcome, is_probe, until) {
            Judgement::Success => entry.tell(false, Instant::now),
            Judgement::Failure => entry.tell(true, Instant::now),
            Judgement::Neither => drop(entry),
        }
        // Also if it has closed: another probe may have closed it just before this one was withheld.
        if is_probe && state(member) != State::Open {
            member.withhold(Withheld::Open, false);
        }
    }
}

fn judge(outcome: &Outcome, is_probe: bool, until: Option<Deadline>) -> Judgement {
    if outcome.end == End::Cancelled {
        // A timeout of ours, further outside, did not wait any longer.
        let is_over = until.is_some_and(|until| until.is_imposed() && until.left(Instant::now()).is_zero());
        return if is_over { Judgement::Failure } else { Judgement::Neither };
    }
    let is_kept_to = |until: Deadline| until.is_callers_and_due(Instant::now());
    match outcome.judgement(outcome.is_told_late() && until.is_some_and(is_kept_to)) {
        Judgement::Neither if is_probe && outcome.is_told_to_caller() => Judgement::Success,
        judgement => judgement,
    }
}
