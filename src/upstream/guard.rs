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
    match trip(member)?.ask(Instant::now) {
        Ok(entry) => {
            if entry.is_probe() {
                member.withhold(Withheld::Open, true); // one after the other
            }
            Some(Watched { entry, until })
        }
        Err(open) => {
            // It opened where there was no runtime, or in one that has ended since.
            if member.availability().takes() {
                hold_back(member, open.retry_after());
            }
            None
        }
    }
}

/// Nobody goes there for this time. Without a runtime nobody would let it back in.
fn hold_back(member: &Arc<Member>, wait: Duration) {
    if let Ok(runtime) = Handle::try_current() {
        member.withhold(Withheld::Open, true);
        let held = Held(Arc::downgrade(member));
        runtime.spawn(async move { held.let_probes_through(wait).await });
    }
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
            (State::Open, Some(wait)) => hold_back(&member, wait),
            (State::Closed, _) => member.withhold(Withheld::Open, false),
            _ => {}
        }
    })
}

/// Who is held back. If this is dropped before its time, as with its runtime, nobody is.
struct Held(Weak<Member>);

impl Held {
    /// When the wait is over, and again and again as long as probes do not end.
    async fn let_probes_through(mut self, mut wait: Duration) {
        loop {
            sleep(wait).await;
            let Some(member) = self.0.upgrade() else { return };
            if state(&member) != State::HalfOpen {
                self.0 = Weak::new(); // whoever has opened it anew has another
                return;
            }
            member.withhold(Withheld::Open, false);
            wait = PATIENCE;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(member) = self.0.upgrade() {
            member.withhold(Withheld::Open, false);
        }
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
        let Self { mut entry, until } = self;
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

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, num::NonZeroU32};

    use http::{Response, StatusCode};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::{
        backoff::{Backoff, Jitter},
        reject::{Reason, Rejection},
        trip,
        upstream::{
            load::{Interest, Load},
            options::Options,
        },
    };

    const WAIT: Duration = Duration::from_secs(1);

    /// One failure opens its breaker, and two probes that end well close it.
    fn member() -> Arc<Member> {
        let two = NonZeroU32::MIN.saturating_add(1);
        let wait = Backoff::new(WAIT).jitter(Jitter::None);
        let breaker = trip::Policy::new().consecutive(NonZeroU32::MIN).wait(wait).probes(two, two);
        let options = Options { breaker: Some(breaker), ..Options::default() };
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        Arc::new(Member::new(address, "".into(), Arc::new(options), Arc::default()))
    }

    fn begin(member: &Arc<Member>) -> Load {
        Load::begin(Arc::clone(member), Interest::default(), None, None)
    }

    fn fail(member: &Arc<Member>) {
        begin(member).fail(&Rejection::new(Reason::UpstreamReset));
    }

    fn end_well(mut load: Load) {
        load.head(&Response::new(()).into_parts().0, true);
    }

    fn takes(member: &Member) -> bool {
        member.availability().takes()
    }

    /// A probe is withheld after it was let go: its breaker may have closed in between.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_withheld_once_the_breaker_has_closed() {
        let member = member();
        fail(&member);
        assert!(!takes(&member));
        sleep(2 * WAIT).await;
        assert!(takes(&member));
        let (one, other) = (begin(&member), begin(&member));
        end_well(one);
        let entry = trip(&member).unwrap().ask(Instant::now).unwrap();
        end_well(other);
        assert_eq!((state(&member), takes(&member)), (State::Closed, true));
        member.withhold(Withheld::Open, true);
        let good =
            Outcome { status: Some(StatusCode::OK), grpc: None, reason: None, end: End::Complete, bytes: 0 };
        Watched { entry, until: None }.ended(&member, &good);
        assert!(takes(&member));
    }

    #[test]
    fn a_runtime_that_ends_leaves_nobody_withheld() {
        let runtime = || -> Runtime { Builder::new_current_thread().enable_time().build().unwrap() };
        let member = member();
        fail(&member);
        assert!(takes(&member), "nobody would let it back in");
        let first = runtime();
        first.block_on(async {
            drop(begin(&member));
            assert!(!takes(&member), "held back by the first that went there for all that");
        });
        drop(first);
        assert!(takes(&member));
        let second = runtime();
        second.block_on(async {
            drop(begin(&member));
            assert!(!takes(&member));
            while !takes(&member) {
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(state(&member), State::HalfOpen);
            (0..2).for_each(|_| end_well(begin(&member)));
            assert_eq!((state(&member), takes(&member)), (State::Closed, true));
        });
    }
}
