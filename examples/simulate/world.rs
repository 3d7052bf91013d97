//! The world of a simulation: clients that call at their times, a server that can do so much, and who counts.

use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Request;
use portcullis::{body::Body, chance::Chance};
use tokio::time::{Instant, sleep_until};
use tower::{Service, ServiceExt};

use crate::chart::Chart;

/// What came of a simulation, and one line of it.
pub(crate) type Shown = (Chart, String);

pub(crate) const CLIENTS: u64 = 10_000;
/// How often each of them calls.
pub(crate) const EACH: Duration = Duration::from_secs(10);

/// Runs a world to its end, on a clock of its own that goes on only when nobody has anything to do.
pub(crate) fn run<T>(world: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(world))
}

/// Something that happens, counted for each second.
#[derive(Debug, Clone)]
pub(crate) struct Count(Arc<Mutex<Vec<u64>>>, Instant);

impl Count {
    pub(crate) fn since(begin: Instant, seconds: u64) -> Self {
        Self(Arc::new(Mutex::new(vec![0; seconds as usize])), begin)
    }

    pub(crate) fn one(&self) {
        let second = self.1.elapsed().as_secs() as usize;
        if let Some(count) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(second) {
            *count += 1;
        }
    }

    pub(crate) fn seconds(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How long calls take, by the second in which they begin.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Arc<Mutex<Vec<Vec<u64>>>>, Instant);

impl Latencies {
    pub(crate) fn since(begin: Instant, seconds: u64) -> Self {
        Self(Arc::new(Mutex::new(vec![Vec::new(); seconds as usize])), begin)
    }

    /// A call ends that has begun then.
    pub(crate) fn one(&self, begun: Instant) {
        let second = (begun - self.1).as_secs() as usize;
        if let Some(calls) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(second) {
            calls.push(begun.elapsed().as_millis() as u64);
        }
    }

    /// The milliseconds within which this share of the calls of each second ended.
    pub(crate) fn seconds(&self, share: usize, of: usize) -> Vec<u64> {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().map(|calls| within(calls.clone(), share, of)).collect()
    }

    /// The same of all calls.
    pub(crate) fn within(&self, share: usize, of: usize) -> u64 {
        within(self.0.lock().unwrap_or_else(PoisonError::into_inner).concat(), share, of)
    }
}

fn within(mut calls: Vec<u64>, share: usize, of: usize) -> u64 {
    calls.sort_unstable();
    let most = (calls.len() * share).div_ceil(of);
    calls.get(most.saturating_sub(1)).copied().unwrap_or_default()
}

/// A server that does one thing after the other, each in its time. What has come is done, even if nobody waits for it any
/// more: that is what makes a storm. For a while it does nothing at all.
#[derive(Debug)]
pub(crate) struct Server {
    work: Duration,
    stands_still: Range<Instant>,
    free: Mutex<Instant>,
}

impl Server {
    pub(crate) fn new(a_second: u32, stands_still: Range<Instant>) -> Arc<Self> {
        let free = Mutex::new(Instant::now());
        Arc::new(Self { work: Duration::from_secs(1) / a_second, stands_still, free })
    }

    /// When what comes now will be done.
    pub(crate) fn take(&self) -> Instant {
        let now = Instant::now();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let from = if self.stands_still.contains(&now) { self.stands_still.end } else { now };
        *free = from.max(*free) + self.work;
        *free
    }
}

/// All clients, each calling at its times, until the end. `ended` is told when a call began, and how it ended.
pub(crate) async fn clients<S, F>(service: impl Fn() -> S, until: Instant, ended: F)
where
    S: Service<Request<Body>, Future: Send> + Send + 'static,
    F: Fn(Instant, Result<S::Response, S::Error>) + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    let (begin, chance) = (Instant::now(), Chance::seeded(2026));
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let first = begin + EACH * client as u32 / CLIENTS as u32;
        let jitter = Duration::from_micros(chance.below(1000));
        let (call, ended) = (service(), ended.clone());
        tasks.spawn(async move {
            let (mut at, mut call) = (first + jitter, call);
            while at < until {
                sleep_until(at).await;
                let request = Request::new(Body::empty());
                let begun = Instant::now();
                let Ok(ready) = call.ready().await else { return };
                let answer = ready.call(request).await;
                ended(begun, answer);
                at += EACH;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
