//! What is shared, and how much is remembered.

use std::{
    pin::Pin,
    sync::atomic::Ordering,
    task::{Poll, Waker},
};

use super::{
    stage::{Answer, Found, ServiceOf, Stage, ensure, poll_once, settle},
    time::tries_again,
};
use crate::testing::{
    Contract, Subject,
    contract::{Refuses, Shares, Waits},
};

type Call<'s, L> = Pin<Box<dyn Future<Output = Answer<L>> + 's>>;

/// Brings the layer to where it refuses its first caller. What comes back is in flight as long as it lives.
pub(super) async fn exhaust<'s, L: Subject>(
    stage: &'s Stage<'_, L>,
    refuses: Refuses,
) -> Result<Vec<Call<'s, L>>, String> {
    let mut service = stage.service();
    let held = match refuses {
        Refuses::After(limit) => {
            for n in 0..limit {
                let passes = stage.passes(&mut service, 1).await;
                ensure(passes, || format!("request {n} of {limit} did not pass"))?;
            }
            Ok(Vec::new())
        }
        Refuses::Failed(limit) => {
            stage.shared.act(|script| script.fails = true);
            for n in 0..limit {
                let passes = stage.passes(&mut service, 1).await;
                ensure(passes, || format!("request {n} of {limit} did not pass"))?;
            }
            stage.shared.act(|script| script.fails = false);
            Ok(Vec::new())
        }
        Refuses::Beside(limit) => in_flight(stage, limit).await,
        Refuses::Told => {
            ensure(stage.passes(&mut service, 1).await, || "a first request did not pass".into())?;
            settle().await;
            stage.contract.told.iter().for_each(|deed| deed(&stage.layer));
            Ok(Vec::new())
        }
    }?;
    if !stage.contract.notices_after.is_zero() {
        tokio::time::advance(stage.contract.notices_after).await;
        settle().await;
    }
    Ok(held)
}

/// So many calls that the inner service does not answer.
async fn in_flight<'s, L: Subject>(stage: &'s Stage<'_, L>, calls: u32) -> Result<Vec<Call<'s, L>>, String> {
    stage.shared.act(|script| script.silent = true);
    let mut held = Vec::new();
    for n in 0..calls {
        let call = reaches(stage, stage.service(), 1).await;
        held.push(call.ok_or_else(|| format!("request {n} of {calls} did not pass"))?);
    }
    Ok(held)
}

pub(super) async fn shared_state<L: Subject>(contract: &Contract<L>, refuses: Refuses) -> Found {
    let stage = Stage::new(contract);
    let before = others(&stage);
    let _held = exhaust(&stage, refuses).await?;
    for (what, service) in before.into_iter().chain(others(&stage)) {
        let passes = reaches(&stage, service, 1).await.is_some();
        ensure(!passes, || format!("{what} lets a request pass that was to be refused"))?;
    }
    let fresh = Stage::new(contract);
    let passes = reaches(&fresh, fresh.service(), 1).await.is_some();
    ensure(passes, || "a fresh layer has old state".into())
}

/// The services that share their state with the first.
fn others<L: Subject>(stage: &Stage<'_, L>) -> [(&'static str, ServiceOf<L>); 3] {
    [
        ("a second service of the layer", stage.service()),
        ("a service of a clone of the layer", stage.layer.clone().layer(stage.shared.probe())),
        ("a clone of a service", stage.service().clone()),
    ]
}

/// What came to one service of a layer shows in the others.
pub(super) async fn shares<L: Subject>(contract: &Contract<L>, shares: &Shares<L>) -> Found {
    let stage = Stage::new(contract);
    let mut first = stage.service();
    let caller = if let Some(Waits::Held(caller, _)) = contract.waits { caller } else { 1 };
    stage.shared.act(|script| script.fails = matches!(shares, Shares::Failures(_)));
    if let Shares::Attempts(most) = *shares {
        for n in 0..most {
            let again = tries_again(&stage, &mut first).await;
            ensure(again, || format!("second attempt {n} of {most} was not made"))?;
        }
    } else {
        ensure(stage.passes(&mut first, caller).await, || "a first request did not pass".into())?;
    }
    for (what, mut service) in others(&stage) {
        let shows = match shares {
            Shares::Attempts(_) => !tries_again(&stage, &mut service).await,
            Shares::Counts(gauge) | Shares::Failures(gauge) => {
                let before = gauge(&stage.layer);
                stage.passes(&mut service, caller).await && gauge(&stage.layer) == before + 1
            }
            Shares::Answers(_) => stage.answers_again(&mut service).await,
        };
        ensure(shows, || format!("{what} has a state of its own"))?;
    }
    let fresh = Stage::new(contract);
    let is_old = match shares {
        Shares::Attempts(_) => !tries_again(&fresh, &mut fresh.service()).await,
        Shares::Counts(gauge) | Shares::Failures(gauge) => gauge(&fresh.layer) > 0,
        Shares::Answers(_) => fresh.answers_again(&mut fresh.service()).await,
    };
    ensure(!is_old, || "a fresh layer has old state".into())
}

/// What is in flight in one service is counted with what is in the others.
pub(super) async fn counts_together<L: Subject>(
    contract: &Contract<L>,
    gauge: &dyn Fn(&L) -> usize,
) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.silent = true);
    let first = ("a service of the layer", stage.service());
    let mut held = Vec::new();
    for (what, service) in std::iter::once(first).chain(others(&stage)) {
        let call = reaches(&stage, service, 1).await;
        held.push(call.ok_or_else(|| format!("a call in {what} did not pass"))?);
        let counted = gauge(&stage.layer);
        let expected = held.len();
        ensure(counted == expected, || format!("{counted} in flight with a call in {what}, not {expected}"))?;
    }
    let fresh = Stage::new(contract);
    ensure(gauge(&fresh.layer) == 0, || "a fresh layer has old state".into())
}

/// A layer that is not said to refuse does not, neither beside others nor after some, whatever became of them.
pub(super) async fn refuses_nobody<L: Subject>(contract: &Contract<L>) -> Found {
    const MANY: u32 = 64;
    let refused = |how: String| format!("{how}: it refuses, and when was not told");
    let stage = Stage::new(contract);
    if reaches(&stage, stage.service(), 1).await.is_none() {
        return Ok(()); // it answers by itself
    }
    drop(in_flight(&stage, MANY).await.map_err(refused)?);
    settle().await;
    stage.shared.act(|script| script.silent = false);
    for fails in [true, false] {
        stage.shared.act(|script| script.fails = fails);
        let mut service = stage.service();
        for n in 0..MANY {
            let passes = stage.passes(&mut service, 1).await;
            ensure(passes, || refused(format!("request {n} of {MANY} did not pass")))?;
        }
    }
    Ok(())
}

pub(super) async fn memory<L: Subject>(
    contract: &Contract<L>,
    cap: usize,
    gauge: &dyn Fn(&L) -> usize,
) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    let callers = u32::try_from(cap.saturating_mul(4).saturating_add(64)).unwrap_or(u32::MAX);
    for caller in 0..callers {
        let _ = stage.passes(&mut service, caller).await;
        let size = gauge(&stage.layer);
        ensure(size <= cap, || format!("{size} callers remembered after {}, {cap} allowed", caller + 1))?;
    }
    Ok(())
}

/// Polled, and again after each turn that others were given, without time going by.
pub(super) async fn patiently<F: Future + ?Sized>(call: &mut Pin<Box<F>>) -> Poll<F::Output> {
    for _ in 0..8 {
        if let Poll::Ready(answer) = poll_once(call.as_mut(), Waker::noop()) {
            return Poll::Ready(answer);
        }
        settle().await;
    }
    Poll::Pending
}

/// A call that has come to the inner service; nothing if it did not.
pub(super) async fn reaches<'s, L: Subject>(
    stage: &'s Stage<'_, L>,
    mut service: ServiceOf<L>,
    caller: u32,
) -> Option<Call<'s, L>> {
    let before = stage.shared.calls.load(Ordering::SeqCst);
    let mut call: Call<'s, L> = Box::pin(async move { stage.send(&mut service, caller).await });
    let _ = patiently(&mut call).await;
    (stage.shared.calls.load(Ordering::SeqCst) > before).then_some(call)
}
