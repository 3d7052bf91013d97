//! The prices of a unit by which the accounts of a table are counted.
//!
//! The state of a bucket is a time, that of so many units at the price of who wrote it. Who reads it at another price, after
//! a reload or as another plan, is to find the same units: so each account has the number of its price beside its key.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The number of a price in its table. [`Self::NONE`] if states are no times, or if there were too many prices: they are then
/// read as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Price(u8);

/// Nanoseconds, in the order in which they came. Zero: none yet.
pub(super) struct Prices(Box<[AtomicU64]>);

/// The bits of a key that name the price.
const BITS: u32 = 8;
const KEY: u64 = u64::MAX >> BITS;

impl Price {
    pub(super) const NONE: Self = Self(0);

    /// What is left of a key beside a price.
    #[inline]
    pub(super) const fn bare(key: u64) -> u64 {
        key & KEY
    }

    pub(super) const fn of(key: u64) -> Self {
        Self((key >> (u64::BITS - BITS)) as u8)
    }

    /// The key with this price.
    pub(super) const fn on(self, key: u64) -> u64 {
        Self::bare(key) | (self.0 as u64) << (u64::BITS - BITS)
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take((1 << BITS) - 1).collect())
    }
}

impl Prices {
    /// The number of this price, which is not zero.
    pub(super) fn number(&self, price: u64) -> Price {
        let is_it = |held: &AtomicU64| {
            let held = match held.load(Relaxed) {
                0 => held.compare_exchange(0, price, Relaxed, Relaxed).err().unwrap_or(price),
                held => held,
            };
            held == price
        };
        // There are no more of them than a byte can number.
        self.0.iter().position(is_it).map_or(Price::NONE, |at| Price((at + 1) as u8))
    }

    /// The state that owes as many units at one price as this does at another, from now on, but no more than `most`: what was
    /// spent of a larger account is no debt of a smaller one.
    pub(super) fn convert(&self, (state, most): (u64, u64), now: u64, from: Price, to: Price) -> u64 {
        let price =
            |price: Price| self.0.get(usize::from(price.0).wrapping_sub(1)).map(|at| at.load(Relaxed));
        match (price(from), price(to)) {
            (Some(old @ 1..), Some(new)) if from != to && state > now => {
                let owed = u128::from(state - now) * u128::from(new) / u128::from(old);
                now.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX).min(most))
            }
            _ => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_have_numbers_as_long_as_there_are_some() {
        let prices = Prices::default();
        let numbers: Vec<_> = (1..=255).map(|price| prices.number(price)).collect();
        assert!((1..=255).zip(&numbers).all(|(price, number)| prices.number(price) == *number));
        assert_eq!(prices.number(256), Price::NONE);
        assert_eq!(prices.convert((300, 50), 100, numbers[9], Price::NONE), 300);
        assert_eq!(prices.convert((300, 200), 100, numbers[9], numbers[4]), 200);
        assert_eq!(prices.convert((300, 50), 100, numbers[9], numbers[4]), 150);
        assert_eq!(prices.convert((100, 50), 300, numbers[9], numbers[4]), 100);
    }

    proptest! {
        #[test]
        fn units_stay_what_they_are(units in 0_u64..1000, old in 100_u64..1 << 40, new in 100_u64..1 << 40) {
            let prices = Prices::default();
            let (old_number, new_number) = (prices.number(old), prices.number(new));
            prop_assert_eq!(prices.convert((7 + units * old, u64::MAX), 7, old_number, new_number), 7 + units * new);
            prop_assert_eq!(prices.convert((7 + units * old, u64::MAX), 7, old_number, old_number), 7 + units * old);
        }

        #[test]
        fn a_key_keeps_what_is_left(key: u64, number: u8) {
            let on = Price(number).on(key);
            prop_assert_eq!((Price::of(on), Price::bare(on)), (Price(number), Price::bare(key)));
        }
    }
}
