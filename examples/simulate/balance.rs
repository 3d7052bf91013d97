//! Balance: of ten endpoints one fails at once, or is slow, for ten seconds.

use std::{io, time::Duration};

use http::{Request, Response};
use portcullis::{
    body::{Body, BoxError},
    chance::Chance,
    head::Head,
    upstream::{Balance, Upstream},
};
use tokio::time::{Instant, sleep};
use tower::service_fn;

use crate::{
    chart::{Chart, Curve},
    world::{Count, Shown, clients, run},
};

const SECONDS: u64 = 30;
const ILL: (u64, u64) = (5, 15);
const ENDPOINTS: u16 = 10;
/// How long an answer takes.
const ANSWER: Duration = Duration::from_millis(20);
/// What takes longer is as bad as a failure.
const LATE: Duration = Duration::from_millis(500);

/// What the first of the endpoints does for a while.
#[derive(Clone, Copy)]
enum Illness {
    /// Fails within a millisecond.
    Fails,
    /// Answers after a second.
    Slow,
}

/// By what it is balanced, and whether the balancer is told what failed.
#[derive(Clone)]
struct Policy(Balance, bool);

pub(crate) fn failing() -> io::Result<Shown> {
    let title = "Balance: 10,000 clients, ten endpoints, one of which fails at once for 10 s";
    shown(Illness::Fails, title, "one fails at once")
}

pub(crate) fn slow() -> io::Result<Shown> {
    let title = "Balance: 10,000 clients, ten endpoints, one of which takes a second for 10 s";
    shown(Illness::Slow, title, "one takes a second")
}

fn shown(illness: Illness, title: &'static str, what: &'static str) -> io::Result<Shown> {
    let policies = [
        ("round robin", "#c23030", Policy(Balance::RoundRobin, true)),
        ("least request", "#d9822b", Policy(Balance::LeastRequest, true)),
        ("peak EWMA, failures not told", "#5c9ad6", Policy(Balance::PeakEwma, false)),
        ("peak EWMA", "#0d6b3f", Policy(Balance::PeakEwma, true)),
    ];
    let mut curves = Vec::new();
    for (name, color, policy) in policies {
        curves.push(Curve { name, color, values: run(world(policy, illness))? });
    }
    let sum = |curve: &Curve| format!("{} with {}", curve.values.iter().sum::<u64>(), curve.name);
    let told = format!("of 30,000 calls are bad: {}", curves.iter().map(sum).collect::<Vec<_>>().join(", "));
    let unit = "calls a second that failed or took more than half a second, of 1,000";
    Ok((Chart { title, unit, marked: (ILL.0, ILL.1, what), curves }, told))
}

/// How many calls are bad, in each second.
async fn world(Policy(balance, told): Policy, illness: Illness) -> Vec<u64> {
    let begin = Instant::now();
    let at = |second| begin + Duration::from_secs(second);
    let address = |port: u16| format!("10.0.0.1:{}", port + 1);
    let upstream = Upstream::builder("servers").endpoints((0..ENDPOINTS).map(address)).balance(balance);
    let upstream = upstream.chance(Chance::seeded(1)).build().map_err(io::Error::other);
    let Ok(upstream) = upstream else { return Vec::new() };
    let (bad, ill) = (Count::since(begin, SECONDS), at(ILL.0)..at(ILL.1));
    let seen = bad.clone();
    let service = service_fn(move |mut request: Request<Body>| {
        let (upstream, seen, ill) = (upstream.clone(), seen.clone(), ill.clone());
        async move {
            let Some(picked) = upstream.pick(&Head::of(&mut request)) else { return Err("nobody".into()) };
            let is_ill = picked.address().port() == 1 && ill.contains(&Instant::now());
            let (takes, fails) = match illness {
                Illness::Fails if is_ill => (Duration::from_millis(1), true),
                Illness::Slow if is_ill => (Duration::from_secs(1), false),
                _ => (ANSWER, false),
            };
            sleep(takes).await;
            if fails || takes > LATE {
                seen.one();
            }
            if fails && told {
                picked.failed();
            } else {
                picked.succeeded();
            }
            Ok::<_, BoxError>(Response::new(Body::empty()))
        }
    });
    clients(|| service.clone(), at(SECONDS), |_, _| ()).await;
    bad.seconds()
}
