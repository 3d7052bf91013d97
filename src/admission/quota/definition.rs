use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Allowance, QuotaFallback, QuotaHandle, QuotaStore, Quotas, place::Place, plan::Terms};
use crate::{
    admission::{Cost, Plans, Settle, Skip},
    gate::AsyncGateLayer,
    key::Key,
    time::{Calendar, Period, Span, WallClock},
};

/// The most units of an allowance: what a double holds exactly, since Redis counts with them in scripts.
const MOST: u64 = (1 << 53) - 1;
/// The longest name.
const MAX_NAME: usize = 63;

/// A named quota, with a counter for each account. Cheap to clone: clones are the same quota.
#[derive(Clone)]
pub struct Quota {
    pub(super) terms: Arc<Terms>,
    pub(super) counters: Arc<Counters>,
}

/// What has been spent, whatever is allowed.
pub(super) struct Counters {
    pub(super) name: Arc<str>,
    pub(super) period: Period,
    pub(super) calendar: Calendar,
    pub(super) key: Key,
    pub(super) store: QuotaStore,
    pub(super) place: Place,
    pub(super) clock: WallClock,
    pub(super) counts: Counts,
}

/// What happened since the process began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) spent: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) spared: AtomicU64,
    pub(super) uncounted: AtomicU64,
    pub(super) unsettled: AtomicU64,
}

/// Builds a [`Quota`].
#[derive(Clone, Debug)]
#[must_use]
pub struct QuotaBuilder {
    pub(super) name: Arc<str>,
    pub(super) period: Period,
    pub(super) calendar: Calendar,
    pub(super) key: Key,
    pub(super) store: QuotaStore,
    terms: Terms,
    clock: WallClock,
}

/// Why a quota cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// The name does not fit into header fields and keys.
    #[error("a quota's name is 1 to 63 letters, digits, `-`, `_` and `.`")]
    Name,
    /// An allowance is too large to be counted exactly.
    #[error("an allowance is at most 9007199254740991 units")]
    Allowance,
}

impl Quota {
    /// Begins a quota that allows so much in each period, to each principal.
    pub fn builder(
        name: impl Into<Arc<str>>,
        allowance: impl Into<Allowance>,
        period: Period,
    ) -> QuotaBuilder {
        QuotaBuilder {
            name: name.into(),
            period,
            calendar: Calendar::UTC,
            key: Key::Principal,
            store: QuotaStore::memory(),
            terms: Terms {
                otherwise: allowance.into(),
                plans: Plans::new(),
                cost: Cost::ONE,
                settle: None,
                skips: Arc::default(),
                in_shadow: false,
                fallback: QuotaFallback::Allow,
            },
            clock: WallClock::system(),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.counters.name
    }

    /// On whose account requests are counted.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.counters.key
    }

    /// Whether it can only be decided once the caller is authenticated: it counts by what is known then, or its plans or what it
    /// skips go by it.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.key().needs_identity() || self.terms.need_identity()
    }

    /// A view of what was spent.
    #[must_use]
    pub fn handle(&self) -> QuotaHandle {
        QuotaHandle::new(self.clone())
    }

    /// A layer with this quota alone. Its clones, and all services that they make, share it.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Quotas> {
        Quotas::from_iter([self]).layer()
    }
}

impl Counters {
    pub(super) fn span(&self) -> Span {
        self.calendar.span(self.period, self.clock.now())
    }
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }
}

impl QuotaBuilder {
    /// One counter for each `key`, instead of for each principal.
    pub fn by(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// By which midnight days begin; UTC unless told.
    pub fn calendar(mut self, calendar: Calendar) -> Self {
        self.calendar = calendar;
        self
    }

    /// What accounts of this plan may spend. What was said first is for those who have another plan, or none.
    ///
    /// The plan is the [principal's](crate::identity::Principal::plan). It is looked up for each request, so that who changes
    /// plans in the middle of a period keeps what was spent and has the new allowance at once.
    pub fn plan(mut self, plan: impl Into<Arc<str>>, allowance: impl Into<Allowance>) -> Self {
        self.terms.plans = self.terms.plans.with(plan, allowance.into());
        self
    }

    /// What a request costs; 1 unless told. What costs nothing always passes.
    pub fn costing(mut self, cost: impl Into<Cost>) -> Self {
        self.terms.cost = cost.into();
        self
    }

    /// What a request has cost in the end. The difference to what was charged ahead is charged or given back when the
    /// response has ended, to the period in which the request came; it can take an account beyond its allowance.
    pub fn settle(mut self, settle: Settle) -> Self {
        self.terms.settle = Some(settle);
        self
    }

    /// Does not count these requests, nor those named before. They pass, and nothing is settled for them.
    pub fn skip(mut self, skip: Skip) -> Self {
        self.terms.skips = self.terms.skips.iter().cloned().chain([skip]).collect();
        self
    }

    /// Whether the quota only looks on: it counts and logs (target `portcullis::shadow`) what it would refuse, and lets
    /// pass. `false` unless told.
    pub fn in_shadow(mut self, in_shadow: bool) -> Self {
        self.terms.in_shadow = in_shadow;
        self
    }

    /// Where counters are kept; in memory, and nowhere else, unless told.
    pub fn store(mut self, store: QuotaStore) -> Self {
        self.store = store;
        self
    }

    /// What time it is; the system's clock unless told.
    pub fn clock(mut self, clock: impl Into<WallClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The quota.
    ///
    /// # Errors
    ///
    /// [`QuotaError`], if the name or an allowance is out of bounds.
    pub fn build(self) -> Result<Quota, QuotaError> {
        let terms = Arc::new(self.checked()?);
        let place = Place::new(&self.name, &self.store);
        let Self { name, period, calendar, key, store, clock, .. } = self;
        let counts = Counts::default();
        let counters = Counters { name, period, calendar, key, store, place, clock, counts };
        Ok(Quota { terms, counters: Arc::new(counters) })
    }

    /// The terms, if they and the name can be.
    pub(super) fn checked(&self) -> Result<Terms, QuotaError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=MAX_NAME).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            return Err(QuotaError::Name);
        }
        let mut allowances =
            self.terms.plans.iter().map(|(_, allowance)| allowance).chain([&self.terms.otherwise]);
        if allowances.any(|allowance| allowance.units().is_some_and(|units| units > MOST)) {
            return Err(QuotaError::Allowance);
        }
        Ok(Terms { fallback: self.store.fallback, ..self.terms.clone() })
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("name", &self.name())
            .field("period", &self.counters.period)
            .field("calendar", &self.counters.calendar)
            .field("key", &self.counters.key)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
