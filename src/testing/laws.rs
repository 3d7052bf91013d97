//! How each law is checked.

use std::{
    any::Any,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::{
    Contract, Finding, Law, ProbeError, Subject,
    probe::{Piece, Shared},
};
use crate::{reject::Rejection, tunnel::Tunnel};

type Found = Result<(), String>;
type Answer<L> = Result<Response<<L as Subject>::ResB>, ErrorOf<L>>;
type ServiceOf<L> = <L as tower_layer::Layer<super::Probe>>::Service;
type ErrorOf<L> = <ServiceOf<L> as Service<http::Request<crate::body::Body>>>::Error;

pub(super) fn check<L: Subject>(law: Law, contract: &Contract<L>, globals_before: bool) -> Finding {
    let found = match law {
        Law::Readiness => run(readiness(contract)),
        Law::SharedState => match contract.limit {
            Some(limit) => run(shared_state(contract, limit)),
            None => return Finding::NotApplicable("refuses nobody for what came before"),
        },
        Law::Cancellation => run(cancellation(contract)),
        Law::InFlight => match &contract.in_flight {
            Some(gauge) => run(in_flight(contract, gauge)),
            None => return Finding::NotApplicable("counts nothing in flight"),
        },
        Law::Bodies => run(bodies(contract)),
        Law::Errors => match contract.other_error {
            Some(why) => return Finding::NotApplicable(why),
            None => run(errors(contract)),
        },
        Law::Memory => match &contract.keys {
            Some((cap, gauge)) => run(memory(contract, *cap, gauge)),
            None => return Finding::NotApplicable("remembers no callers"),
        },
        Law::Waiting => run(waiting(contract)),
        Law::Allocation => match contract.measure {
            Some((count, allowed)) => allocation(contract, count, allowed),
            None => return Finding::NotApplicable("no bound was told"),
        },
        Law::Time => match (contract.limit.zip(contract.recovers_after), contract.answers_after) {
            (Some((limit, time)), _) => run(recovery(contract, limit, time)),
            (None, Some(time)) => run(answer_in_time(contract, time)),
            (None, None) => return Finding::NotApplicable("knows no time"),
        },
        Law::Types => Ok(()), // it compiled
        Law::Globals => globals(contract, globals_before),
    };
    found.map_or_else(Finding::Broken, |()| Finding::Kept)
}

fn run(check: impl Future<Output = Found>) -> Found {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| format!("no runtime: {e}"))?
        .block_on(check)
}

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(broken()) }
}

/// A layer around a probe.
struct Stage<'c, L: Subject> {
    contract: &'c Contract<L>,
    layer: L,
    shared: Arc<Shared>,
}

impl<'c, L: Subject> Stage<'c, L> {
    fn new(contract: &'c Contract<L>) -> Self {
        Self { contract, layer: (contract.make)(), shared: Arc::default() }
    }

    fn service(&self) -> ServiceOf<L> {
        self.layer.layer(self.shared.probe())
    }

    async fn send(&self, service: &mut ServiceOf<L>, caller: u32) -> Answer<L> {
        poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call((self.contract.request)(caller)).await
    }

    /// Whether one more request of the caller reaches the inner service.
    async fn passes(&self, service: &mut ServiceOf<L>, caller: u32) -> bool {
        let before = self.shared.calls.load(Ordering::SeqCst);
        let answer = self.send(service, caller).await;
        if let Ok(response) = answer {
            let _ = frames(response.into_body()).await;
        }
        self.shared.calls.load(Ordering::SeqCst) > before
    }

    fn live(&self) -> usize {
        self.shared.live.load(Ordering::SeqCst)
    }
}

/// Lets spawned tasks and woken ones run.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

async fn readiness<L: Subject>(contract: &Contract<L>) -> Found {
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

async fn shared_state<L: Subject>(contract: &Contract<L>, limit: u32) -> Found {
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

async fn cancellation<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    let counted = |stage: &Stage<'_, L>| contract.in_flight.as_ref().map_or(0, |gauge| gauge(&stage.layer));
    let mut service = stage.service();

    stage.shared.act(|script| script.silent = true);
    let mut call = Box::pin(stage.send(&mut service, 1));
    let _ = poll_once(call.as_mut(), Waker::noop());
    drop(call);
    settle().await;
    ensure(stage.live() == 0, || "the inner future outlives a dropped call".into())?;
    ensure(counted(&stage) == 0, || "a dropped call is still counted".into())?;

    stage.shared.act(|script| {
        script.silent = false;
        script.frames = vec![Piece::Data("a"), Piece::Data("b")];
    });
    let response = stage.send(&mut service, 2).await.map_err(|_| "an error for no reason".to_owned())?;
    let mut body = Box::pin(response.into_body());
    let _ = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
    drop(body);
    settle().await;
    ensure(stage.live() == 0, || "the inner body outlives a dropped body".into())?;
    ensure(counted(&stage) == 0, || "a dropped body is still counted".into())?;

    stage.shared.act(|script| script.fails = true);
    drop(stage.send(&mut service, 3).await);
    settle().await;
    ensure(stage.live() == 0, || "the inner future outlives its error".into())?;
    ensure(counted(&stage) == 0, || "a failed call is still counted".into())
}

async fn in_flight<L: Subject>(contract: &Contract<L>, gauge: &dyn Fn(&L) -> usize) -> Found {
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
        static GUARD: std::cell::RefCell<Option<crate::tunnel::TunnelGuard>> = const { std::cell::RefCell::new(None) };
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

/// The frames of a body: data as text, trailers as the value of the probe's field.
async fn frames<B: HttpBody<Data = bytes::Bytes>>(body: B) -> Result<Vec<String>, String> {
    let mut body = pin!(body);
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let frame = frame.map_err(|_| "the body failed".to_owned())?;
        match frame.into_data() {
            Ok(data) => all.push(format!("data {}", String::from_utf8_lossy(&data))),
            Err(frame) => {
                let trailers = frame.into_trailers().map_err(|_| "an unknown frame".to_owned())?;
                let value = trailers.get("probe-trailer").and_then(|v| v.to_str().ok());
                all.push(format!("trailer {}", value.unwrap_or("missing")));
            }
        }
    }
    Ok(all)
}

async fn bodies<L: Subject>(contract: &Contract<L>) -> Found {
    let scripts: [&[Piece]; 4] = [
        &[],
        &[Piece::Data("abc")],
        &[Piece::Data("ab"), Piece::Data("c"), Piece::Trailer("t")],
        &[Piece::Trailer("t")],
    ];
    for (caller, script) in scripts.into_iter().enumerate() {
        let stage = Stage::new(contract);
        stage.shared.act(|s| s.frames = script.to_vec());
        let answer = stage.send(&mut stage.service(), u32::try_from(caller).unwrap_or_default()).await;
        let body = answer.map_err(|_| "an error for no reason".to_owned())?.into_body();
        let data: u64 = script.iter().map(|piece| piece.bytes()).sum();
        if !contract.inexact_bodies {
            let hint = body.size_hint().exact();
            ensure(hint == Some(data), || format!("size_hint {hint:?} for {data} bytes"))?;
            let ended = body.is_end_stream();
            ensure(ended == script.is_empty(), || format!("is_end_stream {ended} before {script:?}"))?;
        }
        let expected: Vec<String> = script
            .iter()
            .map(|piece| match piece {
                Piece::Data(text) => format!("data {text}"),
                Piece::Trailer(value) => format!("trailer {value}"),
            })
            .collect();
        let got = frames(body).await?;
        ensure(got == expected, || format!("{expected:?} became {got:?}"))?;
    }
    Ok(())
}

async fn errors<L: Subject>(contract: &Contract<L>) -> Found {
    let stage = Stage::new(contract);
    stage.shared.act(|script| script.fails = true);
    match stage.send(&mut stage.service(), 1).await {
        Ok(_) => Err("an error of the inner service became an answer".into()),
        Err(error) => ensure((&error as &dyn Any).is::<ProbeError>(), || {
            format!("the error type became {}", std::any::type_name::<ErrorOf<L>>())
        }),
    }
}

async fn memory<L: Subject>(contract: &Contract<L>, cap: usize, gauge: &dyn Fn(&L) -> usize) -> Found {
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

async fn waiting<L: Subject>(contract: &Contract<L>) -> Found {
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

fn allocation<L: Subject>(contract: &Contract<L>, count: fn(&mut dyn FnMut()) -> u64, allowed: u64) -> Found {
    let bare = Arc::<Shared>::default();
    let mut probe = bare.probe();
    let floor = cost(contract, &mut probe, count);
    let stage = Stage::new(contract);
    let with_layer = cost(contract, &mut stage.service(), count);
    let made = with_layer.saturating_sub(floor);
    ensure(made <= allowed, || format!("{made} allocations in a call, {allowed} allowed"))
}

/// The allocations of one call, after some that warm it up. The request is made beforehand.
fn cost<L, S>(contract: &Contract<L>, service: &mut S, count: fn(&mut dyn FnMut()) -> u64) -> u64
where
    S: Service<http::Request<crate::body::Body>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return 0 };
    let _entered = runtime.enter();
    let mut made = 0;
    for _ in 0..4 {
        let mut request = Some((contract.request)(1));
        made = count(&mut || {
            let mut cx = Context::from_waker(Waker::noop());
            let ready = service.poll_ready(&mut cx);
            if let (Poll::Ready(Ok(())), Some(request)) = (ready, request.take()) {
                let call = service.call(request);
                let mut call = pin!(call);
                let _ = call.as_mut().poll(&mut cx);
            }
        });
    }
    made
}

async fn recovery<L: Subject>(contract: &Contract<L>, limit: u32, time: Duration) -> Found {
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

async fn answer_in_time<L: Subject>(contract: &Contract<L>, time: Duration) -> Found {
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

/// Whether somebody has set what only an application may set.
pub(super) fn any_global() -> bool {
    tracing::dispatcher::has_been_set()
}

fn globals<L: Subject>(contract: &Contract<L>, before: bool) -> Found {
    let stage = Stage::new(contract); // outside of any runtime
    let service = stage.service();
    run(async {
        stage.passes(&mut service.clone(), 1).await;
        Ok(())
    })?;
    ensure(any_global() == before, || "it installed a global subscriber".into())
}
