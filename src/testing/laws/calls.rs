//! Readiness, cancellation, what is in flight, and waiting.

use std::{
    cell::RefCell,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use http::{Response, StatusCode};
use http_body::Body as HttpBody;

use super::stage::{Found, Stage, ensure, poll_once, settle};
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
