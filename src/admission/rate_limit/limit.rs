use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Charge, Cost, Rate, RateLimitHandle, gcra::Quota, policy::Policy, store::Store};
use crate::key::{Key, KeySeed};

/// The accounts that a limit holds unless told otherwise.
const MAX_KEYS: NonZeroU32 = NonZeroU32::new(250_000).unwrap();
/// The longest name.
const MAX_NAME: usize = 64;

/// A named limit, with an account for each key. Cheap to clone: clones are the same limit, with the same accounts,
/// wherever they are used.
#[derive(Clone)]
pub struct Limit(pub(super) Arc<Inner>);

pub(super) struct Inner {
    /// Tables of several limits are locked in the order of these.
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
    pub(super) quota: Quota,
    pub(super) policy: Policy,
    pub(super) seed: KeySeed,
    pub(super) store: Store,
}

/// What two definitions of one name must agree on to be the same limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) key: Key,
    pub(super) rate: Rate,
    pub(super) burst: NonZeroU32,
    pub(super) max_keys: NonZeroU32,
}

/// Builds a [`Limit`].
#[derive(Debug, Clone)]
#[must_use]
pub struct LimitBuilder {
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
}

/// Why a limit cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The name does not fit into the header fields that tell of the limit.
    #[error("a limit's name is 1 to 64 visible ASCII characters or spaces, not {0:?}")]
    Name(Arc<str>),
    /// The burst is out of proportion to the rate.
    #[error("a burst of {burst} at {rate} would take more than a hundred years to come back")]
    Burst {
        /// The burst.
        burst: NonZeroU32,
        /// The rate.
        rate: Rate,
    },
}

impl Limit {
    /// Begins a limit of `rate` for each client address, with a burst of the rate's count.
    pub fn builder(name: impl Into<Arc<str>>, rate: Rate) -> LimitBuilder {
        let terms = Terms { key: Key::ClientAddr, rate, burst: rate.count(), max_keys: MAX_KEYS };
        LimitBuilder { name: name.into(), terms }
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

    /// How fast an account refills.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.0.terms.rate
    }

    /// What an account holds when it is full.
    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        self.0.terms.burst
    }

    /// This limit, charged with a cost other than one for each request.
    #[must_use]
    pub fn costing(self, cost: impl Into<Cost>) -> Charge {
        Charge::new(self, cost.into())
    }

    /// A view of its accounts.
    #[must_use]
    pub fn handle(&self) -> RateLimitHandle {
        RateLimitHandle::new(self.clone())
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

    /// How much can be spent at once by whoever has spent nothing for a while; the rate's count unless told.
    pub fn burst(mut self, burst: NonZeroU32) -> Self {
        self.terms.burst = burst;
        self
    }

    /// The accounts held at most; 250,000 unless told. See the [module docs](super#when-it-is-full).
    pub fn max_keys(mut self, keys: NonZeroU32) -> Self {
        self.terms.max_keys = keys;
        self
    }

    /// The limit.
    ///
    /// # Errors
    ///
    /// [`LimitError`], if the name or the burst is out of bounds.
    pub fn build(self) -> Result<Limit, LimitError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);

        let Self { name, terms } = self;
        let printable = name.bytes().all(|b| matches!(b, b' '..=b'~'));
        if name.trim().is_empty() || name.len() > MAX_NAME || !printable {
            return Err(LimitError::Name(name));
        }
        let Some(quota) = Quota::new(terms.rate, terms.burst) else {
            return Err(LimitError::Burst { burst: terms.burst, rate: terms.rate });
        };
        Ok(Limit(Arc::new(Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            policy: Policy::new(&name, terms.rate),
            store: Store::with_most(terms.max_keys),
            seed: KeySeed::new(),
            quota,
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
