//! Layers with a bug each: the kit must find the law that each breaks.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use portcullis::{
    body::{Body, BoxError},
    reject::{Protocol, Reason, Rejection},
    testing::{Contract, Law, Probe, ProbeBody, ProbeError, ProbeFuture, Subject},
};
use tokio::time::Instant;
use tower::{Layer, Service, layer::layer_fn};

use super::allocations;

type Answer<B = ProbeBody, E = ProbeError> = Result<Response<B>, E>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A service written as a closure over its inner service.
#[derive(Clone)]
struct With<S, F>(S, F);

impl<F, B, E> Service<Request<Body>> for With<Probe, F>
where
    F: FnMut(&mut Probe, Request<Body>) -> BoxFuture<Answer<B, E>>,
    E: From<ProbeError>,
{
    type Response = Response<B>;
    type Error = E;
    type Future = BoxFuture<Answer<B, E>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.0.poll_ready(cx).map_err(E::from)
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        (self.1)(&mut self.0, request)
    }
}

fn refused() -> Answer<Body> {
    Ok(Rejection::new(Reason::RateLimited).into_response(Protocol::Http).map(Body::from))
}

fn boxed(response: Response<ProbeBody>) -> Response<Body> {
    response.map(|body| Body::new(body.map_err(BoxError::from)))
}

/// A layer breaks a law, for a reason with these words in it.
macro_rules! breaks {
    ($law:ident, $contract:expr, $why:expr) => {{
        let report = $contract.check();
        let broken: Vec<_> = report.broken().collect();
        let found = broken.iter().any(|(law, how)| *law == Law::$law && how.contains($why));
        assert!(found, "not found; found {broken:?}");
    }};
}

/// And one does not.
macro_rules! keeps {
    ($law:ident, $contract:expr) => {{
        let report = $contract.check();
        assert!(report.broken().all(|(law, _)| law != Law::$law), "{report:?}");
    }};
}

#[test]
fn a_call_on_a_clone_that_was_not_made_ready() {
    let layer = || {
        layer_fn(|inner: Probe| {
            With(inner, |inner: &mut Probe, request| -> BoxFuture<Answer> {
                let mut clone = inner.clone();
                Box::pin(async move { clone.call(request).await })
            })
        })
    };
    breaks!(
        Readiness,
        Contract::new("un-readied clone", layer),
        "7 calls on an instance that was not made ready"
    );
}

#[test]
fn a_service_that_says_it_is_ready_and_does_not_wait() {
    #[derive(Clone)]
    struct Eager(Probe);
    impl Service<Request<Body>> for Eager {
        type Response = Response<ProbeBody>;
        type Error = ProbeError;
        type Future = ProbeFuture;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: Request<Body>) -> ProbeFuture {
            self.0.call(request)
        }
    }
    breaks!(Readiness, Contract::new("eager", || layer_fn(Eager)), "did not wait for the inner service");
}

/// Lets `limit` requests pass; `fresh` makes the count of each service.
fn limiter(count: impl Fn() -> Arc<AtomicU32> + Clone + Send + Sync + 'static, limit: u32) -> impl Subject {
    layer_fn(move |inner: Probe| {
        let count = count();
        With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
            if count.fetch_add(1, Ordering::SeqCst) >= limit {
                return Box::pin(async { refused() });
            }
            let call = inner.call(request);
            Box::pin(async { Ok(boxed(call.await?)) })
        })
    })
}

#[test]
fn state_that_is_made_by_each_call_of_layer() {
    let own = Contract::new("state per service", || limiter(Arc::default, 3)).limit(3);
    breaks!(SharedState, own, "lets a request pass that was to be refused");
}

#[test]
fn state_that_all_layers_share() {
    let global = Arc::new(AtomicU32::new(0));
    let layer = move || {
        let global = Arc::clone(&global);
        limiter(move || Arc::clone(&global), 3)
    };
    breaks!(SharedState, Contract::new("global state", layer).limit(3), "request 0 of 3 did not pass");
}

#[test]
fn a_limit_of_which_nothing_was_told() {
    let untold = Contract::new("refuses", || limiter(Arc::default, 3));
    breaks!(SharedState, untold, "it refuses, and when was not told");
}

/// Counts what is in flight, and what has ended. Each flag is a bug.
#[derive(Clone, Default)]
struct Counting {
    count: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    tells_twice: bool,
    leaks_on_drop: bool,
    frees_at_head: bool,
    frees_at_drop_only: bool,
}

struct Permit(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

struct Holding<B>(B, Option<Permit>, Counting);

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Holding<B> {
    type Data = Bytes;
    type Error = B::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) && !self.2.frees_at_drop_only {
            self.1 = None;
            self.2.ended.fetch_add(usize::from(self.2.tells_twice), Ordering::SeqCst);
        }
        frame
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

impl Layer<Probe> for Counting {
    type Service = CountingService;
    fn layer(&self, inner: Probe) -> CountingService {
        CountingService(inner, self.clone())
    }
}

#[derive(Clone)]
struct CountingService(Probe, Counting);

impl Service<Request<Body>> for CountingService {
    type Response = Response<Holding<ProbeBody>>;
    type Error = ProbeError;
    type Future = BoxFuture<Answer<Holding<ProbeBody>>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counting = self.1.clone();
        counting.count.fetch_add(1, Ordering::SeqCst);
        let permit = || Permit(Arc::clone(&counting.count), Arc::clone(&counting.ended));
        let early = (!counting.leaks_on_drop).then(permit);
        let call = self.0.call(request);
        Box::pin(async move {
            let response = call.await;
            let permit =
                early.or_else(|| Some(Permit(Arc::clone(&counting.count), Arc::clone(&counting.ended))));
            let permit = permit.filter(|_| !counting.frees_at_head);
            Ok(response?.map(|body| Holding(body, permit, counting)))
        })
    }
}

fn counting(layer: Counting) -> Contract<Counting> {
    let make = move || Counting { count: Arc::default(), ended: Arc::default(), ..layer.clone() };
    Contract::new("counting", make)
        .in_flight(|layer: &Counting| layer.count.load(Ordering::SeqCst))
        .ends(|layer: &Counting| layer.ended.load(Ordering::SeqCst))
}

#[test]
fn a_permit_that_is_lost_when_the_call_is_dropped() {
    let leaks = Counting { leaks_on_drop: true, ..Counting::default() };
    breaks!(Cancellation, counting(leaks), "a dropped call is still counted");
}

#[test]
fn an_end_that_is_told_twice() {
    let twice = Counting { tells_twice: true, ..Counting::default() };
    breaks!(Cancellation, counting(twice), "4 ends told of 3, the last of a body that has ended");
    keeps!(Cancellation, counting(Counting::default()));
}

#[test]
fn a_permit_that_is_freed_at_the_head() {
    let early = Counting { frees_at_head: true, ..Counting::default() };
    breaks!(InFlight, counting(early), "0 in flight after the head, not 1");
}

#[test]
fn a_permit_that_outlives_the_end_of_the_body() {
    let late = Counting { frees_at_drop_only: true, ..Counting::default() };
    breaks!(InFlight, counting(late), "1 in flight after the end of the body, not 0");
}

#[test]
fn a_permit_that_is_freed_when_the_tunnel_opens() {
    breaks!(InFlight, counting(Counting::default()), "0 in flight while the tunnel is open, not 1");
}

#[test]
fn a_call_that_goes_on_after_it_was_dropped() {
    let layer = || {
        layer_fn(|inner: Probe| {
            With(inner, |inner: &mut Probe, request| -> BoxFuture<Answer> {
                let call = tokio::spawn(inner.call(request));
                Box::pin(async { call.await.expect("the task lives") })
            })
        })
    };
    breaks!(Cancellation, Contract::new("detached", layer), "what is inside outlives a dropped call");
}

macro_rules! changed {
    ($change:expr) => {
        || {
            layer_fn(|inner: Probe| {
                With(inner, |inner: &mut Probe, request| {
                    let call = inner.call(request);
                    Box::pin(async move { Ok::<_, ProbeError>(call.await?.map($change)) })
                        as BoxFuture<Answer<_>>
                })
            })
        }
    };
}

#[test]
fn trailers_that_are_dropped() {
    struct NoTrailers(ProbeBody);
    impl HttpBody for NoTrailers {
        type Data = Bytes;
        type Error = ProbeError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ProbeError>>> {
            Pin::new(&mut self.0)
                .poll_frame(cx)
                .map(|f| f.filter(|f| !f.as_ref().is_ok_and(Frame::is_trailers)))
        }
        fn is_end_stream(&self) -> bool {
            self.0.is_end_stream()
        }
        fn size_hint(&self) -> http_body::SizeHint {
            self.0.size_hint()
        }
    }
    breaks!(
        Bodies,
        Contract::new("no trailers", changed!(NoTrailers)),
        r#""trailer t"] became ["data ab", "data c"]"#
    );
}

#[test]
fn a_size_that_is_forgotten() {
    struct NoHint(ProbeBody);
    impl HttpBody for NoHint {
        type Data = Bytes;
        type Error = ProbeError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ProbeError>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    breaks!(Bodies, Contract::new("no hint", changed!(NoHint)), "size_hint None for 0 bytes");
}

#[test]
fn an_error_type_that_changes() {
    let layer = || {
        layer_fn(|inner: Probe| {
            With(inner, |inner: &mut Probe, request| -> BoxFuture<Answer<ProbeBody, BoxError>> {
                let call = inner.call(request);
                Box::pin(async { Ok(call.await?) })
            })
        })
    };
    breaks!(Errors, Contract::new("boxed errors", layer), "the error type became");
}

impl Service<Request<Body>> for With<Probe, Arc<dyn Fn(&Request<Body>) + Send + Sync>> {
    type Response = Response<ProbeBody>;
    type Error = ProbeError;
    type Future = ProbeFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request<Body>) -> ProbeFuture {
        (self.1)(&request);
        self.0.call(request)
    }
}

#[test]
fn a_map_without_bound() {
    #[derive(Clone, Default)]
    struct Remembers(Arc<Mutex<HashMap<String, u32>>>);
    impl Layer<Probe> for Remembers {
        type Service = With<Probe, Arc<dyn Fn(&Request<Body>) + Send + Sync>>;
        fn layer(&self, inner: Probe) -> Self::Service {
            let map = Arc::clone(&self.0);
            With(
                inner,
                Arc::new(move |request: &Request<Body>| {
                    let caller = request.headers()["x-caller"].to_str().unwrap().to_owned();
                    *map.lock().unwrap().entry(caller).or_default() += 1;
                }),
            )
        }
    }
    let told = Contract::new("unbounded", Remembers::default).keys(100, |l| l.0.lock().unwrap().len());
    breaks!(Memory, told, "101 callers remembered after 101, 100 allowed");
    let untold = Contract::new("untold", Remembers::default).allocations(9, allocations);
    breaks!(Memory, untold, "of whom nothing was told");
    let filled = Contract::new("never full", Remembers::default).filled_by(400).allocations(9, allocations);
    breaks!(Memory, filled, "are kept of as many more callers");
    // Nor is it remembered by who says so and does not.
    let empty = Contract::new("empty", || layer_fn(|inner: Probe| inner)).filled_by(400);
    breaks!(Memory, empty.allocations(9, allocations), "it remembers nobody");
}

#[test]
fn a_busy_wait() {
    #[derive(Clone)]
    struct Spins(Probe);
    impl Service<Request<Body>> for Spins {
        type Response = Response<ProbeBody>;
        type Error = ProbeError;
        type Future = ProbeFuture;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
            let ready = self.0.poll_ready(cx);
            if ready.is_pending() {
                cx.waker().wake_by_ref();
            }
            ready
        }
        fn call(&mut self, request: Request<Body>) -> ProbeFuture {
            self.0.call(request)
        }
    }
    breaks!(
        Waiting,
        Contract::new("spins", || layer_fn(Spins)),
        "wakes itself while the inner service is not ready"
    );
}

#[test]
fn a_lock_that_is_held_while_waiting() {
    let layer = || {
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        layer_fn(move |inner: Probe| {
            let lock = Arc::clone(&lock);
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer> {
                let fresh = inner.clone();
                let mut inner = std::mem::replace(inner, fresh);
                let lock = Arc::clone(&lock);
                Box::pin(async move {
                    let _held = lock.lock().await;
                    inner.call(request).await
                })
            })
        })
    };
    breaks!(Waiting, Contract::new("holds a lock", layer), "a call that waits holds up another");
}

#[test]
fn an_allocation_on_the_way() {
    let layer = changed!(|body| body);
    let boxes = Contract::new("boxes", layer).allocations(0, allocations);
    breaks!(Allocation, boxes, "1 allocations in a call, 0 allowed");
}

#[test]
fn a_clock_of_its_own() {
    let layer = || {
        #[expect(clippy::disallowed_types, reason = "the planted bug")]
        let (start, count) = (std::time::Instant::now(), Arc::new(AtomicU32::new(0)));
        layer_fn(move |inner: Probe| {
            let count = Arc::clone(&count);
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                if start.elapsed() > Duration::from_secs(60) {
                    count.store(0, Ordering::SeqCst);
                }
                if count.fetch_add(1, Ordering::SeqCst) >= 2 {
                    return Box::pin(async { refused() });
                }
                let call = inner.call(request);
                Box::pin(async { Ok(boxed(call.await?)) })
            })
        })
    };
    let contract = Contract::new("std's clock", layer).limit(2).recovers_after(Duration::from_secs(61));
    breaks!(Time, contract, "61s of tokio's time changed nothing");
}

#[test]
fn a_time_of_which_nothing_was_told() {
    let patient = || {
        layer_fn(|inner: Probe| {
            With(inner, |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                let call = tokio::time::timeout(Duration::from_secs(60), inner.call(request));
                Box::pin(async { call.await.map_or_else(|_| refused(), |answer| Ok(boxed(answer?))) })
            })
        })
    };
    breaks!(Time, Contract::new("answers", patient), "it ends a silence after some time");
    let gentle = || {
        layer_fn(|inner: Probe| {
            With(inner, |inner: &mut Probe, request| -> BoxFuture<Answer> {
                let call = inner.call(request);
                Box::pin(async {
                    let answer = call.await;
                    if answer.is_err() {
                        tokio::time::sleep(Duration::from_millis(25)).await;
                    }
                    answer
                })
            })
        })
    };
    breaks!(Time, Contract::new("waits", gentle), "it waits by time after a failure");
}

/// Asks again after `wait`, if the first is late or has failed.
fn again(
    wait: impl Fn() -> BoxFuture<()> + Clone + Send + Sync + 'static,
) -> impl Layer<
    Probe,
    Service = impl Service<Request<Body>, Response = Response<ProbeBody>, Error = ProbeError, Future: Send>
              + Clone
              + Send
              + Sync,
> + Clone
+ Send
+ Sync
+ 'static {
    layer_fn(move |inner: Probe| {
        let wait = wait.clone();
        With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer> {
            let (first, mut other, wait) = (inner.call(request), inner.clone(), wait());
            Box::pin(async move {
                tokio::select! {
                    Ok(answer) = first => return Ok(answer),
                    () = wait => {}
                }
                std::future::poll_fn(|cx| other.poll_ready(cx)).await?;
                other.call(Request::new(Body::empty())).await
            })
        })
    })
}

#[test]
fn a_wait_that_is_none_or_is_not_tokios() {
    const LATE: Duration = Duration::from_secs(5);
    let sleeps = |time| move || -> BoxFuture<()> { Box::pin(tokio::time::sleep(time)) };
    let at_once = || -> BoxFuture<()> { Box::pin(std::future::ready(())) };
    // The kit waits for answers.
    let never = sleeps(Duration::from_secs(1 << 20));
    let nothing = "of tokio's time changed nothing";
    breaks!(
        Time,
        Contract::new("at once", move || again(at_once)).asks_again_after(LATE),
        "asked 2 times at once"
    );
    breaks!(
        Time,
        Contract::new("at once", move || again(at_once)).tries_again_within(LATE),
        "it did not wait"
    );
    breaks!(Time, Contract::new("never", move || again(never)).asks_again_after(LATE), nothing);
    breaks!(Time, Contract::new("never", move || again(never)).tries_again_within(LATE), nothing);
    for (other, why) in [(LATE / 2, "it has asked 2 times after 4.998s"), (LATE * 2, nothing)] {
        breaks!(Time, Contract::new("otherwise", move || again(sleeps(other))).asks_again_after(LATE), why);
    }
    breaks!(
        Time,
        Contract::new("too late", move || again(sleeps(LATE * 2))).tries_again_within(LATE),
        nothing
    );
    keeps!(Time, Contract::new("in time", move || again(sleeps(LATE))).asks_again_after(LATE));
}

#[test]
fn state_that_does_not_show_in_refusals() {
    let late = Duration::from_secs(5);
    let sleeps = move || -> BoxFuture<()> { Box::pin(tokio::time::sleep(late)) };
    let unbound = Contract::new("no budget", move || again(sleeps)).asks_again_after(late);
    let own = "has a state of its own";
    breaks!(SharedState, unbound.second_attempts(3), own);
    let bare = || layer_fn(|inner: Probe| inner);
    breaks!(SharedState, Contract::new("counts nothing", bare).counts(|_| 0), own);
    breaks!(SharedState, Contract::new("counts no failures", bare).counts_failures(|_| 0), own);
    breaks!(SharedState, Contract::new("keeps nothing", bare).answers_again_for(late), own);
    breaks!(
        Time,
        Contract::new("keeps nothing", bare).answers_again_for(late),
        "it has forgotten its answer"
    );
    let ended = |layer: &Counting| layer.ended.load(Ordering::SeqCst);
    let global = Arc::<AtomicUsize>::default();
    let counts = move || Counting { ended: Arc::clone(&global), ..Counting::default() };
    breaks!(
        SharedState,
        Contract::new("counts for all", counts).counts(ended),
        "a fresh layer has old state"
    );
    keeps!(SharedState, Contract::new("counts", Counting::default).counts(ended));
    keeps!(SharedState, Contract::new("counts failures", Counting::default).counts_failures(ended));
    keeps!(SharedState, counting(Counting::default()));
    let blind = Contract::new("counts elsewhere", Counting::default).in_flight(|_| 0);
    breaks!(SharedState, blind, "0 in flight with a call in a service of the layer, not 1");
}

/// One that can be closed.
#[derive(Clone, Default)]
struct Closed {
    now: Arc<AtomicBool>,
    copied: bool,
}

impl Layer<Probe> for Closed {
    type Service = ClosedService;
    fn layer(&self, inner: Probe) -> ClosedService {
        let now = match self.copied {
            true => Arc::new(AtomicBool::new(self.now.load(Ordering::SeqCst))),
            false => Arc::clone(&self.now),
        };
        ClosedService(inner, now)
    }
}

#[derive(Clone)]
struct ClosedService(Probe, Arc<AtomicBool>);

impl Service<Request<Body>> for ClosedService {
    type Response = Response<Body>;
    type Error = ProbeError;
    type Future = BoxFuture<Answer<Body>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if self.1.load(Ordering::SeqCst) {
            return Box::pin(async { refused() });
        }
        let call = self.0.call(request);
        Box::pin(async { Ok(boxed(call.await?)) })
    }
}

#[test]
fn what_was_done_to_a_layer_and_not_to_its_services() {
    let close = |layer: &Closed| layer.now.store(true, Ordering::SeqCst);
    let copied = || Closed { copied: true, ..Closed::default() };
    let why = "a second service of the layer lets a request pass that was to be refused";
    breaks!(SharedState, Contract::new("copied", copied).refuses_once(close), why);
    keeps!(SharedState, Contract::new("shared", Closed::default).refuses_once(close));
}

/// Lets eight heads be answered while their bodies go on.
#[test]
fn a_limit_of_bodies_of_which_nothing_was_told() {
    let eight = || {
        let bodies = Arc::<AtomicUsize>::default();
        layer_fn(move |inner: Probe| {
            let bodies = Arc::clone(&bodies);
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                if bodies.load(Ordering::SeqCst) >= 8 {
                    return Box::pin(async { refused() });
                }
                let (call, bodies) = (inner.call(request), Arc::clone(&bodies));
                Box::pin(async move {
                    let response = boxed(call.await?);
                    bodies.fetch_add(1, Ordering::SeqCst);
                    let permit = Permit(bodies, Arc::default());
                    let counting = Counting::default();
                    Ok(response.map(|body| Body::new(Holding(body, Some(permit), counting))))
                })
            })
        })
    };
    let why = "8 pass beside bodies that have not ended, and 64 after them";
    breaks!(InFlight, Contract::new("eight bodies", eight), why);
}

/// After three failures nobody passes for ten seconds, and then one by one. Each flag is a bug.
#[derive(Clone, Copy, Default)]
struct Fuse {
    frees_at_head: bool,
    leaks_on_drop: bool,
}

/// Gives the place of a probe back, if it is not lost.
struct Place(Arc<AtomicUsize>, bool);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(usize::from(!self.1), Ordering::SeqCst);
    }
}

impl Fuse {
    fn layer(self) -> impl Subject {
        let (failed, probes) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::<AtomicUsize>::default());
        layer_fn(move |inner: Probe| {
            let (failed, probes) = (Arc::clone(&failed), Arc::clone(&probes));
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                let third = failed.lock().unwrap().get(2).copied();
                let is_open = third.is_some_and(|at| at.elapsed() < Duration::from_secs(10));
                if is_open || third.is_some() && probes.fetch_add(1, Ordering::SeqCst) > 0 {
                    probes.fetch_sub(usize::from(!is_open), Ordering::SeqCst);
                    return Box::pin(async { refused() });
                }
                let place = third.map(|_| Place(Arc::clone(&probes), self.leaks_on_drop));
                let (call, failed) = (inner.call(request), Arc::clone(&failed));
                Box::pin(async move {
                    let answer = call.await;
                    if answer.is_err() {
                        failed.lock().unwrap().push(Instant::now());
                    }
                    let place = place.filter(|_| !self.frees_at_head);
                    Ok(boxed(answer?).map(|body| Body::new(WithPlace(body, place))))
                })
            })
        })
    }
}

struct WithPlace(Body, Option<Place>);

impl HttpBody for WithPlace {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        if matches!(frame, Poll::Ready(None))
            && let Some(place) = &mut self.1
        {
            place.1 = false;
            self.1 = None;
        }
        frame
    }
    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

#[test]
fn a_probe_whose_place_is_freed_at_the_head_or_lost() {
    let fused = |fuse: Fuse| {
        let contract = Contract::new("fuse", move || fuse.layer()).spoiled_after(3);
        contract.recovers_after(Duration::from_secs(10)).probes(1)
    };
    let early = fused(Fuse { frees_at_head: true, ..Fuse::default() });
    breaks!(InFlight, early, "one more passes beside 1 whose bodies have not ended");
    let lost = fused(Fuse { leaks_on_drop: true, ..Fuse::default() });
    breaks!(InFlight, lost, "nobody passes when the body of one was dropped");
    keeps!(InFlight, fused(Fuse::default()));
    keeps!(Time, fused(Fuse::default()));
}

#[test]
fn times_that_are_told_and_not_tokios() {
    let minute = Duration::from_secs(60);
    let ended = |layer: &Counting| layer.ended.load(Ordering::SeqCst);
    let never = Contract::new("never turns", Counting::default).turns_after(minute, |_| 0);
    breaks!(Time, never, "60s of tokio's time changed nothing");
    let by_calls = Contract::new("turns by calls", Counting::default).turns_after(minute, ended);
    breaks!(Time, by_calls, "what it tells has turned before 60s");
    #[expect(clippy::disallowed_types, reason = "the planted bug")]
    let begun = std::time::Instant::now();
    let taken = move |_: &Counting| begun.elapsed();
    breaks!(Time, Contract::new("std's clock", Counting::default).tells_time(taken), "that took 3600s");
}

#[test]
fn a_caller_that_is_not_held_back() {
    let holding = |time: Duration| {
        layer_fn(move |inner: Probe| {
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer> {
                let fresh = inner.clone();
                let mut inner = std::mem::replace(inner, fresh);
                Box::pin(async move {
                    tokio::time::sleep(time).await;
                    inner.call(request).await
                })
            })
        })
    };
    let told = Duration::from_secs(5);
    for (other, why) in [
        (Duration::ZERO, "it has asked 1 times at once"),
        (told / 2, "it has asked 1 times after 4.998s"),
        (told * 2, "of tokio's time changed nothing"),
    ] {
        breaks!(Time, Contract::new("holds back", move || holding(other)).holds_back(1, told), why);
    }
    keeps!(Time, Contract::new("holds back", move || holding(told)).holds_back(1, told));
}

#[test]
fn a_wall_clock_that_is_not_the_given_one() {
    // Good until a time that tokio tells, or for ever.
    let until = |end: Option<Duration>| {
        let end = end.map(|end| Instant::now() + end);
        layer_fn(move |inner: Probe| {
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                if end.is_some_and(|end| Instant::now() >= end) {
                    return Box::pin(async { refused() });
                }
                let call = inner.call(request);
                Box::pin(async { Ok(boxed(call.await?)) })
            })
        })
    };
    let time = Duration::from_secs(3_600);
    let nothing = "3600s of the wall clock's time changed nothing";
    for (end, why) in [(Some(time), "3600s of tokio's time is none of the wall clock's"), (None, nothing)] {
        breaks!(Time, Contract::new("until", move || until(end)).by_wall_clock(time, |_| ()), why);
    }
    // And one that goes by the clock, of which that was not told.
    let shared = || {
        let count = Arc::<AtomicU32>::default();
        limiter(move || Arc::clone(&count), 3)
    };
    breaks!(Time, Contract::new("limit", shared).limit(3).by_wall_clock(time, |_| ()), nothing);
}

#[test]
fn what_is_noticed_by_one_service_only() {
    let failures = || {
        layer_fn(move |inner: Probe| {
            let failed = Arc::new(AtomicU32::new(0));
            With(inner, move |inner: &mut Probe, request| -> BoxFuture<Answer<Body>> {
                if failed.load(Ordering::SeqCst) >= 3 {
                    return Box::pin(async { refused() });
                }
                let (call, failed) = (inner.call(request), Arc::clone(&failed));
                Box::pin(async move {
                    let answer = call.await;
                    failed.fetch_add(u32::from(answer.is_err()), Ordering::SeqCst);
                    Ok(boxed(answer?))
                })
            })
        })
    };
    let soon = Duration::from_millis(50);
    let contract = Contract::new("failures", failures).spoiled_after(3).notices_after(soon);
    breaks!(SharedState, contract, "lets a request pass that was to be refused");
}

#[test]
fn globals_that_are_installed() {
    // In a process of its own: other tests would find what it installs.
    const CHILD: &str = "PORTCULLIS_PLANTED_GLOBAL";
    if std::env::var_os(CHILD).is_none() {
        let name = "contract::planted::globals_that_are_installed";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let layer = || {
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        layer_fn(|inner: Probe| inner)
    };
    breaks!(Globals, Contract::new("installs a subscriber", layer), "a global subscriber");
    let layer = || {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        layer_fn(|inner: Probe| inner)
    };
    breaks!(Globals, Contract::new("installs a crypto provider", layer), "a crypto provider");
}
