//! Readiness, cancellation, what is in flight, and waiting.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use http::{Response, StatusCode};
use http_body::Body as HttpBody;

use super::{
    stage::{Found, Stage, ensure, poll_once, settle},
    state::{exhaust, reaches},
};
use crate::{
    testing::{Contract, Subject, probe::Piece},
    tunnel::{Tunnel, TunnelGuard},
};

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(super) async fn readiness<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    for round in 0..3 {
        ensure(stage.passes(&mut service.clone(), round).await, || "a first request did not pass".into())?;
        ensure(stage.passes(&mut service, round + 10).await, || "a first request did not pass".into())?;
    }
    stage.shared.act(|script| script.busy = true);
    let calls = stage.shared.calls.load(Ordering::SeqCst);
    let mut waiting = Box::pin(stage.passes(&mut service, 20));
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let early = poll_once(waiting.as_mut(), &Waker::from(wakes)).is_ready()
        || stage.shared.calls.load(Ordering::SeqCst) > calls;
    ensure(!early, || "it did not wait for the inner service to be ready".into())?;
    stage.shared.act(|script| script.busy = false);
    ensure(waiting.await, || "a request that waited for readiness did not pass".into())?;
    let unready = stage.shared.unready_calls.load(Ordering::SeqCst);
    ensure(unready == 0, || format!("{unready} calls on an instance that was not made ready"))
}

pub(super) async fn cancellation<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    let mut ended = 0;
    let mut look = |stage: &Stage<'_, L>, what: &str| {
        ended += 1;
        let counted = contract.in_flight.as_ref().map_or(0, |gauge| gauge(&stage.layer));
        let told = contract.ends.as_ref().map_or(ended, |gauge| gauge(&stage.layer));
        ensure(stage.live() == 0, || format!("what is inside outlives {what}"))?;
        ensure(counted == 0, || format!("{what} is still counted"))?;
        ensure(told == ended, || format!("{told} ends told of {ended}, the last of {what}"))
    };

    stage.shared.act(|script| script.silent = true);
    let mut call = Box::pin(stage.send(&mut service, 1));
    let _ = poll_once(call.as_mut(), Waker::noop());
    drop(call);
    settle().await;
    look(&stage, "a dropped call")?;

    stage.shared.act(|script| {
        script.silent = false;
        script.frames = vec![Piece::Data("a"), Piece::Data("b"), Piece::Trailer("t")];
    });
    for (frames, what) in [(1, "a dropped body"), (usize::MAX, "a body that has ended")] {
        let response = stage.send(&mut service, 2).await.map_err(|_| "an error for no reason".to_owned())?;
        let mut body = Box::pin(response.into_body());
        for _ in 0..frames {
            if poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_none() {
                break;
            }
        }
        drop(body);
        settle().await;
        look(&stage, what)?;
    }

    stage.shared.act(|script| script.fails = true);
    drop(stage.send(&mut service, 3).await);
    settle().await;
    look(&stage, "a failed call")
}

pub(super) async fn in_flight<L: Subject>(contract: &Contract<L>, gauge: &dyn Fn(&L) -> usize) -> Found {
    let stage = Stage::new(contract);
    let mut service = stage.service();
    let count = |what: &str, expected: usize| {
        let counted = gauge(&stage.layer);
        ensure(counted == expected, || format!("{counted} in flight {what}, not {expected}"))
    };
    stage.shared.act(|script| script.frames = vec![Piece::Data("a"), Piece::Data("b"), Piece::Trailer("t")]);
    let response = stage.send(&mut service, 1).await.map_err(|_| "an error for no reason".to_owned())?;
    count("after the head", 1)?;
    let mut body = Box::pin(response.into_body());
    let _ = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
    count("in the middle of the body", 1)?;
    while poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_some() {}
    count("after the end of the body", 0)?;
    drop(body);

    thread_local! {
        static GUARD: RefCell<Option<TunnelGuard>> = const { RefCell::new(None) };
    }
    stage.shared.act(|script| {
        script.frames.clear();
        script.response = Some(|| {
            let (tunnel, guard) = Tunnel::new();
            GUARD.set(Some(guard));
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.extensions_mut().insert(tunnel);
            response
        });
    });
    drop(stage.send(&mut service, 2).await);
    count("while the tunnel is open", 1)?;
    GUARD.take();
    count("after the tunnel has closed", 0)
}

/// Half of a body, which is to be ended.
async fn half<L: Subject>(stage: &Stage<'_, L>, caller: u32) -> Option<Pin<Box<L::ResB>>> {
    stage.shared.act(|script| script.frames = vec![Piece::Data("a"), Piece::Data("b")]);
    let before = stage.shared.calls.load(Ordering::SeqCst);
    let response = stage.send(&mut stage.service(), caller).await.ok()?;
    let mut body = Box::pin(response.into_body());
    let _ = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
    (stage.shared.calls.load(Ordering::SeqCst) > before).then_some(body)
}

async fn end<B: HttpBody>(mut body: Pin<Box<B>>) {
    while poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_some() {}
}

/// Who tries whether it goes again does so until the end of the body, and gives its place back even if it is dropped.
pub(super) async fn probes<L: Subject>(contract: &Contract<L>, probes: u32) -> Found {
    for ends in [true, false] {
        let stage = Stage::new(contract);
        if let Some((refuses, time)) = contract.refuses.zip(contract.recovers_after) {
            exhaust(&stage, refuses).await?;
            tokio::time::sleep(time).await;
        }
        let mut bodies = Vec::new();
        for n in 0..probes {
            let body = half(&stage, 1).await;
            bodies.push(body.ok_or_else(|| format!("probe {n} of {probes} did not pass"))?);
        }
        let passes = reaches(&stage, stage.service(), 1).await.is_some();
        ensure(!passes, || format!("one more passes beside {probes} whose bodies have not ended"))?;
        let how = if ends { "has ended" } else { "was dropped" };
        match bodies.pop() {
            Some(body) if ends => end(body).await,
            body => drop(body),
        }
        let passes = reaches(&stage, stage.service(), 1).await.is_some();
        ensure(passes, || format!("nobody passes when the body of one {how}"))?;
    }
    Ok(())
}

/// A layer of which no count was told holds none back for bodies that have not ended.
pub(super) async fn holds_no_place<L: Subject>(contract: &Contract<L>) -> Found {
    const MANY: u32 = 64;
    let (after, beside) = (Stage::new(contract), Stage::new(contract));
    let (mut held, mut ended) = (Vec::new(), 0);
    for caller in 0..MANY {
        if let Some(body) = half(&after, caller).await {
            end(body).await;
            ended += 1;
        }
        held.extend(half(&beside, caller).await);
    }
    let held = held.len();
    ensure(held == ended, || {
        format!(
            "{held} pass beside bodies that have not ended, and {ended} after them, of which nothing was told"
        )
    })
}

pub(super) async fn waiting<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let slept = |what: &str| {
        let woken = wakes.0.load(Ordering::SeqCst);
        ensure(woken == 0, || format!("it wakes itself while {what}"))
    };

    stage.shared.act(|script| script.busy = true);
    let mut first = stage.service();
    let mut call = Box::pin(stage.send(&mut first, 1));
    for _ in 0..4 {
        ensure(poll_once(call.as_mut(), &waker).is_pending(), || "it did not wait".into())?;
        settle().await;
    }
    slept("the inner service is not ready")?;
    drop(call);

    stage.shared.act(|script| {
        script.busy = false;
        script.silent = true;
    });
    let mut call = Box::pin(stage.send(&mut first, 2));
    let mut answered = false;
    for _ in 0..5 {
        wakes.0.store(0, Ordering::SeqCst); // one that waits for a store may be woken to go on, but not for ever
        answered = answered || poll_once(call.as_mut(), &waker).is_ready();
        settle().await;
    }
    slept("the inner service is silent")?;

    stage.shared.act(|script| script.silent = false);
    let mut second = stage.service();
    let mut other = Box::pin(stage.passes(&mut second, 3));
    for _ in 0..64 {
        if poll_once(other.as_mut(), &waker).is_ready() {
            return Ok(());
        }
        settle().await;
    }
    Err("a call that waits holds up another".into())
}
