use std::{fmt, num::NonZeroU32, sync::Arc};

use super::{LimitError, Quota};
use crate::{admission::Plans, head::Head};

/// Tells the quota of a request's account, where it is not the limit's own.
///
/// It is asked for each request, and must not block. One account should have one quota at a time: what it tells may
/// depend on what the limit counts by, and on nothing else.
pub trait QuotaProvider: Send + Sync + 'static {
    /// The quota of the account of this request; `None` for the limit's. A quota of other windows than the limit's, and
    /// one that could be [no limit's](LimitError), is passed over.
    fn quota(&self, head: &Head<'_>) -> Option<Quota>;

    /// The largest count in a window that it tells. Limits by windows have room for at least so much; what is larger may be cut.
    fn most(&self) -> NonZeroU32;
}

impl QuotaProvider for Plans<Quota> {
    fn quota(&self, head: &Head<'_>) -> Option<Quota> {
        self.of(head).copied()
    }

    fn most(&self) -> NonZeroU32 {
        self.iter().map(|(_, quota)| quota.rate().count()).max().unwrap_or(NonZeroU32::MIN)
    }
}

/// A provider, which is the same as another if it is that, or a table with the same plans.
#[derive(Clone)]
pub(super) struct Provider {
    asked: Arc<dyn QuotaProvider>,
    table: Option<Arc<Plans<Quota>>>,
}

impl Provider {
    pub(super) fn new(asked: Arc<dyn QuotaProvider>) -> Self {
        Self { asked, table: None }
    }

    pub(super) fn quota(&self, head: &Head<'_>) -> Option<Quota> {
        self.asked.quota(head)
    }

    pub(super) fn most(&self) -> u32 {
        self.asked.most().get()
    }

    /// Whether all quotas that are known beforehand can be judged.
    pub(super) fn check(&self, can: impl Fn(Quota) -> bool) -> Result<(), LimitError> {
        let mut plans = self.table.iter().flat_map(|plans| plans.iter());
        let refused = plans.find(|(_, quota)| !can(**quota));
        refused
            .map_or(Ok(()), |(plan, quota)| Err(LimitError::Plan { plan: Arc::clone(plan), quota: *quota }))
    }
}

impl From<Plans<Quota>> for Provider {
    fn from(plans: Plans<Quota>) -> Self {
        let plans = Arc::new(plans);
        Self { asked: Arc::clone(&plans) as Arc<dyn QuotaProvider>, table: Some(plans) }
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Self) -> bool {
        match (&self.table, &other.table) {
            (Some(own), Some(other)) => own == other,
            _ => Arc::ptr_eq(&self.asked, &other.asked),
        }
    }
}

impl Eq for Provider {}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.table {
            Some(plans) => plans.fmt(f),
            None => f.write_str("QuotaProvider(..)"),
        }
    }
}
