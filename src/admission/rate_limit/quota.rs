use std::num::NonZeroU32;

use super::{Rate, rate::nanos};

/// How much an account may spend: a [`Rate`], and how much at once.
///
/// ```
/// use portcullis::admission::rate_limit::Quota;
/// use std::num::NonZeroU32;
///
/// let gold = Quota::new("1000/min".parse()?).with_burst(NonZeroU32::new(50).unwrap());
/// assert_eq!((gold.rate().count().get(), gold.burst().get()), (1000, 50));
/// # Ok::<(), portcullis::admission::rate_limit::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    rate: Rate,
    burst: Option<NonZeroU32>,
    /// In nanoseconds; divided once.
    interval: u64,
}

impl Quota {
    /// A quota of this rate, with a burst of the rate's count.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, burst: None, interval: nanos(rate.interval()) }
    }

    /// How much can be spent at once by whoever has spent nothing for a while. Only a token bucket has a burst.
    #[must_use]
    pub const fn with_burst(self, burst: NonZeroU32) -> Self {
        Self { burst: Some(burst), ..self }
    }

    /// How fast an account refills.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// What an account holds when it is full.
    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        self.burst.unwrap_or(self.rate.count())
    }

    pub(super) const fn interval(&self) -> u64 {
        self.interval
    }

    pub(super) const fn burst_told(&self) -> Option<NonZeroU32> {
        self.burst
    }
}
