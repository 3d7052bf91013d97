use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{Quota, QuotaBuilder, QuotaError, definition::Counters};

/// Quotas by name, so that a quota defined again, by a reload say, goes on with the same counters.
///
/// They are the same if name, key, period, calendar and store are; what plans allow, what requests cost
/// and what becomes of them in an outage may change. How many accounts are held and how often a file is written holds as
/// long as the counters are used.
/// Counters that nobody uses any more are forgotten here. Cheap to clone: clones are the same registry.
#[derive(Clone, Default)]
pub struct QuotaRegistry(Arc<Mutex<ByName>>);

type ByName = HashMap<Arc<str>, Vec<Weak<Counters>>>;

impl QuotaRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The quota of this definition, with the counters that are in use if they are the same, or with new ones.
    ///
    /// # Errors
    ///
    /// As [`QuotaBuilder::build`].
    pub fn define(&self, quota: QuotaBuilder) -> Result<Quota, QuotaError> {
        let terms = Arc::new(quota.checked()?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = all.entry(Arc::clone(&quota.name)).or_default();
        of_name.retain(|counters| counters.strong_count() > 0);
        let same = |counters: &Arc<Counters>| {
            counters.key == quota.key
                && counters.period == quota.period
                && counters.calendar == quota.calendar
                && counters.store.is_same(&quota.store)
        };
        if let Some(counters) = of_name.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(Quota { terms, counters });
        }
        let quota = quota.build()?;
        of_name.push(Arc::downgrade(&quota.counters));
        all.retain(|_, of_name| of_name.iter().any(|counters| counters.strong_count() > 0));
        Ok(quota)
    }
}

impl fmt::Debug for QuotaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(all.keys()).finish()
    }
}
