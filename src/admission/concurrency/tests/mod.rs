mod held;
mod queues;
mod shares;
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
