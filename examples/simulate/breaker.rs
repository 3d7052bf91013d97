//! Breaker: a service with room for two hundred calls asks another for half of its answers, and that one hangs for a while.

use std::{
    io,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use portcullis::{
    admission::concurrency::Concurrency,
    body::{Body, BoxError},
    chance::Chance,
    resilience::{
        breaker::{BreakerLayer, Policy},
        timeout::TimeoutLayer,
    },
    trip,
};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    chart::{Chart, Curve},
    world::{Count, Shown, clients, run},
};

const SECONDS: u64 = 30;
const HANGS: (u64, u64) = (5, 15);
const ROOM: u32 = 200;

pub(crate) fn simulate() -> io::Result<Shown> {
    let (alone, asked_alone) = run(world(BreakerLayer::disabled()))??;
    let policy = Policy::new(trip::Policy::new()).chance(Chance::seeded(3));
    let (guarded, asked) = run(world(BreakerLayer::new(policy)))??;
    let during = |counts: &[u64]| counts[HANGS.0 as usize..HANGS.1 as usize].iter().sum::<u64>();
    let told = format!(
        "of 10,000 calls while it hangs {} are answered without a breaker and {} with one, and it is asked {} and {} times",
        during(&alone),
        during(&guarded),
        during(&asked_alone),
        during(&asked),
    );
    let curve = |name, color, values| Curve { name, color, values };
    let chart = Chart {
        title: "Breaker: 10,000 clients of a service, half of whose answers need another that hangs for 10 s",
        unit: "a second; the service is called 1,000 times and has room for 200 calls at once",
        marked: (HANGS.0, HANGS.1, "the other hangs"),
        curves: vec![
            curve("answered, no breaker", "#c23030", alone),
            curve("other asked, no breaker", "#d9822b", asked_alone),
            curve("answered, breaker", "#0d6b3f", guarded),
            curve("other asked, breaker", "#5c9ad6", asked),
        ],
    };
    Ok((chart, told))
}

/// How many calls are answered, and how often the other service is asked, in each second.
async fn world(breaker: BreakerLayer) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let begin = Instant::now();
    let at = |second| begin + Duration::from_secs(second);
    let (answered, asked) = (Count::since(begin, SECONDS), Count::since(begin, SECONDS));
    let (seen, hangs) = (asked.clone(), at(HANGS.0)..at(HANGS.1));
    let other = service_fn(move |_: Request<Body>| {
        seen.one();
        let now = Instant::now();
        let done = if hangs.contains(&now) { hangs.end + Duration::from_secs(60) } else { now };
        async move {
            sleep_until(done + Duration::from_millis(10)).await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let other = ServiceBuilder::new()
        .layer(breaker)
        .layer(TimeoutLayer::new(Duration::from_secs(1)).per_attempt())
        .service(other);
    let other = BoxCloneSyncService::new(other);
    let calls = Arc::new(AtomicU64::new(0));
    let page = service_fn(move |request: Request<Body>| {
        let (other, needs_other) = (other.clone(), calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2));
        async move {
            sleep(Duration::from_millis(10)).await;
            let status =
                if needs_other { other.oneshot(request).await?.status() } else { http::StatusCode::OK };
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::empty())?)
        }
    });
    let most = NonZeroU32::try_from(ROOM).map_err(io::Error::other)?;
    let room = Concurrency::fixed("page", most).build().map_err(io::Error::other)?;
    let stack = room.layer().layer(page);
    let good = answered.clone();
    clients(
        || stack.clone(),
        at(SECONDS),
        move |_, answer| {
            if answer.is_ok_and(|response| response.status() == 200) {
                good.one();
            }
        },
    )
    .await;
    Ok((answered.seconds(), asked.seconds()))
}
