//! Retry storm: a server that can do half as much again as it is asked stands still for three seconds.

use std::{io, time::Duration};

use http::{Request, Response};
use portcullis::{
    body::{Body, BoxError},
    chance::Chance,
    resilience::{
        budget::Budget,
        retry::{Policy, RetryLayer},
        timeout::TimeoutLayer,
    },
};
use tokio::time::{Instant, sleep_until};
use tower::{ServiceBuilder, service_fn};

use crate::{
    chart::{Chart, Curve},
    world::{Count, Server, Shown, clients, run},
};

const SECONDS: u64 = 30;
const STILL: (u64, u64) = (5, 8);
/// What the server can do. It is asked 1,000 times a second.
const A_SECOND: u32 = 1500;

pub(crate) fn simulate() -> io::Result<Shown> {
    let [none, (storm, storm_good), (bound, bound_good)] =
        [run(world(None))?, run(world(Some(Budget::danger_unlimited)))?, run(world(Some(Budget::default)))?];
    let end = |good: &[u64]| good[SECONDS as usize - 5..].iter().sum::<u64>() / 50;
    let told = format!(
        "of the calls of the last 5 s {}% are answered without retries, {}% with retries, {}% with retries in a budget",
        end(&none.1),
        end(&storm_good),
        end(&bound_good)
    );
    let curve = |name, color, values| Curve { name, color, values };
    let chart = Chart {
        title: "Retry storm: 10,000 clients, two retries each, and a server that stands still for 3 s",
        unit: "a second; the server can do 1,500, and is called 1,000 times",
        marked: (STILL.0, STILL.1, "stands still"),
        curves: vec![
            curve("attempts, no budget", "#d9822b", storm),
            curve("answered, no budget", "#c23030", storm_good),
            curve("attempts, budget", "#5c9ad6", bound),
            curve("answered, budget", "#0d6b3f", bound_good),
        ],
    };
    Ok((chart, told))
}

/// How many attempts the server sees, and how many calls are answered, in each second.
async fn world(budget: Option<fn() -> Budget>) -> (Vec<u64>, Vec<u64>) {
    let begin = Instant::now();
    let at = |second| begin + Duration::from_secs(second);
    let server = Server::new(A_SECOND, at(STILL.0)..at(STILL.1));
    let (attempts, answered) = (Count::since(begin, SECONDS), Count::since(begin, SECONDS));
    let seen = attempts.clone();
    let service = service_fn(move |_: Request<Body>| {
        seen.one();
        let done = server.take();
        async move {
            sleep_until(done).await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let retry = budget.map_or_else(RetryLayer::disabled, |budget| {
        RetryLayer::new(Policy::new(2).budget(budget()).chance(Chance::seeded(1)))
    });
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(10)).tell_deadline(true))
        .layer(retry)
        .layer(TimeoutLayer::new(Duration::from_secs(1)).per_attempt())
        .service(service);
    let good = answered.clone();
    let end = at(SECONDS);
    clients(
        || stack.clone(),
        end,
        move |_, answer| {
            if answer.is_ok_and(|response| response.status() == 200) {
                good.one();
            }
        },
    )
    .await;
    (attempts.seconds(), answered.seconds())
}
