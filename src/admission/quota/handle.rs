use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use http::Request;

use super::{Allowance, Quota, place::Place};
use crate::{head::Head, identity::Principal};

/// A view of what was spent, for operators, bills and tests.
#[derive(Clone, Debug)]
pub struct QuotaHandle {
    quota: Quota,
}

/// What an account has spent in the period that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Consumption {
    /// The units that were spent.
    pub used: u64,
    /// What the account may spend.
    pub allowance: Allowance,
    /// When the period began.
    pub start: SystemTime,
    /// When it ends.
    pub end: SystemTime,
}

/// Counters cannot be asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaOutage {
    /// The file cannot be read, or another has it.
    #[error("the file of the quota cannot be used: {0}")]
    File(Arc<str>),
    /// Redis does not answer.
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] crate::redis::RedisError),
    /// Redis did not answer those who asked before, and is not asked until it is found to serve.
    #[cfg(feature = "redis")]
    #[error("Redis does not serve, and is not asked for now")]
    Shut,
    /// So many wait for Redis that no more are let.
    #[cfg(feature = "redis")]
    #[error("too many wait for Redis already")]
    Busy,
}

impl Consumption {
    /// What is left; `None` if there is no bound.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.allowance.units().map(|units| units.saturating_sub(self.used))
    }
}

impl QuotaHandle {
    pub(super) const fn new(quota: Quota) -> Self {
        Self { quota }
    }

    /// The quota.
    #[must_use]
    pub const fn quota(&self) -> &Quota {
        &self.quota
    }

    /// What the account of this request has spent. Nothing is spent by asking.
    ///
    /// # Errors
    ///
    /// [`QuotaOutage`]
    pub fn consumption(
        &self,
        head: &Head<'_>,
    ) -> impl Future<Output = Result<Consumption, QuotaOutage>> + Send + use<> {
        let counters = Arc::clone(&self.quota.counters);
        let allowance = self.quota.terms.allowance(head);
        let (account, span) = (counters.key.digest(head), counters.span());
        async move {
            let used = counters.used(account, span).await?;
            Ok(Consumption { used, allowance, start: span.start(), end: span.end() })
        }
    }

    /// What this principal has spent, where the quota counts by principal or claim.
    ///
    /// # Errors
    ///
    /// [`QuotaOutage`]
    pub async fn consumption_of(&self, principal: &Principal) -> Result<Consumption, QuotaOutage> {
        let mut request = of(principal);
        self.consumption(&Head::of(&mut request)).await
    }

    /// Forgets what this principal has spent in the period that it is, where the quota counts by principal or claim.
    ///
    /// # Errors
    ///
    /// [`QuotaOutage`]
    pub async fn reset_of(&self, principal: &Principal) -> Result<(), QuotaOutage> {
        let mut request = of(principal);
        let counters = &self.quota.counters;
        counters.reset(counters.key.digest(&Head::of(&mut request)), counters.span()).await
    }

    /// Makes ready what would else be made ready by the first request: a file is read.
    ///
    /// # Errors
    ///
    /// [`QuotaOutage`]
    pub async fn open(&self) -> Result<(), QuotaOutage> {
        self.quota.counters.open().await
    }

    /// Writes what stands in memory only, if there is a file, and waits for what is being settled: for a process that
    /// goes down.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub async fn flush(&self) -> io::Result<()> {
        self.quota.counters.flush().await
    }

    /// The units that this process has charged, without what was settled later.
    #[must_use]
    pub fn spent(&self) -> u64 {
        self.quota.counters.counts.spent.load(Relaxed)
    }

    /// The requests that it has refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.quota.counters.counts.refused.load(Relaxed)
    }

    /// The requests that it would have refused if it were not [in shadow](super::QuotaBuilder::in_shadow).
    #[must_use]
    pub fn spared(&self) -> u64 {
        self.quota.counters.counts.spared.load(Relaxed)
    }

    /// The requests that passed uncounted, because counters could not be asked.
    #[must_use]
    pub fn uncounted(&self) -> u64 {
        self.quota.counters.counts.uncounted.load(Relaxed)
    }

    /// How often what a request cost in the end could not be settled.
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        self.quota.counters.counts.unsettled.load(Relaxed)
    }

    /// The accounts that are held, if they are held in memory.
    #[must_use]
    pub fn accounts(&self) -> Option<usize> {
        match &self.quota.counters.place {
            Place::Memory(kept) => Some(kept.memory.len()),
            #[cfg(feature = "redis")]
            Place::Redis(_) => None,
        }
    }

    /// The accounts that were forgotten before their period was over, since there was no room. If this grows,
    /// [`max_keys`](super::QuotaStore::max_keys) is too small, or there is a flood.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        match &self.quota.counters.place {
            Place::Memory(kept) => kept.memory.forgotten(),
            #[cfg(feature = "redis")]
            Place::Redis(_) => 0,
        }
    }

    /// How long it is until what is spent counts no more.
    #[must_use]
    pub fn resets_in(&self) -> Duration {
        let counters = &self.quota.counters;
        counters.span().remaining(counters.clock.now())
    }
}

fn of(principal: &Principal) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(principal.clone());
    request
}
