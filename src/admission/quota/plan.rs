use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use http::response;

use crate::{head::Head, identity::Principal, outcome::Outcome};

/// What an account may spend in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allowance {
    /// So many units. With none, every request that costs something is refused, and is not told to come back.
    Units(u64),
    /// As much as it likes; it is counted all the same.
    Unlimited,
}

impl Allowance {
    /// The units, if they are limited.
    #[must_use]
    pub const fn units(self) -> Option<u64> {
        match self {
            Self::Units(units) => Some(units),
            Self::Unlimited => None,
        }
    }
}

impl From<u64> for Allowance {
    fn from(units: u64) -> Self {
        Self::Units(units)
    }
}

/// What a quota allows to whom, and what a request costs there. It can change while counters go on.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) otherwise: Allowance,
    pub(super) plans: BTreeMap<Arc<str>, Allowance>,
    pub(super) claim: Option<Arc<str>>,
    pub(super) cost: Cost,
    pub(super) settle: Option<Settle>,
}

#[derive(Clone)]
pub(super) enum Cost {
    Fixed(u32),
    Told(Arc<dyn Fn(&Head<'_>) -> u32 + Send + Sync>),
}

/// What a request has cost, known only at the answer.
#[derive(Clone)]
pub(super) enum Settle {
    Head(Arc<dyn Fn(&response::Parts) -> Option<u32> + Send + Sync>),
    End(Arc<dyn Fn(&Outcome) -> Option<u32> + Send + Sync>),
}

impl Terms {
    pub(super) fn allowance(&self, head: &Head<'_>) -> Allowance {
        self.plan(head).and_then(|plan| self.plans.get(&*plan).copied()).unwrap_or(self.otherwise)
    }

    fn plan<'h>(&self, head: &'h Head<'_>) -> Option<Cow<'h, str>> {
        if self.plans.is_empty() {
            return None;
        }
        let principal = head.extensions().get::<Principal>()?;
        match &self.claim {
            Some(claim) => principal.claim(claim),
            None => principal.plan().map(Cow::Borrowed),
        }
    }

    /// Whether it can only be told once the caller is authenticated.
    pub(super) fn need_identity(&self) -> bool {
        !self.plans.is_empty()
    }
}

impl Cost {
    pub(super) fn of(&self, head: &Head<'_>) -> u32 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Told(cost) => cost(head),
        }
    }
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("otherwise", &self.otherwise)
            .field("plans", &self.plans)
            .field("claim", &self.claim)
            .field("settles", &self.settle.is_some())
            .finish_non_exhaustive()
    }
}
