use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{EndpointSet, EndpointSource, Sets};
use crate::{
    backoff::{Backoff, Jitter},
    body::BoxError,
    chance::Chance,
};

/// How long a source that has ended is left alone before it is followed again.
const AGAIN: Backoff =
    Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(30)).jitter(Jitter::Equal);

/// How an upstream knows its endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discovery {
    /// How long ago its source last told a set that was taken; `None`: it never did.
    pub age: Option<Duration>,
    /// Why what is known may be so no longer; `None`: it is fresh.
    pub stale: Option<Arc<str>>,
    /// How many sets were taken.
    pub updates: u64,
    /// How often its source could not tell, or told what cannot be used.
    pub failures: u64,
}

/// What was heard of a source.
#[derive(Debug)]
pub(in crate::upstream) struct Heard(Mutex<(Discovery, Option<Instant>)>);

impl Default for Heard {
    fn default() -> Self {
        let nothing =
            Discovery { stale: Some("the source has told nothing yet".into()), ..Discovery::default() };
        Self(Mutex::new((nothing, None)))
    }
}

impl Heard {
    pub(in crate::upstream) fn status(&self) -> Discovery {
        let (status, at) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Discovery { age: at.map(|at| at.elapsed()), ..status }
    }

    /// Whether nothing was heard yet.
    pub(in crate::upstream) fn is_silent(&self) -> bool {
        let (status, _) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.updates == 0 && status.failures == 0
    }

    /// A set was taken.
    pub(in crate::upstream) fn taken(&self, stale: Option<Arc<str>>) {
        let (status, at) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.updates += 1;
        (status.stale, *at) = (stale, Some(Instant::now()));
    }

    /// No set could be taken: what is known stays.
    pub(in crate::upstream) fn failed(&self, why: Arc<str>) {
        let (status, _) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.failures += 1;
        status.stale = Some(why);
    }
}

/// The sets of a source that can be taken, over its ends.
pub(in crate::upstream) struct Followed {
    source: Arc<dyn EndpointSource>,
    chance: Chance,
    sets: Option<Sets>,
    /// How many times in a row it has ended without a set.
    ended: u32,
}

impl Followed {
    pub(in crate::upstream) fn new(source: Arc<dyn EndpointSource>, chance: Chance) -> Self {
        Self { source, chance, sets: None, ended: 0 }
    }

    /// The next set, or why there is none.
    pub(in crate::upstream) async fn next(&mut self) -> Result<EndpointSet, Arc<str>> {
        if self.sets.is_none() {
            sleep(AGAIN.delay(self.ended, &self.chance)).await;
        }
        let sets = self.sets.get_or_insert_with(|| self.source.follow());
        let Some(told) = sets.next().await else {
            self.sets = None;
            self.ended = self.ended.saturating_add(1);
            return Err("the source has ended".into());
        };
        usable(told).inspect(|_| self.ended = 0)
    }
}

/// An error, and a set without endpoints which does not say that it is certain, change nothing.
fn usable(told: Result<EndpointSet, BoxError>) -> Result<EndpointSet, Arc<str>> {
    match told {
        Ok(set) if set.endpoints.is_empty() && !set.none => Err("the source knows no endpoints".into()),
        Ok(set) => Ok(set),
        Err(error) => Err(words(&*error)),
    }
}

/// An error with its sources.
fn words(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ").into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_is_followed_over_its_ends() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let source = move || {
            let nth = count.fetch_add(1, Ordering::Relaxed);
            Sets::told(move |teller| async move {
                if nth != 1 {
                    teller.tell(Ok(EndpointSet::new([format!("192.0.2.{nth}:80")]))).await;
                    teller.tell(Err(std::io::Error::other("no answer").into())).await;
                    teller.tell(Ok(EndpointSet::new([""; 0]))).await;
                    teller.tell(Ok(EndpointSet::none())).await;
                }
            })
            .0
        };
        let mut followed = Followed::new(Arc::new(source), Chance::seeded(1));
        for nth in [0, 2] {
            let one = EndpointSet::new([format!("192.0.2.{nth}:80")]);
            assert_eq!(followed.next().await, Ok(one));
            assert_eq!(followed.next().await, Err("no answer".into()));
            assert_eq!(followed.next().await, Err("the source knows no endpoints".into()));
            assert_eq!(followed.next().await, Ok(EndpointSet::none()));
            assert_eq!(followed.next().await, Err("the source has ended".into()));
            if nth == 0 {
                assert_eq!(followed.next().await, Err("the source has ended".into()));
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_followed_once() {
        let one = EndpointSet::new(["192.0.2.1:80"]);
        let source = super::super::StreamSource::new(tokio_stream::iter([Ok(one.clone())]));
        let mut followed = Followed::new(Arc::new(source), Chance::seeded(1));
        assert_eq!(followed.next().await, Ok(one));
        for _ in 0..5 {
            assert!(followed.next().await.is_err());
        }
    }
}
