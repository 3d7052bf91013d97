//! What changes with time, and by whose clock.

use std::{
    sync::atomic::Ordering,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    stage::{Found, ServiceOf, Stage, ensure, poll_once, settle},
    state::{exhaust, patiently},
};
use crate::{
    reject::Rejection,
    testing::{
        Contract, Subject,
        contract::{Refuses, Tells, Waits},
    },
};

pub(super) async fn recovery<L: Subject>(contract: &Contract<L>, refuses: Refuses, time: Duration) -> Found {
    let stage = Stage::new(contract);
    let _held = exhaust(&stage, refuses).await?;
    let mut service = stage.service();
    ensure(!stage.passes(&mut service, 1).await, || "the limit was not reached".into())?;
    tokio::time::sleep(time).await; // from one timer to the next, for those who look at theirs
    let passes = stage.passes(&mut service, 1).await;
    ensure(passes, || format!("{time:?} of tokio's time changed nothing"))
}

pub(super) async fn answer_in_time<L: Subject>(contract: &Contract<L>, time: Duration) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.silent = true);
    let _held = match contract.refuses {
        Some(refuses @ Refuses::Beside(_)) => exhaust(&stage, refuses).await?,
        _ => Vec::new(),
    };
    let mut service = stage.service();
    let mut call = Box::pin(stage.send(&mut service, 1));
    ensure(poll_once(call.as_mut(), Waker::noop()).is_pending(), || "it did not wait".into())?;
    tokio::time::advance(time + Duration::from_millis(1)).await;
    let Poll::Ready(answer) = poll_once(call.as_mut(), Waker::noop()) else {
        return Err(format!("{time:?} of tokio's time changed nothing"));
    };
    let rejected = answer.is_ok_and(|response| response.extensions().get::<Rejection>().is_some());
    ensure(rejected, || "the answer is no rejection".into())
}

/// A layer of which no time is told neither ends a silence nor begins one.
pub(super) async fn timeless<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.silent = true);
    let mut service = stage.service();
    let mut call = Box::pin(stage.send(&mut service, 1));
    if patiently(&mut call).await.is_pending() {
        tokio::time::advance(Duration::from_secs(3600)).await;
        let answered = patiently(&mut call).await.is_ready();
        ensure(!answered, || "it ends a silence after some time, which was not told".into())?;
    }
    drop(call);
    stage.shared.act(|script| (script.silent, script.fails) = (false, true));
    let mut call = Box::pin(stage.send(&mut service, 1));
    let answered = patiently(&mut call).await.is_ready();
    ensure(answered, || "it waits by time after a failure, which was not told".into())
}

/// How exactly a time is looked at.
const MOMENT: Duration = Duration::from_millis(2);

/// The inner service behaves so that the layer waits.
fn make_wait<L: Subject>(stage: &Stage<'_, L>, waits: Waits) {
    stage.shared.act(|script| {
        script.silent = matches!(waits, Waits::Silent(_) | Waits::Held(..));
        script.fails = matches!(waits, Waits::Failed(_));
    });
}

/// Whether one more call becomes more than one attempt.
pub(super) async fn tries_again<L: Subject>(stage: &Stage<'_, L>, service: &mut ServiceOf<L>) -> bool {
    let Some(waits @ (Waits::Silent(time) | Waits::Failed(time))) = stage.contract.waits else {
        return false;
    };
    make_wait(stage, waits);
    let before = stage.shared.calls.load(Ordering::SeqCst);
    let mut call = Box::pin(stage.send(service, 1));
    if patiently(&mut call).await.is_pending() {
        tokio::time::advance(time + MOMENT).await;
        let _ = patiently(&mut call).await;
    }
    stage.shared.calls.load(Ordering::SeqCst) > before + 1
}

/// Answers are given again for as long as it says, within 2 ms, by tokio's time.
pub(super) async fn answers_again<L: Subject>(contract: &Contract<L>, time: Duration) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    ensure(stage.passes(&mut service, 1).await, || "a first request did not pass".into())?;
    let least = time.saturating_sub(MOMENT);
    tokio::time::advance(least).await;
    let answers = stage.answers_again(&mut service).await;
    ensure(answers, || format!("after {least:?} it has forgotten its answer"))?;
    tokio::time::advance(MOMENT * 2).await;
    let answers = stage.answers_again(&mut service).await;
    ensure(!answers, || format!("{time:?} of tokio's time changed nothing"))
}

/// A layer that waits by itself does so by tokio's time: as long as it says within 2 ms, or after a failure at most so long.
pub(super) async fn waits<L: Subject>(contract: &Contract<L>, waits: Waits) -> Found {
    let stage = Stage::new(contract);
    make_wait(&stage, waits);
    let (caller, before, least, most) = match waits {
        Waits::Silent(time) => (1, 1, time.saturating_sub(MOMENT), time + MOMENT),
        Waits::Failed(time) => (1, 1, Duration::ZERO, time + MOMENT),
        Waits::Held(caller, time) => (caller, 0, time.saturating_sub(MOMENT), time + MOMENT),
    };
    let asked = || stage.shared.calls.load(Ordering::SeqCst);
    let early = |when: String| {
        let asked = asked();
        ensure(asked == before, || format!("it has asked {asked} times {when}, not {before}"))
    };
    let mut service = stage.service();
    let mut call = Box::pin(stage.send(&mut service, caller));
    let waits = patiently(&mut call).await.is_pending();
    ensure(waits, || "it did not wait".into())?;
    early("at once".into())?;
    if !least.is_zero() {
        tokio::time::advance(least).await;
        let _ = patiently(&mut call).await;
        early(format!("after {least:?}"))?;
    }
    tokio::time::advance(most - least).await;
    let _ = patiently(&mut call).await;
    ensure(asked() > before, || format!("{most:?} of tokio's time changed nothing"))
}

/// What it tells goes by tokio's time, within 2 ms.
pub(super) async fn tells<L: Subject>(contract: &Contract<L>, tells: &Tells<L>) -> Found {
    const MANY: u32 = 64;
    const HOUR: Duration = Duration::from_secs(3600);
    let stage = Stage::new(contract);
    let mut service = stage.service();
    match tells {
        Tells::Turns(time, gauge) => {
            for _ in 0..MANY {
                ensure(stage.passes(&mut service, 1).await, || "a first request did not pass".into())?;
            }
            let before = gauge(&stage.layer);
            let mut turned = async |after: Duration| {
                tokio::time::sleep(after).await;
                let _ = stage.passes(&mut service, 1).await;
                settle().await;
                gauge(&stage.layer) != before
            };
            let early = turned(time.saturating_sub(MOMENT)).await;
            ensure(!early, || format!("what it tells has turned before {time:?}"))?;
            ensure(turned(MOMENT * 2).await, || format!("{time:?} of tokio's time changed nothing"))
        }
        Tells::Took(taken) => {
            stage.shared.act(|script| script.silent = true);
            let mut call = Box::pin(stage.passes(&mut service, 1));
            ensure(patiently(&mut call).await.is_pending(), || "it did not wait".into())?;
            tokio::time::advance(HOUR).await;
            stage.shared.act(|script| script.silent = false);
            ensure(call.await, || "a first request did not pass".into())?;
            let told = taken(&stage.layer);
            ensure(told.abs_diff(HOUR) <= MOMENT, || format!("it tells of {told:?} that took {HOUR:?}"))
        }
    }
}

/// What goes by the calendar goes by the clock that was given, and not by tokio's.
pub(super) async fn wall_clock<L: Subject>(
    contract: &Contract<L>,
    time: Duration,
    advance: &dyn Fn(Duration),
) -> Found {
    let stage = Stage::new(contract);
    let refuses = contract.refuses.filter(|refuses| *refuses != Refuses::Told);
    let _held = match refuses {
        Some(refuses) => exhaust(&stage, refuses).await?,
        None => Vec::new(),
    };
    let mut service = stage.service();
    let passed = stage.passes(&mut service, 1).await;
    ensure(passed == refuses.is_none(), || "it began otherwise than was told".into())?;
    tokio::time::advance(time).await;
    settle().await;
    let passes = stage.passes(&mut service, 1).await;
    ensure(passes == passed, || format!("{time:?} of tokio's time is none of the wall clock's"))?;
    advance(time);
    let passes = stage.passes(&mut service, 1).await;
    ensure(passes != passed, || format!("{time:?} of the wall clock's time changed nothing"))
}
