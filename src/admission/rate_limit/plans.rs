use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc};

use super::{LimitError, Quota};
use crate::{head::Head, identity::Principal};

/// Tells the quota of a request's account, where it is not the limit's own.
///
/// It is asked for each request, and must not block. One account should have one quota at a time: what it tells may
/// depend on what the limit counts by, and on nothing else.
pub trait QuotaProvider: Send + Sync + 'static {
    /// The quota of the account of this request; `None` for the limit's. A quota of other windows than the limit's, and
    /// one that could be [no limit's](LimitError), is passed over.
    fn quota(&self, head: &Head<'_>) -> Option<Quota>;

    /// The largest count in a window that it tells. Limits by windows have room for so much; what is larger is cut.
    fn most(&self) -> NonZeroU32;
}

/// Quotas by the plan of the [`Principal`]: a table.
///
/// ```
/// use portcullis::admission::rate_limit::{Limit, Plans, Quota};
/// use portcullis::key::Key;
///
/// let plans = Plans::new()
///     .with("gold", Quota::new("10000/h".parse()?))
///     .with("silver", Quota::new("1000/h".parse()?));
/// // Whoever has another plan, or none: 100 an hour.
/// let limit = Limit::builder("per-customer", "100/h".parse()?).by(Key::Principal).plans(plans).build()?;
/// assert!(limit.needs_identity());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Plans(BTreeMap<Arc<str>, Quota>);

impl Plans {
    /// No plans.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a plan, or replaces it.
    pub fn with(mut self, plan: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.0.insert(plan.into(), quota);
        self
    }
}

impl QuotaProvider for Plans {
    fn quota(&self, head: &Head<'_>) -> Option<Quota> {
        let plan = head.extensions().get::<Principal>()?.plan()?;
        self.0.get(plan).copied()
    }

    fn most(&self) -> NonZeroU32 {
        self.0.values().map(|quota| quota.rate().count()).max().unwrap_or(NonZeroU32::MIN)
    }
}

/// A provider, which is the same as another if it is that, or a table with the same plans.
#[derive(Clone)]
pub(super) struct Provider {
    asked: Arc<dyn QuotaProvider>,
    table: Option<Arc<Plans>>,
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
        let plans = self.table.iter().flat_map(|plans| &plans.0);
        let refused = plans.into_iter().find(|(_, quota)| !can(**quota));
        refused
            .map_or(Ok(()), |(plan, quota)| Err(LimitError::Plan { plan: Arc::clone(plan), quota: *quota }))
    }
}

impl From<Plans> for Provider {
    fn from(plans: Plans) -> Self {
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
