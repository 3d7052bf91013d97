//! The leaky bucket: who comes too early waits for its turn.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{Request, Response};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::asking::{from, passes};
use crate::{
    admission::rate_limit::{Algorithm, Charge, Limit, RateLimit, SyncError},
    body::Body,
    gate::AsyncGateLayer,
    head::Head,
};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn limit(rate: &str, max_wait: Duration) -> Limit {
    Limit::builder("shape", rate.parse().unwrap())
        .algorithm(Algorithm::LeakyBucket { max_wait })
        .build()
        .unwrap()
}

fn remaining(limit: &Limit, n: u32) -> u32 {
    limit.handle().peek(&mut Head::of(&mut from(n))).remaining
}

/// Who came through, and when.
#[derive(Clone)]
struct Door {
    layer: AsyncGateLayer<RateLimit>,
    seen: Arc<Mutex<Vec<(u32, Duration)>>>,
    begin: Instant,
}

impl Door {
    fn behind(gate: RateLimit) -> Self {
        Self { layer: gate.layer(), seen: Arc::default(), begin: Instant::now() }
    }

    /// Asks for account `n`, and is `name` to those inside.
    fn ask(&self, n: u32, name: u32) -> JoinHandle<u16> {
        let (seen, begin) = (Arc::clone(&self.seen), self.begin);
        let mut service = self.layer.layer(service_fn(move |_: Request<()>| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().await.push((name, begin.elapsed()));
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        }));
        // The line is joined when it is called, and not when a task runs.
        let answer = service.call(from(n));
        tokio::spawn(async move { answer.await.unwrap().status().as_u16() })
    }

    async fn seen(&self) -> Vec<(u32, u64)> {
        self.seen.lock().await.iter().map(|(name, at)| (*name, at.as_millis() as u64)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn one_passes_each_interval_and_first_come_first_served() {
    let limit = limit("10/s", SECOND);
    let door = Door::behind(RateLimit::new(limit.clone()));
    let calls: Vec<_> = (0..6).map(|name| door.ask(1, name)).collect();
    let other = door.ask(2, 99);
    assert_eq!(limit.handle().waiting(), 5);
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    other.await.unwrap();
    let mut seen = door.seen().await;
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0), (1, 100), (2, 200), (3, 300), (4, 400), (5, 500), (99, 0)]);
    assert_eq!((limit.handle().waiting(), limit.handle().admitted()), (0, 7));
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_refused() {
    let limit = limit("10/s", 250 * MS);
    let door = Door::behind(RateLimit::new(limit.clone()));
    let calls: Vec<_> = (0..5).map(|name| door.ask(1, name)).collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let mut service = door
        .layer
        .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::empty()))));
    let held = (0..3).map(|_| tokio::spawn(service.call(from(3)))).collect::<Vec<_>>();
    let refused = service.ready().await.unwrap().call(from(3)).await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    for held in held {
        assert_eq!(held.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_gives_its_turn_to_those_behind() {
    let limit = limit("10/s", SECOND);
    let door = Door::behind(RateLimit::new(limit.clone()));
    let calls: Vec<_> = (0..6).map(|name| door.ask(1, name)).collect();
    sleep(10 * MS).await;
    calls[1].abort(); // the first in the line
    calls[3].abort(); // one in its middle
    sleep(MS).await;
    assert_eq!(limit.handle().waiting(), 3);
    assert_eq!(
        remaining(&limit, 1),
        7,
        "0, 2, 4 and 5 have to come back, and a tenth of a second has not gone by"
    );
    let late = door.ask(1, 6);
    sleep(SECOND).await;
    assert!(late.is_finished());
    assert_eq!(door.seen().await, [(0, 0), (2, 100), (4, 200), (5, 300), (6, 400)]);
    assert_eq!(remaining(&limit, 1), 11);
    assert_eq!(limit.handle().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_a_line_leaves_nothing_behind() {
    let limit = limit("1/s", 5 * SECOND);
    let door = Door::behind(RateLimit::new(limit.clone()));
    let first = door.ask(1, 0);
    let second = door.ask(1, 1);
    sleep(MS).await;
    second.abort();
    sleep(MS).await;
    assert_eq!((first.await.unwrap(), limit.handle().waiting(), remaining(&limit, 1)), (200, 0, 5));
    sleep(SECOND).await;
    assert_eq!(remaining(&limit, 1), 6);
}

#[tokio::test(start_paused = true)]
async fn lines_are_bounded_in_all() {
    let limit = Limit::builder("shape", "1/s".parse().unwrap())
        .algorithm(Algorithm::LeakyBucket { max_wait: 100 * SECOND })
        .max_waiting(4)
        .build()
        .unwrap();
    let door = Door::behind(RateLimit::new(limit.clone()));
    let calls: Vec<_> = (0..12).map(|n| door.ask(n % 3, n)).collect();
    assert_eq!(limit.handle().waiting(), 4);
    let mut passed = 0;
    for call in calls {
        passed += u32::from(call.await.unwrap() == 200);
    }
    assert_eq!((passed, limit.handle().waiting(), limit.handle().refused()), (7, 0, 5));
}

/// A timer is a millisecond late, and no turn is lost by that.
#[tokio::test(start_paused = true)]
async fn fast_rates_are_kept() {
    let limit = Limit::builder("shape", "20000/s".parse().unwrap())
        .algorithm(Algorithm::LeakyBucket { max_wait: SECOND })
        .max_waiting(5000)
        .build()
        .unwrap();
    let door = Door::behind(RateLimit::new(limit));
    let calls: Vec<_> = (0..4000).map(|name| door.ask(1, name)).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let seen = door.seen().await;
    assert!(seen.is_sorted_by_key(|(name, _)| *name));
    let (_, last) = seen.last().unwrap();
    assert!((199..=202).contains(last), "{last} ms for 4000 at 20 a millisecond");
    for (place, (_, at)) in seen.iter().enumerate() {
        assert!(place as u64 <= (at + 1) * 20, "too early");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_waits_and_refuses_as_one() {
    let shape = limit("10/s", SECOND);
    let burst = Limit::builder("few", "3/h".parse().unwrap()).build().unwrap();
    let door = Door::behind(RateLimit::new(shape.clone()).and(burst.clone()));
    let calls: Vec<_> = (0..5).map(|name| door.ask(1, name)).collect();
    assert_eq!(shape.handle().waiting(), 2, "who is refused by another limit has no place");
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(burst.handle().refused(), 2);
}

/// What the others of a list were charged, too.
#[tokio::test(start_paused = true)]
async fn who_gives_up_pays_nothing_of_the_list() {
    let shape = limit("1/2s", 10 * SECOND);
    let token = Limit::builder("token", "3/h".parse().unwrap()).build().unwrap();
    let sliding = Limit::builder("sliding", "6/h".parse().unwrap()).algorithm(Algorithm::SlidingWindow);
    let fixed = Limit::builder("fixed", "9/h".parse().unwrap()).algorithm(Algorithm::CALENDAR);
    let [sliding, fixed] = [sliding, fixed].map(|limit| limit.build().unwrap());
    // Who gives up was not refused.
    let list = RateLimit::new(shape.clone()).and(Charge::from(token.clone()).spend_on_denial(true));
    let list = list.and(sliding.clone().costing(2)).and(Charge::from(fixed.clone()).costing(3));
    let door = Door::behind(list);
    let left = || [&token, &sliding, &fixed].map(|limit| remaining(limit, 1));
    let first = door.ask(1, 0);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(left(), [2, 4, 6]);
    for name in 1..10 {
        let gives_up = door.ask(1, name);
        assert_eq!((shape.handle().waiting(), left()), (1, [1, 2, 3]));
        gives_up.abort();
        sleep(MS).await;
        assert_eq!((shape.handle().waiting(), left()), (0, [2, 4, 6]));
    }
    // Nobody gives back what he has had.
    for name in 10..12 {
        assert_eq!(door.ask(1, name).await.unwrap(), 200);
    }
    assert_eq!((door.ask(1, 12).await.unwrap(), left()), (429, [0, 0, 0]));
    assert_eq!(door.seen().await, [(0, 0), (10, 2000), (11, 4000)]);
}

/// Before the one it is its turn already, before the other it waits: who gives up then has used neither, and nobody goes too
/// soon for that.
#[tokio::test(start_paused = true)]
async fn who_gives_up_between_two_lines_is_in_neither() {
    let quick = Limit::builder("quick", "10/s".parse().unwrap());
    let quick = quick.algorithm(Algorithm::LeakyBucket { max_wait: SECOND }).build().unwrap();
    let slow = limit("1/2s", 10 * SECOND);
    let few = Limit::builder("few", "100/h".parse().unwrap()).build().unwrap();
    let both = Door::behind(RateLimit::from_iter([quick.clone(), slow.clone(), few.clone()]));
    let one = Door { layer: RateLimit::new(quick.clone()).layer(), ..both.clone() };
    assert_eq!(both.ask(1, 0).await.unwrap(), 200);
    for others in [0, 1, 3] {
        // Both lines are empty, and the slow one takes nobody for a while.
        let begin = both.begin.elapsed();
        let gives_up = both.ask(1, 1);
        sleep(50 * MS).await;
        let turns = (quick.handle().waiting(), slow.handle().waiting());
        assert!(matches!(turns, (0 | 1, 1)), "{turns:?}");
        sleep(60 * MS).await;
        assert_eq!(
            (quick.handle().waiting(), slow.handle().waiting()),
            (0, 1),
            "its turn before one has come"
        );
        let behind: Vec<_> = (0..others).map(|name| one.ask(1, 10 + name)).collect();
        let before = remaining(&few, 1);
        gives_up.abort();
        sleep(MS).await;
        assert_eq!((slow.handle().waiting(), remaining(&few, 1)), (0, before + 1), "{others}");
        for call in behind {
            assert_eq!(call.await.unwrap(), 200);
        }
        let mut seen: Vec<_> = both.seen().await.into_iter().map(|(_, at)| at).collect();
        seen.retain(|at| *at > begin.as_millis() as u64);
        assert_eq!(seen.len(), others as usize);
        assert!(seen.windows(2).all(|two| two[1] - two[0] >= 100), "{seen:?}");
        sleep(SECOND).await;
        assert_eq!(remaining(&quick, 1), 11, "{others}");
        sleep(2 * SECOND).await;
        assert_eq!((remaining(&slow, 1), slow.handle().waiting()), (6, 0));
        assert_eq!(both.ask(1, 2).await.unwrap(), 200);
        sleep(SECOND / 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shadow_keeps_nobody_waiting() {
    let limit = limit("1/s", Duration::ZERO);
    let door = Door::behind(RateLimit::new(Charge::from(limit.clone()).in_shadow(true)));
    for name in 0..3 {
        assert_eq!(door.ask(1, name).await.unwrap(), 200);
    }
    assert_eq!(door.begin.elapsed(), Duration::ZERO);
    assert_eq!((limit.handle().spared(), limit.handle().waiting()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_cannot_wait_is_refused() {
    let gate = RateLimit::new(limit("1/s", 10 * SECOND)).and(limit("1/s", Duration::ZERO));
    assert_eq!(gate.sync().unwrap_err(), SyncError::Waits("shape".into()));
    // Before this one nobody waits: who comes too early is refused.
    let strict = RateLimit::new(limit("1/s", Duration::ZERO));
    assert!(passes(&strict, &mut from(1)) && !passes(&strict, &mut from(1)));
    advance(SECOND).await;
    assert!(passes(&strict, &mut from(1)));
}
