use std::{collections::BTreeMap, sync::Arc};

use crate::{head::Head, identity::Principal};

/// What differs by the plan of the caller: a table by names of plans, looked up for each request.
///
/// ```
/// use portcullis::{admission::Plans, head::Head, identity::Principal};
///
/// let seats = Plans::new().with("gold", 500).with("silver", 50);
/// let mut request = http::Request::new(());
/// assert_eq!(seats.of(&Head::of(&mut request)), None);
/// request.extensions_mut().insert(Principal::new("keys", "", "ann").with_plan("gold"));
/// assert_eq!(seats.of(&Head::of(&mut request)), Some(&500));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Plans<T>(BTreeMap<Arc<str>, T>);

impl<T> Plans<T> {
    /// No plans.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a plan, or replaces it.
    pub fn with(mut self, plan: impl Into<Arc<str>>, what: T) -> Self {
        self.0.insert(plan.into(), what);
        self
    }

    /// What stands there for the plan of this request's [principal](Principal::plan), if it has one that is named.
    #[must_use]
    pub fn of(&self, head: &Head<'_>) -> Option<&T> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(head.extensions().get::<Principal>()?.plan()?)
    }

    /// Whether no plan is named. Else it can only be asked once the caller is authenticated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The plans by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.0.iter()
    }
}

impl<T> Default for Plans<T> {
    fn default() -> Self {
        Self::new()
    }
}
