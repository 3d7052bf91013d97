use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

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
    /// How often its source could not tell, or told what cannot be used; or host names of it could not be resolved.
    pub failures: u64,
}

/// What a set that was taken says of itself.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Taken {
    /// Why it may be so no longer.
    pub(in crate::upstream) stale: Option<Arc<str>>,
    /// Of some of it only what was known before could be taken.
    pub(in crate::upstream) partly: bool,
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

    /// A set was taken, as far as it could be; or it was not, and what is known stays. Whether there is a new reason to think
    /// that it is so no longer.
    pub(in crate::upstream) fn told(&self, told: Result<Taken, Arc<str>>) -> bool {
        let (status, at) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (stale, failed) = match told {
            Ok(Taken { stale, partly }) => {
                *at = Some(Instant::now());
                (stale, partly)
            }
            Err(why) => (Some(why), true),
        };
        *if failed { &mut status.failures } else { &mut status.updates } += 1;
        let is_new = stale.is_some() && status.stale != stale;
        status.stale = stale;
        is_new
    }
}
