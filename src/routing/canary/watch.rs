use std::fmt;

use http::response;
use tokio::time::Instant;

use super::{Canary, trial::Call};
use crate::{
    context::Deadline,
    gate::{Gate, Pass},
    head::Head,
    outcome::{Outcome, Verdict},
    reject::Answer,
};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// The one that is known.
    Old,
    /// The one that is tried.
    New,
}

/// A gate that lets everything pass, and tells a [`Canary`] what became of it.
pub struct Watch {
    canary: Canary,
    version: Version,
}

/// Watches one call, while versions are compared.
pub struct Watched(Option<Open>);

struct Open {
    canary: Canary,
    version: Version,
    epoch: u32,
    began: Instant,
    /// When the head of the response came.
    head: Option<Instant>,
    /// When a timeout of ours, outside, cuts it off.
    until: Option<Instant>,
}

impl Watch {
    pub(super) const fn new(canary: Canary, version: Version) -> Self {
        Self { canary, version }
    }
}

impl Gate for Watch {
    type Pass = Watched;

    fn check(&self, head: &mut Head<'_>) -> Result<Watched, Answer> {
        Ok(Watched(self.canary.epoch().map(|epoch| Open {
            canary: self.canary.clone(),
            version: self.version,
            epoch,
            until: until(head),
            began: head.now(),
            head: None,
        })))
    }
}

/// When the time is over that this gateway gives the request; what the caller gives is the caller's to answer for.
fn until(head: &Head<'_>) -> Option<Instant> {
    let deadline = head.extensions().get::<Deadline>()?;
    deadline.is_imposed().then(|| deadline.instant())
}

impl Pass for Watched {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.0.is_some()
    }

    fn on_head(&mut self, _: &mut response::Parts) {
        if let Some(open) = &mut self.0 {
            open.head = Some(Instant::now());
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let Some(open) = self.0.take() else { return };
        let now = Instant::now();
        let unheard = open.head.is_none();
        let (failed, given_up) = match outcome.verdict() {
            Verdict::ServerFault => (true, false),
            Verdict::CallerFault => (open.canary.policy().caller_faults, false),
            // From here a timeout outside looks like a caller who goes away.
            Verdict::Cancelled if unheard && open.until.is_some_and(|until| until <= now) => (true, false),
            Verdict::Cancelled => (false, unheard),
            Verdict::Success => (false, false),
        };
        let took = open.head.unwrap_or(now).saturating_duration_since(open.began);
        open.canary.ended(open.version, open.epoch, Call { failed, took, given_up });
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("version", &self.version).finish_non_exhaustive()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
