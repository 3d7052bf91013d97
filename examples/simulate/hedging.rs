//! Hedging: two answers in a hundred are late by accident, and for a while all of them are.

use std::{io, time::Duration};

use http::{Request, Response};
use portcullis::{
    body::{Body, BoxError},
    chance::Chance,
    ratio::Ratio,
    resilience::hedge::{HedgeLayer, Policy},
};
use tokio::time::{Instant, sleep};
use tower::{Layer, service_fn};

use crate::{
    chart::{Chart, Curve},
    world::{Count, Latencies, Shown, clients, run},
};

const SECONDS: u64 = 30;
/// When every answer takes ten times as long.
const SLOW: (u64, u64) = (15, 20);

pub(crate) fn simulate() -> io::Result<Shown> {
    let (alone, _) = run(world(None))?;
    let policy = Policy::at_percentile(Ratio::percent(95));
    let handle = policy.handle();
    let (hedged, attempts) = run(world(Some(policy)))?;
    let most = attempts.iter().max().copied().unwrap_or_default();
    let told = format!(
        "of 100 calls 99 are answered within {} ms alone and {} ms with hedges, of 1,000 calls 999 within {} and {}; {} hedges, \
         {most} attempts at most in a second of 1,000 calls",
        alone.within(99, 100),
        hedged.within(99, 100),
        alone.within(999, 1000),
        hedged.within(999, 1000),
        handle.hedges(),
    );
    let curve = |name, color, values| Curve { name, color, values };
    let chart = Chart {
        title: "Hedging: 10,000 clients, and a server of which 2 answers in 100 are late",
        unit: "milliseconds within which calls are answered that begin in a second; 1,000 do",
        marked: (SLOW.0, SLOW.1, "all are slow"),
        curves: vec![
            curve("99.9%, alone", "#d9822b", alone.seconds(999, 1000)),
            curve("99%, alone", "#c23030", alone.seconds(99, 100)),
            curve("99.9%, hedged", "#5c9ad6", hedged.seconds(999, 1000)),
            curve("99%, hedged", "#0d6b3f", hedged.seconds(99, 100)),
        ],
    };
    Ok((chart, told))
}

/// How long calls take, and how many attempts the server sees in each second.
async fn world(hedge: Option<Policy>) -> (Latencies, Vec<u64>) {
    let begin = Instant::now();
    let at = |second| begin + Duration::from_secs(second);
    let (attempts, latencies) = (Count::since(begin, SECONDS), Latencies::since(begin, SECONDS));
    let (seen, chance, slow) = (attempts.clone(), Chance::seeded(5), at(SLOW.0)..at(SLOW.1));
    let server = service_fn(move |_: Request<Body>| {
        seen.one();
        let usual = 10 + chance.below(10);
        let accident = if chance.below(100) < 2 { 300 + chance.below(700) } else { 0 };
        let factor = if slow.contains(&Instant::now()) { 10 } else { 1 };
        async move {
            sleep(Duration::from_millis(usual * factor + accident)).await;
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    let stack = hedge.map_or_else(HedgeLayer::disabled, HedgeLayer::new).layer(server);
    let took = latencies.clone();
    clients(|| stack.clone(), at(SECONDS), move |begun, _| took.one(begun)).await;
    (latencies, attempts.seconds())
}
