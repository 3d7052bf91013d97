//! What is shared, how much is remembered, and how time changes it.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use super::stage::{Found, Stage, ensure, poll_once};
use crate::{
    reject::Rejection,
    testing::{Contract, Subject},
};

pub(super) async fn shared_state<L: Subject>(contract: &Contract<L>, limit: u32) -> Found {
    let stage = Stage::new(contract);
    let mut first = stage.service();
    for n in 0..limit {
        ensure(stage.passes(&mut first, 1).await, || format!("request {n} of {limit} did not pass"))?;
    }
    let services = [
        ("the same service", first.clone()),
        ("a second service of the layer", stage.service()),
        ("a service of a clone of the layer", stage.layer.clone().layer(stage.shared.probe())),
    ];
    for (what, mut service) in services {
        let passes = stage.passes(&mut service, 1).await;
        ensure(!passes, || format!("{what} lets more than {limit} requests pass"))?;
    }
    let fresh = Stage::new(contract);
    ensure(fresh.passes(&mut fresh.service(), 1).await, || "a fresh layer has old state".into())
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

pub(super) async fn recovery<L: Subject>(contract: &Contract<L>, limit: u32, time: Duration) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    for _ in 0..limit {
        stage.passes(&mut service, 1).await;
    }
    ensure(!stage.passes(&mut service, 1).await, || "the limit was not reached".into())?;
    tokio::time::advance(time).await;
    let passes = stage.passes(&mut service, 1).await;
    ensure(passes, || format!("{time:?} of tokio's time changed nothing"))
}

pub(super) async fn answer_in_time<L: Subject>(contract: &Contract<L>, time: Duration) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.silent = true);
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
