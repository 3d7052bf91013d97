//! By which revocation lists peers are judged, while a file of them comes and goes.
use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Trust;
use crate::body::BoxError;

/// How long revocation lists of before are used while those that are there cannot be read: somebody may be writing them.
pub(super) const WRITING: Duration = Duration::from_secs(10);

/// What became of the revocation lists.
#[derive(Clone, Default)]
pub(super) struct Lists {
    /// The last ones that could be used.
    good: Option<Arc<Vec<u8>>>,
    /// Since when those that are there cannot be.
    bad: Option<Instant>,
    /// Whether nobody is believed for that.
    shut: bool,
}

/// By what peers are judged, beside the roots.
pub(super) enum By {
    /// There are to be no lists.
    Nothing,
    /// The lists that are there.
    These(Arc<Vec<u8>>),
    /// Those of before.
    Before(Arc<Vec<u8>>),
    /// Nobody is believed, for this.
    Nobody(Arc<str>),
}

impl By {
    /// By these, whatever the roots are, if they can be used.
    pub(super) fn these(lists: Vec<u8>) -> Result<Self, BoxError> {
        Trust::none().revocation_lists(&lists)?;
        Ok(Self::These(Arc::new(lists)))
    }

    pub(super) fn on(&self, roots: Trust) -> Result<Trust, BoxError> {
        Ok(match self {
            Self::Nothing => roots,
            Self::These(lists) | Self::Before(lists) => roots.revocation_lists(lists)?,
            Self::Nobody(why) => roots.with_unreadable_lists(Arc::clone(why)),
        })
    }
}

impl Lists {
    /// By what peers are judged while those that are there cannot be used: by those of before for a while, and then nobody is
    /// believed.
    pub(super) fn without(&mut self, why: BoxError) -> Result<By, BoxError> {
        let since = *self.bad.get_or_insert_with(|| {
            tracing::warn!(%why, "the revocation lists cannot be read: those of before are in force for 10 s more");
            Instant::now()
        });
        if since.elapsed() < WRITING {
            return self.good.clone().map(By::Before).ok_or(why);
        }
        Ok(By::Nobody(why.to_string().into()))
    }

    /// This is in force.
    pub(super) fn settle(&mut self, by: By) {
        match by {
            By::These(lists) => *self = Self { good: Some(lists), ..Self::default() },
            By::Nobody(why) if !self.shut => {
                self.shut = true;
                tracing::error!(%why, "the revocation lists cannot be read: nobody is let in until they can be");
            }
            By::Nothing | By::Before(_) | By::Nobody(_) => {}
        }
    }

    /// Whether they cannot be used, and those of before are still in force.
    pub(super) fn are_awaited(&self) -> bool {
        self.bad.is_some() && !self.shut
    }

    /// Whether it is time to let nobody in.
    pub(super) fn are_due(&self) -> bool {
        !self.shut && self.bad.is_some_and(|since| since.elapsed() >= WRITING)
    }
}
