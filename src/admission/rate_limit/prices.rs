//! The prices of a unit by which the accounts of a table are counted.
//!
//! The state of a bucket is a time, that of so many units at the price of who wrote it. Who reads it at another price, after
//! a reload or as another plan, is to find the same units: so each account has the number of its price beside its key. Of prices that have no number any more, each account is noted beside.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::store::Fingerprint;
use crate::chance::mix;

/// The number of a price in its table. [`Self::NONE`] if states are no times: they are then read as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Price(u8);

/// The price of a unit: its number, and its nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) number: Price,
    pub(super) nanos: u64,
}

pub(super) struct Prices {
    /// Nanoseconds, each at its place or at the next that was free. Zero: none yet.
    numbered: Box<[AtomicU64]>,
    others: Mutex<Others>,
}

/// Accounts at prices that have no number.
#[derive(Default)]
struct Others {
    /// Of each its price, and until when it matters.
    accounts: HashMap<Fingerprint, (u64, u64)>,
    /// With so many, it is looked which do not matter any more.
    many: usize,
}

/// The bits of a key that name the price.
const BITS: u32 = 8;
const KEY: u64 = u64::MAX >> BITS;
/// The prices that have a number.
const NUMBERED: usize = 254;
/// Fewer others are not worth a look.
const FEW: usize = 1024;

impl Price {
    pub(super) const NONE: Self = Self(0);
    /// One of those that have no number of their own.
    pub(super) const OTHER: Self = Self(u8::MAX);

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

impl Unit {
    pub(super) const NONE: Self = Self { number: Price::NONE, nanos: 0 };
}

impl Default for Prices {
    fn default() -> Self {
        let numbered = std::iter::repeat_with(AtomicU64::default).take(NUMBERED).collect();
        Self { numbered, others: Mutex::default() }
    }
}

impl Prices {
    /// This price, which is not zero, with its number.
    pub(super) fn unit(&self, nanos: u64) -> Unit {
        let is_it = |at: &usize| {
            let held = &self.numbered[*at];
            let held = match held.load(Relaxed) {
                0 => held.compare_exchange(0, nanos, Relaxed, Relaxed).err().unwrap_or(nanos),
                held => held,
            };
            held == nanos
        };
        let first = mix(nanos) as usize % NUMBERED;
        let number = (first..NUMBERED).chain(0..first).find(is_it);
        // There are no more of them than a byte can number.
        Unit { number: number.map_or(Price::OTHER, |at| Price((at + 1) as u8)), nanos }
    }

    /// The price of an account in this state, if that is known.
    fn known(&self, key: Fingerprint) -> Option<u64> {
        match Price::of(key) {
            Price::NONE => None,
            Price::OTHER => self.others().accounts.get(&Price::bare(key)).map(|(price, _)| *price),
            Price(number) => Some(self.numbered[usize::from(number) - 1].load(Relaxed)),
        }
    }

    /// The state that owes as many units at this price as `state`, of this account, does at the account's own, from now on, but
    /// no more than `most`: what was spent of a larger account is no debt of a smaller one.
    pub(super) fn convert(&self, key: Fingerprint, (state, most): (u64, u64), now: u64, to: Unit) -> u64 {
        if state <= now || to.number == Price::NONE {
            return state;
        }
        match self.known(key) {
            Some(old @ 1..) if old != to.nanos => {
                let owed = u128::from(state - now) * u128::from(to.nanos);
                let owed = owed.div_ceil(u128::from(old));
                now.saturating_add(u64::try_from(owed).unwrap_or(u64::MAX).min(most))
            }
            _ => state,
        }
    }

    /// Notes the price of an account that has no number, until its time comes.
    #[cold]
    pub(super) fn note(&self, key: Fingerprint, (price, until): (u64, u64), now: u64) {
        let mut others = self.others();
        if others.accounts.len() >= others.many.max(FEW) {
            others.accounts.retain(|_, (_, until)| *until > now);
            others.many = 2 * others.accounts.len();
        }
        others.accounts.insert(Price::bare(key), (price, until));
    }

    /// Whoever has gone needs no note.
    pub(super) fn forget(&self, key: Fingerprint) {
        if Price::of(key) == Price::OTHER {
            self.others().accounts.remove(&Price::bare(key));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.others().accounts.capacity() * size_of::<(Fingerprint, (u64, u64))>()
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_have_numbers_as_long_as_there_are_some() {
        let prices = Prices::default();
        let units: Vec<_> = (1..=254).map(|price| prices.unit(price)).collect();
        assert!(
            (1..=254).zip(&units).all(|(price, unit)| prices.unit(price) == *unit && unit.nanos == price)
        );
        let mut numbers: Vec<_> = units.iter().map(|unit| unit.number.0).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=254).collect::<Vec<_>>());
        assert_eq!([255, 256].map(|price| prices.unit(price).number), [Price::OTHER; 2]);
        let (ten, five) = (units[9].number.on(7), units[4]);
        assert_eq!(prices.convert(ten, (300, 50), 100, Unit::NONE), 300);
        assert_eq!(prices.convert(ten, (300, 200), 100, five), 200);
        assert_eq!(prices.convert(ten, (300, 50), 100, five), 150);
        assert_eq!(prices.convert(ten, (100, 50), 300, five), 100);
        assert_eq!(prices.convert(Price::NONE.on(7), (300, 200), 100, five), 300);
    }

    #[test]
    fn those_without_a_number_are_noted_one_by_one_for_as_long_as_it_matters() {
        let prices = Prices::default();
        (1..=254).for_each(|price| _ = prices.unit(price));
        let key = |n: u64| Price::OTHER.on(n);
        for n in 0..10_000 {
            prices.note(key(n), (1000 + n, n + 1), 0);
        }
        let to = prices.unit(100_000);
        assert!((0..10_000).all(|n| prices.convert(key(n), (5 * (1000 + n), u64::MAX), 0, to) == 500_000));
        // By now nine in ten owe nothing any more.
        for n in 10_000..18_000 {
            prices.note(key(n), (1000 + n, n + 1), 9000);
        }
        assert_eq!(prices.others().accounts.len(), 9000);
        assert!(
            (9000..18_000)
                .all(|n| prices.convert(key(n), (9000 + 5 * (1000 + n), u64::MAX), 9000, to) == 509_000)
        );
        prices.forget(key(11_999));
        prices.forget(Price::NONE.on(11_998));
        assert_eq!(prices.known(key(11_999)), None);
        assert_eq!(prices.known(key(11_998)), Some(12_998));
    }

    proptest! {
        #[test]
        fn units_stay_what_they_are(
            units in 0_u64..1000, old in 100_u64..1 << 40, new in 100_u64..1 << 40, numbered in 0_u64..256, key: u64,
        ) {
            let prices = Prices::default();
            (1..=numbered).for_each(|price| _ = prices.unit(price));
            let (from, to) = (prices.unit(old), prices.unit(new));
            let (key, state) = (from.number.on(key), 7 + units * old);
            if from.number == Price::OTHER {
                prices.note(key, (old, state), 7);
            }
            prop_assert_eq!(prices.convert(key, (state, u64::MAX), 7, to), 7 + units * new);
            prop_assert_eq!(prices.convert(key, (state, u64::MAX), 7, from), state);
        }

        #[test]
        fn a_key_keeps_what_is_left(key: u64, number: u8) {
            let on = Price(number).on(key);
            prop_assert_eq!((Price::of(on), Price::bare(on)), (Price(number), Price::bare(key)));
        }
    }
}
