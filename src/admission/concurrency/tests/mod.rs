mod terms;

use std::{
    collections::VecDeque,
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{HeaderName, Request, Response};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{advance, sleep};
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{
    admission::{Priorities, Priority},
    body::Body,
    context::Deadline,
    gate::{AsyncGate, Check, Enforce, Gate},
    head::Head,
    identity::{ClientAddr, Principal},
    key::Key,
    ratio::Ratio,
    reject::{Answer, Reason},
};

const MS: Duration = Duration::from_millis(1);

fn some(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn fixed(most: u32) -> ConcurrencyBuilder {
    Concurrency::fixed("test", some(most))
}

fn queued(most: u32, queue: Queue) -> Concurrency {
    fixed(most).queue(queue).build().unwrap()
}

/// A place, the wait for one, or a refusal.
enum Got {
    Held(Held),
    Waits(Pin<Box<Wait>>),
    Refused,
}

fn ask_as(limit: &Concurrency, mut request: Request<()>) -> Got {
    match AsyncGate::check(limit, &mut Head::of(&mut request)) {
        Check::Now(Ok(held)) => Got::Held(held),
        Check::Now(Err(_)) => Got::Refused,
        Check::Wait(wait) => Got::Waits(Box::pin(wait)),
    }
}

fn ask(limit: &Concurrency) -> Got {
    ask_as(limit, Request::new(()))
}

fn held(limit: &Concurrency) -> Held {
    match ask(limit) {
        Got::Held(held) => held,
        _ => panic!("no place"),
    }
}

fn waits_as(limit: &Concurrency, request: Request<()>) -> Pin<Box<Wait>> {
    match ask_as(limit, request) {
        Got::Waits(wait) => wait,
        _ => panic!("it does not wait"),
    }
}

fn waits(limit: &Concurrency) -> Pin<Box<Wait>> {
    waits_as(limit, Request::new(()))
}

fn important(priority: Priority) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(priority);
    request
}

/// `None`: it waits on.
fn look(wait: &mut Pin<Box<Wait>>) -> Option<Result<Held, ()>> {
    match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Told(told)) => Some(told.map_err(drop)),
        Poll::Pending => None,
    }
}

fn caller(n: u32) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(ClientAddr::new(n.to_be_bytes().into(), None));
    request
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_has_ended() {
    let limit = fixed(1).retry_after(3 * MS).build().unwrap();
    let app = limit.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let ask = |kind: &'static str| {
        let request = Request::post("/").header("content-type", kind).body(()).unwrap();
        let app = app.clone();
        async move { app.oneshot(request).await.unwrap() }
    };
    let first = ask("text/plain").await;
    assert_eq!(limit.handle().in_flight(), 1);

    let refused = ask("text/plain").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let body: serde_json::Value =
        serde_json::from_slice(&refused.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["reason"], "overloaded");
    let refused = ask("application/grpc").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "3");
    assert_eq!(limit.handle().refused(), 2);

    assert_eq!(&*first.into_body().collect().await.unwrap().to_bytes(), b"hello");
    assert_eq!(limit.handle().in_flight(), 0);
    drop(ask("text/plain").await);
    assert_eq!(limit.handle().in_flight(), 0, "a body that is dropped has ended");
}

#[tokio::test(start_paused = true)]
async fn nothing_leaks_wherever_a_call_is_dropped() {
    let limit = queued(1, Queue::new(some(5)));
    let never = limit.layer().layer(service_fn(|_: Request<()>| async {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    }));
    let mut first = Box::pin(never.clone().oneshot(Request::new(())));
    let mut second = Box::pin(never.clone().oneshot(Request::new(())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
    let handle = limit.handle();
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 1));
    // The place is given to one who does not look any more.
    drop(first);
    assert_eq!((handle.in_flight(), handle.waiting()), (1, 0));
    drop(second);
    assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));

    let _held = held(&limit);
    let (one, mut two) = (waits(&limit), waits(&limit));
    drop(one);
    assert_eq!(handle.waiting(), 1, "who goes away leaves the queue");
    drop(_held);
    assert!(look(&mut two).unwrap().is_ok());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_place_goes_on_past_those_who_are_gone() {
    let limit = queued(1, Queue::new(some(5)));
    let first = held(&limit);
    let (one, mut two) = (waits(&limit), waits(&limit));
    drop(first);
    assert_eq!(limit.handle().in_flight(), 1, "it was given to the first, who has not looked");
    assert!(look(&mut two).is_none());
    drop(one);
    assert!(look(&mut two).unwrap().is_ok());
}

/// Who comes while others wait does not overtake them, and they are served in their order.
#[tokio::test(start_paused = true)]
async fn a_queue_is_fair() {
    let limit = queued(2, Queue::new(some(3)));
    let (first, second) = (held(&limit), held(&limit));
    let mut waiting = [waits(&limit), waits(&limit), waits(&limit)];
    assert!(matches!(ask(&limit), Got::Refused), "the queue is full");
    assert_eq!(limit.handle().refused(), 1);
    drop(first);
    assert!(matches!(ask(&limit), Got::Waits(_)), "a place is free, and somebody waits for it");
    let one = look(&mut waiting[0]).unwrap().unwrap();
    assert!(look(&mut waiting[1]).is_none());
    drop((one, second));
    assert!(look(&mut waiting[1]).unwrap().is_ok() && look(&mut waiting[2]).unwrap().is_ok());
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_other_orders() {
    let limit = queued(1, Queue::new(some(3)).order(Order::Newest));
    let first = held(&limit);
    let (mut one, mut two) = (waits(&limit), waits(&limit));
    drop(first);
    assert!(look(&mut one).is_none());
    drop(look(&mut two).unwrap().unwrap());
    assert!(look(&mut one).unwrap().is_ok());

    use Priority::{Critical, High, Low, Normal};
    let limit = queued(1, Queue::new(some(3)).order(Order::Priority));
    let first = held(&limit);
    let mut low = waits_as(&limit, important(Low));
    let mut normal = waits_as(&limit, important(Normal));
    let mut another = waits_as(&limit, important(Normal));
    assert!(matches!(ask_as(&limit, important(Low)), Got::Refused), "nobody is less important");
    let mut high = waits_as(&limit, important(High));
    assert!(look(&mut low).unwrap().is_err(), "it gave way");
    let mut critical = waits_as(&limit, important(Critical));
    assert!(look(&mut another).unwrap().is_err(), "the newest of the least important");
    drop(first);
    for wait in [&mut critical, &mut high, &mut normal] {
        drop(look(wait).unwrap().unwrap());
    }
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let limit = queued(1, Queue::new(some(5)).timeout(100 * MS));
    let app = limit.layer().layer(service_fn(|_: Request<()>| async {
        sleep(80 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("hello")))
    }));
    let ask = |request| {
        let app = app.clone();
        tokio::spawn(async move {
            let response = app.oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            response.into_body().collect().await.unwrap();
            (status, tokio::time::Instant::now())
        })
    };
    let begin = tokio::time::Instant::now();
    let mut hurried = Request::new(());
    hurried.extensions_mut().insert(Deadline::at(begin + 10 * MS));
    let calls = [Request::new(()), Request::new(()), Request::new(()), hurried].map(ask);
    let mut ended = Vec::new();
    for call in calls {
        let (status, at) = call.await.unwrap();
        ended.push((status, (at - begin).as_millis()));
    }
    // The timer has a resolution of 1 ms.
    ended.iter_mut().for_each(|(_, ms)| *ms -= *ms % 10);
    assert_eq!(ended, [(200, 80), (200, 160), (503, 100), (503, 10)]);
    assert_eq!((limit.handle().timed_out(), limit.handle().queued()), (2, 3));
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_stands_is_cut() {
    let limit = queued(1, Queue::new(some(100)).codel(5 * MS, 50 * MS));
    let mut running = Some(held(&limit));
    let (mut waiting, mut dropped) = (VecDeque::new(), 0);
    // 2 come in the time of 1.
    for _ in 0..40 {
        waiting.push_back(waits(&limit));
        waiting.push_back(waits(&limit));
        advance(4 * MS).await;
        drop(running.take());
        waiting.retain_mut(|wait| match look(wait) {
            Some(Ok(held)) => {
                running = Some(held);
                false
            }
            Some(Err(())) => {
                dropped += 1;
                false
            }
            None => true,
        });
    }
    let handle = limit.handle();
    assert!(dropped > 10, "{dropped}");
    assert!(handle.queue_delay() <= 20 * MS, "{:?}", handle.queue_delay());
    assert_eq!(handle.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own() {
    let limit = fixed(2).by(Key::ClientAddr).queue(Queue::new(some(1))).build().unwrap();
    let of = |n| ask_as(&limit, caller(n));
    let (Got::Held(one), Got::Held(two)) = (of(1), of(1)) else { panic!("2 places") };
    let Got::Waits(mut wait) = of(1) else { panic!("1 waits") };
    assert!(matches!(of(1), Got::Refused));
    assert!(matches!(of(2), Got::Held(_)), "another key, which is forgotten at once");
    let handle = limit.handle();
    assert_eq!(
        (handle.keys().unwrap().0, handle.in_flight(), handle.waiting(), handle.limit()),
        (1, 2, 1, 2)
    );
    drop(one);
    let three = look(&mut wait).unwrap().unwrap();
    assert_eq!(handle.in_flight(), 2);
    let Got::Waits(gone) = of(1) else { panic!("1 waits") };
    drop(gone);
    drop((two, three, wait));
    assert_eq!(
        (handle.keys().unwrap().0, handle.in_flight(), handle.waiting()),
        (0, 0, 0),
        "idle keys are not kept"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_without_room_share_one() {
    let limit = fixed(3).by(Key::ClientAddr).max_keys(some(16)).build().unwrap();
    let mut held = Vec::new();
    let mut refused = 0;
    for n in 0..1000 {
        match ask_as(&limit, caller(n)) {
            Got::Held(one) => held.push(one),
            _ => refused += 1,
        }
    }
    let (keys, most) = limit.handle().keys().unwrap();
    assert_eq!((keys, most), (16, 16));
    // 16 keys with a place each, and 3 places of the crowd of each shard.
    assert_eq!((held.len(), refused), (16 + 16 * 3, 1000 - 64));
    assert!(matches!(ask_as(&limit, caller(0)), Got::Held(_)), "who is known has its own places");
    drop(held);
    assert_eq!((limit.handle().keys().unwrap().0, limit.handle().in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn partitions_borrow_and_get_back() {
    let plan = HeaderName::from_static("x-plan");
    let shares = Partitions::by_header(plan.clone())
        .share("gold", Ratio::percent(50))
        .share("free", Ratio::percent(20));
    let limit = fixed(10).partitions(shares).queue(Queue::new(some(2))).build().unwrap();
    let of = |who: &'static str| {
        let request = Request::get("/").header(plan.clone(), who).body(()).unwrap();
        ask_as(&limit, request)
    };
    let take = |who| match of(who) {
        Got::Held(held) => held,
        _ => panic!("{who} has no place"),
    };
    let mut free: Vec<_> = (0..10).map(|_| take("free")).collect();
    let Got::Waits(mut wait) = of("free") else { panic!("it borrowed all there is") };
    // What gold was promised it gets, though all is lent.
    let gold: Vec<_> = (0..5).map(|_| take("gold")).collect();
    assert!(matches!(of("gold"), Got::Waits(_)));
    assert!(matches!(of("nobody"), Got::Waits(_)));
    assert_eq!(limit.handle().in_flight(), 15);
    // Nothing is lent any more until the limit is kept again, but what is free's own.
    free.truncate(3);
    assert!(look(&mut wait).unwrap().is_ok(), "8 are in flight");
    let shown = limit.handle().partitions();
    assert_eq!(
        shown.iter().map(|(name, now, own)| (&**name, *now, *own)).collect::<Vec<_>>(),
        [("free", 3, 2), ("gold", 5, 5)]
    );
    drop((free, gold));
    assert_eq!(limit.handle().in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_waits_is_served_by_its_share() {
    let shares = Partitions::by_plan().share("gold", Ratio::percent(50)).share("free", Ratio::percent(50));
    let limit = fixed(2).partitions(shares).queue(Queue::new(some(5))).build().unwrap();
    let of = |plan: &'static str| {
        let mut request = Request::new(());
        request.extensions_mut().insert(Principal::new("p", "", "s").with_plan(plan));
        request
    };
    let borrowed = [ask_as(&limit, of("free")), ask_as(&limit, of("free"))];
    let Got::Held(gold) = ask_as(&limit, of("gold")) else { panic!("it was promised one") };
    let (mut free, mut golden) = (waits_as(&limit, of("free")), waits_as(&limit, of("gold")));
    drop(gold);
    // Two of free are still there: the limit is full, free has more than its share, and gold has less.
    assert!(look(&mut free).is_none());
    assert!(look(&mut golden).unwrap().is_ok());
    drop(borrowed);
    assert!(look(&mut free).unwrap().is_ok());
    assert_eq!((limit.handle().in_flight(), limit.handle().waiting()), (0, 0));
}

#[test]
fn what_contradicts_itself_is_told() {
    let error = |builder: ConcurrencyBuilder| builder.build().unwrap_err();
    let adaptive = || Concurrency::adaptive("a", Gradient::new());
    assert_eq!(error(adaptive().by(Key::Principal)), ConcurrencyError::AdaptiveByKey);
    let shares =
        |percent| Partitions::by_plan().share("a", Ratio::percent(60)).share("b", Ratio::percent(percent));
    assert_eq!(error(fixed(1).partitions(shares(41))), ConcurrencyError::Shares);
    assert!(fixed(1).partitions(shares(40)).build().unwrap().needs_identity());
    assert_eq!(error(fixed(1).by(Key::Route).partitions(shares(1))), ConcurrencyError::PartitionsByKey);
    let queue = |queue: Queue| fixed(1).queue(queue);
    assert_eq!(error(queue(Queue::new(some(1)).timeout(Duration::ZERO))), ConcurrencyError::Queue);
    assert_eq!(error(queue(Queue::new(some(1)).codel(MS, MS))), ConcurrencyError::Queue);
    assert_eq!(error(queue(Queue::new(some(1)).codel(Duration::ZERO, MS))), ConcurrencyError::Queue);
    let plans = Priorities::new(Priority::Low).plan("gold", Priority::High);
    assert!(fixed(1).priorities(plans).build().unwrap().needs_identity());
    assert!(!fixed(1).build().unwrap().needs_identity());
}

#[test]
fn without_waiting_it_is_a_plain_gate() {
    let limit = fixed(1).queue(Queue::new(some(5))).build().unwrap();
    let mut request = Request::new(());
    let mut head = Head::of(&mut request);
    let first = Gate::check(&limit, &mut head).unwrap();
    match Gate::check(&limit, &mut head).unwrap_err() {
        Answer::Refuse(rejection) => {
            assert_eq!((rejection.reason(), rejection.retry_delay()), (Reason::Overloaded, Some(1000 * MS)));
            assert_eq!(rejection.detail_text(), Some("too many requests in flight: test"));
        }
        answer => panic!("{answer:?}"),
    }
    drop(first);
    assert!(Gate::check(&limit, &mut head).is_ok());
    // In shadow nobody is refused, and what has a place holds it.
    let shadow = Enforce::shadow("test", limit.clone());
    let held: Vec<_> = (0..3).map(|_| Gate::check(&shadow, &mut head).unwrap()).collect();
    assert_eq!((held.len(), shadow.handle().spared(), limit.handle().in_flight()), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_limit_learns_from_latency_and_from_drops() {
    let limit = Concurrency::adaptive("test", Aimd::new().timeout(50 * MS)).build().unwrap();
    let app = |wait: Duration, status: u16| {
        limit.layer().layer(service_fn(move |_: Request<()>| async move {
            sleep(wait).await;
            Ok::<_, Infallible>(Response::builder().status(status).body(Body::from("x")).unwrap())
        }))
    };
    let run = async |wait, status, calls: usize| {
        let before = limit.handle().limit();
        for _ in 0..calls {
            let batch = (0..limit.handle().limit()).map(|_| app(wait, status).oneshot(Request::new(())));
            for response in futures_util::future::join_all(batch).await {
                response.unwrap().into_body().collect().await.unwrap();
            }
        }
        i64::from(limit.handle().limit()) - i64::from(before)
    };
    assert!(run(10 * MS, 200, 100).await >= 8, "it is used and fast: one more each window");
    assert!(run(60 * MS, 200, 30).await < 0, "slower than its timeout");
    assert!(run(10 * MS, 503, 100).await < 0, "what is dropped at once is not fast");
    assert_eq!(run(10 * MS, 404, 50).await, 0, "callers' mistakes say nothing");
    assert_eq!(run(10 * MS, 500, 50).await, 0, "nor does what is broken");
    assert_eq!(limit.handle().in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_keep_the_limit_and_lose_nothing() {
    for limit in [
        queued(3, Queue::new(some(50))),
        queued(3, Queue::new(some(50)).timeout(Duration::from_micros(200)).order(Order::Newest)),
        fixed(3).by(Key::tuple([])).queue(Queue::new(some(50))).build().unwrap(),
        fixed(3)
            .partitions(
                Partitions::by_header(HeaderName::from_static("x")).share("never", Ratio::percent(10)),
            )
            .queue(Queue::new(some(50)))
            .build()
            .unwrap(),
    ] {
        let (now, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let calls = (0..32_u32).map(|caller| {
            let (limit, now, served) = (limit.clone(), Arc::clone(&now), Arc::clone(&served));
            tokio::spawn(async move {
                for turn in 0..200_u32 {
                    let held = match ask(&limit) {
                        Got::Held(held) => Some(held),
                        Got::Waits(wait) if (caller + turn) % 5 == 0 => {
                            // Goes away at some moment.
                            tokio::time::timeout(Duration::from_micros(50), wait)
                                .await
                                .ok()
                                .and_then(|told| told.0.ok())
                        }
                        Got::Waits(wait) => wait.await.0.ok(),
                        Got::Refused => None,
                    };
                    if let Some(held) = held {
                        assert!(now.fetch_add(1, Ordering::SeqCst) < 3, "more in flight than the limit");
                        tokio::task::yield_now().await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        served.fetch_add(1, Ordering::SeqCst);
                        drop(held);
                    }
                }
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        let handle = limit.handle();
        assert_eq!((handle.in_flight(), handle.waiting()), (0, 0));
        assert!(served.load(Ordering::SeqCst) > 300, "{served:?}");
    }
}

/// What a queue does, said slowly.
#[derive(Default)]
struct Model {
    in_flight: usize,
    waiting: VecDeque<usize>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any sequence of coming, leaving and going away gives the places of the obvious model, in its order.
    #[test]
    fn it_does_what_the_model_does(
        most in 1_usize..4,
        length in 1_usize..4,
        keyed: bool,
        steps in proptest::collection::vec((0_u8..3, 0_usize..8), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _inside = runtime.enter();
        let builder = fixed(u32::try_from(most).unwrap()).queue(Queue::new(some(u32::try_from(length).unwrap())));
        let limit = if keyed { builder.by(Key::tuple([])) } else { builder }.build().unwrap();
        let mut model = Model::default();
        let (mut places, mut queue) = (Vec::new(), Vec::new());
        for (id, (what, which)) in steps.into_iter().enumerate() {
            match what {
                0 => match ask(&limit) {
                    Got::Held(held) => {
                        prop_assert!(model.in_flight < most && model.waiting.is_empty());
                        model.in_flight += 1;
                        places.push(held);
                    }
                    Got::Waits(wait) => {
                        prop_assert!(model.in_flight == most && model.waiting.len() < length);
                        model.waiting.push_back(id);
                        queue.push((id, wait));
                    }
                    Got::Refused => prop_assert!(model.in_flight == most && model.waiting.len() == length),
                },
                1 if !places.is_empty() => {
                    let at = which % places.len();
                    drop(places.swap_remove(at));
                    model.in_flight -= 1;
                    if let Some(next) = model.waiting.pop_front() {
                        model.in_flight += 1;
                        let at = queue.iter().position(|(id, _)| *id == next).unwrap();
                        let (_, mut wait) = queue.swap_remove(at);
                        let told = look(&mut wait);
                        prop_assert!(matches!(told, Some(Ok(_))), "the one who came first has it");
                        places.extend(told.and_then(Result::ok));
                    }
                }
                2 if !queue.is_empty() => {
                    let (id, _) = queue.swap_remove(which % queue.len());
                    model.waiting.retain(|other| *other != id);
                }
                _ => {}
            }
            prop_assert_eq!(limit.handle().in_flight() as usize, model.in_flight);
            prop_assert_eq!(limit.handle().waiting() as usize, model.waiting.len());
        }
    }
}

/// Whatever order they are named in: else two requests could each hold what the other waits for.
#[tokio::test(start_paused = true)]
async fn several_limits_are_taken_in_one_order() {
    let one = NonZeroU32::new(1).unwrap();
    let queued = |name| Concurrency::fixed(name, one).queue(Queue::new(one)).build().unwrap();
    let (a, b) = (queued("a"), queued("b"));
    let own = Concurrency::fixed("c", one).by(Key::ClientAddr).build().unwrap();
    let named = |limits: &[&Concurrency]| {
        Concurrency::in_one_order(limits.iter().map(|limit| (*limit).clone()).collect())
    };
    for limits in [[&a, &b, &own], [&b, &own, &a], [&own, &b, &a]] {
        let names: Vec<_> = named(&limits).iter().map(|limit| limit.name().to_owned()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
    let (x, y) = (named(&[&a, &b]), named(&[&b, &a]));
    assert!(x.iter().zip(&y).all(|(x, y)| x.is_same(y)));
}
