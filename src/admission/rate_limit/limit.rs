use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

#[cfg(feature = "redis")]
use super::distributed::{Distribution, Shared};
use super::{
    Algorithm, Charge, Quota, Rate, RateLimitHandle,
    judge::Judge,
    ledger::Ledger,
    plans::{Provider, QuotaProvider},
    policy::Policy,
    prices::Unit,
    store::At,
};
use crate::{
    admission::{Cost, Plans},
    head::Head,
    key::Key,
    time::WallClock,
};

/// The accounts that a limit holds unless told otherwise.
const MAX_KEYS: NonZeroU32 = NonZeroU32::new(250_000).unwrap();
/// The requests that wait for a leaky bucket unless told otherwise.
const MAX_WAITING: u32 = 1000;
/// The longest name.
const MAX_NAME: usize = 64;

/// A named limit, with an account for each key. Cheap to clone: clones are the same limit, with the same accounts,
/// wherever they are used.
#[derive(Clone)]
pub struct Limit(pub(super) Arc<Inner>);

impl Limit {
    /// What an account takes at most, with its share of all there is.
    pub(crate) const BYTES: u64 = 48;
}

pub(super) struct Inner {
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
    pub(super) judge: Judge,
    /// What a unit costs, and the most that an account owes.
    price: (Unit, u64),
    pub(super) policy: Policy,
    /// Clones of this are in limits that were defined again, on other terms.
    pub(super) ledger: Arc<Ledger>,
    #[cfg(feature = "redis")]
    pub(super) shared: Option<Arc<Shared>>,
}

/// What a limit grants, and how it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) key: Key,
    pub(super) algorithm: Algorithm,
    pub(super) quota: Quota,
    pub(super) plans: Option<Provider>,
    /// The units that an account may owe beyond what it holds.
    pub(super) max_debt: u32,
    pub(super) max_keys: NonZeroU32,
    /// The requests that wait at most, on all accounts.
    pub(super) max_waiting: u32,
    #[cfg(feature = "redis")]
    pub(super) distribution: Option<Distribution>,
}

/// Builds a [`Limit`].
#[derive(Debug, Clone)]
#[must_use]
pub struct LimitBuilder {
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
    clock: WallClock,
}

/// Why a limit cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The name does not fit into the header fields that tell of the limit.
    #[error("a limit's name is 1 to 64 visible ASCII characters or spaces, not {0:?}")]
    Name(Arc<str>),
    /// The burst, with the debt that is allowed, is out of proportion to the rate.
    #[error("a burst of {burst} at {rate} would take more than a hundred years to come back")]
    Burst {
        /// The burst.
        burst: NonZeroU32,
        /// The rate.
        rate: Rate,
    },
    /// A burst was told for an algorithm that has none.
    #[error("only a token bucket has a burst")]
    NoBurst,
    /// The longest wait of a leaky bucket is out of bounds.
    #[error("nobody waits {0:?}")]
    Wait(Duration),
    /// The window is none that can be counted.
    #[error("{rate} is no window that can be counted: it is too short, or what it may hold too much")]
    Window {
        /// The rate.
        rate: Rate,
    },
    /// The algorithm, or numbers as large as these, cannot be counted by several instances.
    #[error(
        "it cannot be kept on Redis: a leaky bucket waits in one process, and a burst may be too large for its rate"
    )]
    Distribution,
    /// A plan's quota cannot be one of this limit: its windows are of another length, or its burst is out of bounds.
    #[error("the plan `{plan}` has a quota that the limit cannot keep: {quota:?}")]
    Plan {
        /// The plan.
        plan: Arc<str>,
        /// Its quota.
        quota: Quota,
    },
}

impl Limit {
    /// Begins a limit of `rate` for each client address: a token bucket with a burst of the rate's count.
    pub fn builder(name: impl Into<Arc<str>>, rate: Rate) -> LimitBuilder {
        let terms = Terms {
            key: Key::ClientAddr,
            algorithm: Algorithm::default(),
            quota: Quota::new(rate),
            plans: None,
            max_debt: 0,
            max_keys: MAX_KEYS,
            max_waiting: MAX_WAITING,
            #[cfg(feature = "redis")]
            distribution: None,
        };
        LimitBuilder { name: name.into(), terms, clock: WallClock::system() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// On whose account requests are counted.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.0.terms.key
    }

    /// How it counts.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.terms.algorithm
    }

    /// How fast an account refills that has no plan of its own.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.0.terms.quota.rate()
    }

    /// What such an account holds when it is full.
    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        NonZeroU32::new(self.0.judge.remaining(0, 0)).unwrap_or(NonZeroU32::MIN)
    }

    /// The quota of the account of this request: that of its plan, or the limit's.
    #[must_use]
    pub fn quota(&self, head: &Head<'_>) -> Quota {
        self.0.plan(head).unwrap_or(self.0.terms.quota)
    }

    /// Whether it can only be asked once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.key().needs_identity() || self.0.terms.plans.is_some()
    }

    /// Whether its accounts are kept on Redis, where all instances share them.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        #[cfg(feature = "redis")]
        return self.0.shared.is_some();
        #[cfg(not(feature = "redis"))]
        false
    }

    /// This limit, charged with a cost other than one for each request.
    pub fn costing(self, cost: impl Into<Cost>) -> Charge {
        Charge::from(self).costing(cost)
    }

    /// A view of its accounts.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle::new(self.clone())
    }
}

/// What a unit costs by this judge, and the most that is owed.
fn price(judge: &Judge, ledger: &Ledger) -> (Unit, u64) {
    judge.price().map_or((Unit::NONE, 0), |(price, most)| (ledger.prices.unit(price), most))
}

impl Inner {
    pub(super) fn plan(&self, head: &Head<'_>) -> Option<Quota> {
        self.terms.plans.as_ref()?.quota(head)
    }

    /// The judge of this request's account, if it is not the limit's.
    #[inline]
    pub(super) fn judge_of(&self, head: &Head<'_>) -> Option<Judge> {
        self.judge.with(self.plan(head)?, self.terms.max_debt)
    }

    /// All states are read in the limit's own terms, whatever plans their accounts have, but for the price of a unit: that of
    /// the account's own judge, if it has one.
    #[inline]
    pub(super) fn at(&self, now: u64, own: Option<&Judge>) -> At<'_> {
        let (unit, most) = own.map_or(self.price, |own| price(own, &self.ledger));
        At { judge: &self.judge, now, unit, most }
    }

    /// The ledger of an earlier definition, if a limit of these terms can go on with it.
    fn ledger_for(&self, terms: &Terms, judge: &Judge) -> Option<Arc<Ledger>> {
        if self.terms.key != terms.key || !judge.reads_as(&self.judge) {
            return None;
        }
        if self.terms.max_keys == terms.max_keys {
            return Some(Arc::clone(&self.ledger));
        }
        Some(Arc::new(self.ledger.with_most(terms.max_keys, *judge)))
    }

    /// What is kept here of Redis by an earlier definition, if nothing that is asked there has changed.
    #[cfg(feature = "redis")]
    fn shared_for(&self, terms: &Terms) -> Option<Arc<Shared>> {
        let bounds = |terms: &Terms| (terms.algorithm, terms.quota, terms.max_debt, terms.max_keys);
        let same = self.terms.key == terms.key && bounds(&self.terms) == bounds(terms);
        let same = same && self.terms.distribution == terms.distribution;
        self.shared.clone().filter(|_| same)
    }
}

#[cfg(feature = "redis")]
impl Drop for Inner {
    /// Gives back what was taken ahead, where nobody will spend it any more.
    fn drop(&mut self) {
        if let Some(last) = self.shared.take().filter(|shared| Arc::strong_count(shared) == 1) {
            last.sweep(true);
        }
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("name", &self.name())
            .field("terms", &self.0.terms)
            .finish_non_exhaustive()
    }
}

impl LimitBuilder {
    /// One account for each `key`, instead of for each client address.
    pub fn by(mut self, key: Key) -> Self {
        self.terms.key = key;
        self
    }

    /// One account for everybody together.
    pub fn shared(self) -> Self {
        self.by(Key::tuple([]))
    }

    /// How it counts; as a token bucket unless told.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.terms.algorithm = algorithm;
        self
    }

    /// How much can be spent at once by whoever has spent nothing for a while; the rate's count unless told. Only a
    /// token bucket has a burst.
    pub fn burst(mut self, burst: NonZeroU32) -> Self {
        self.terms.quota = self.terms.quota.with_burst(burst);
        self
    }

    /// Other quotas for accounts whose principal has one of these plans. The limit can then only be asked inside of
    /// authentication.
    pub fn plans(mut self, plans: Plans<Quota>) -> Self {
        self.terms.plans = Some(Provider::from(plans));
        self
    }

    /// Other quotas for accounts of which this says so.
    pub fn quotas(mut self, quotas: impl QuotaProvider) -> Self {
        self.terms.plans = Some(Provider::new(Arc::new(quotas)));
        self
    }

    /// How many units an account may owe beyond what it holds, where what a request costs is only
    /// [known at its end](crate::admission::Settle); none unless told. What is above is forgiven.
    pub fn max_debt(mut self, units: u32) -> Self {
        self.terms.max_debt = units;
        self
    }

    /// The accounts held at most; 250,000 unless told. See the [module docs](super#when-it-is-full).
    pub fn max_keys(mut self, keys: NonZeroU32) -> Self {
        self.terms.max_keys = keys;
        self
    }

    /// The memory for accounts, instead of their number: one for each 48 bytes.
    pub fn max_bytes(self, bytes: NonZeroU64) -> Self {
        let keys = u32::try_from(bytes.get() / Limit::BYTES).unwrap_or(u32::MAX);
        self.max_keys(NonZeroU32::new(keys).unwrap_or(NonZeroU32::MIN))
    }

    /// How many requests wait at most, on all accounts together, where they [wait](Algorithm::LeakyBucket); 1,000 unless
    /// told. Who would be one more is refused.
    pub fn max_waiting(mut self, requests: u32) -> Self {
        self.terms.max_waiting = requests;
        self
    }

    /// What tells the time to windows of the calendar; the system's clock unless told.
    pub fn clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// Keeps its accounts on Redis, where all instances share them. It is asked by
    /// [`RateLimit::layer`](super::RateLimit::layer).
    #[cfg(feature = "redis")]
    pub fn distributed(mut self, distribution: Distribution) -> Self {
        self.terms.distribution = Some(distribution);
        self
    }

    /// The limit.
    ///
    /// # Errors
    ///
    /// [`LimitError`], if the name or a number is out of bounds, or if two of them contradict each other.
    pub fn build(self) -> Result<Limit, LimitError> {
        self.build_after(&[])
    }

    /// The limit, which goes on where the latest of these has come to, if it can.
    pub(super) fn build_after(self, earlier: &[Arc<Inner>]) -> Result<Limit, LimitError> {
        let Self { name, terms, clock } = self;
        let printable = name.bytes().all(|b| matches!(b, b' '..=b'~'));
        if name.trim().is_empty() || name.len() > MAX_NAME || !printable {
            return Err(LimitError::Name(name));
        }
        let most = terms.plans.as_ref().map_or(0, Provider::most);
        let judge = Judge::new(terms.algorithm, terms.quota, terms.max_debt, most)?;
        if let Some(plans) = &terms.plans {
            plans.check(|quota| judge.with(quota, terms.max_debt).is_some())?;
        }
        #[cfg(feature = "redis")]
        let shared = match &terms.distribution {
            Some(distribution) => {
                let known = earlier.iter().rev().find_map(|limit| limit.shared_for(&terms));
                let new = || Shared::new(&name, distribution, &terms);
                Some(known.or_else(new).ok_or(LimitError::Distribution)?)
            }
            None => None,
        };
        let known = earlier.iter().rev().find_map(|limit| limit.ledger_for(&terms, &judge));
        let calendar = terms.algorithm.is_by_calendar().then_some(clock);
        let ledger = known.unwrap_or_else(|| Arc::new(Ledger::new(terms.max_keys, calendar)));
        let (quota, window) = terms.quota.rate().told();
        Ok(Limit(Arc::new(Inner {
            #[cfg(feature = "redis")]
            shared,
            policy: Policy::new(&name, quota, window),
            price: price(&judge, &ledger),
            ledger,
            judge,
            name,
            terms,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str, rate: &str, burst: u32) -> Result<Limit, LimitError> {
        Limit::builder(name, rate.parse().unwrap()).burst(NonZeroU32::new(burst).unwrap()).build()
    }

    #[test]
    fn names_fit_into_a_header_field() {
        for name in ["a", "per-address", "a \"quoted\" \\ name", &"x".repeat(64)] {
            assert_eq!(build(name, "1/s", 1).unwrap().name(), name);
        }
        for name in ["", " ", "\n", "a\u{7f}", "größe", &"x".repeat(65)] {
            assert_eq!(build(name, "1/s", 1).unwrap_err(), LimitError::Name(name.into()));
        }
    }

    #[test]
    fn a_burst_out_of_proportion_is_refused() {
        assert!(build("a", "1/year", 100).is_ok());
        let refused = build("a", "1/year", 101).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a burst of 101 at 1/year would take more than a hundred years to come back"
        );
    }

    #[test]
    fn a_burst_is_the_count_unless_told() {
        let limit = Limit::builder("a", "100/min".parse().unwrap()).build().unwrap();
        assert_eq!(limit.burst().get(), 100);
        assert_eq!(limit.key(), &Key::ClientAddr);
        assert!(format!("{limit:?}").contains("100/min"));
    }
}
