//! Draws one of many by weight, in the same time for ten and for ten thousand.

use std::num::NonZeroU32;

/// A draw by weight: Vose's alias method, "A Linear Algorithm for Generating Random Numbers with a Given Distribution"
/// (1991). Each slot is shared by two at most, so that one look at one slot decides. Exact to 2^-32.
#[derive(Debug)]
pub(super) enum Draw {
    /// All weigh the same.
    Even(u64),
    Weighted(Box<[Slot]>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The owner's part of the slot, of 2^32.
    own: u32,
    /// Whose the rest is.
    other: u32,
}

impl Draw {
    pub(super) fn new(weights: &[NonZeroU32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even(weights.len() as u64);
        }
        let n = weights.len() as u128;
        let whole: u128 = weights.iter().map(|weight| u128::from(weight.get())).sum();
        // What each has still to get; a slot is as large as the mean.
        let mut left: Vec<u128> = weights.iter().map(|weight| u128::from(weight.get()) * n).collect();
        let mut slots: Vec<Slot> =
            (0..weights.len() as u32).map(|at| Slot { own: u32::MAX, other: at }).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|at| left[*at] < whole);
        while let (Some(poor), Some(rich)) = (small.pop(), large.last().copied()) {
            slots[poor] = Slot { own: ((left[poor] << 32) / whole) as u32, other: rich as u32 };
            left[rich] -= whole - left[poor];
            if left[rich] < whole {
                large.pop();
                small.push(rich);
            }
        }
        Self::Weighted(slots.into())
    }

    /// One of them, by a random number.
    pub(super) fn draw(&self, random: u64) -> usize {
        let (high, low) = (random >> 32, random as u32);
        match self {
            Self::Even(n) => ((high * n) >> 32) as usize,
            Self::Weighted(slots) => {
                let at = ((high * slots.len() as u64) >> 32) as usize;
                let slot = slots[at];
                if low < slot.own { at } else { slot.other as usize }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The exact part of each, as the table gives it.
    fn parts(draw: &Draw, n: usize) -> Vec<f64> {
        let Draw::Weighted(slots) = draw else { return vec![1.0 / n as f64; n] };
        let mut parts = vec![0.0; n];
        for (at, slot) in slots.iter().enumerate() {
            let own = if slot.other as usize == at { 1.0 } else { f64::from(slot.own) / 2_f64.powi(32) };
            parts[at] += own / n as f64;
            parts[slot.other as usize] += (1.0 - own) / n as f64;
        }
        parts
    }

    proptest! {
        #[test]
        fn everybody_has_a_part_by_weight(weights in prop::collection::vec(1_u32.., 1..200)) {
            let weights: Vec<_> = weights.into_iter().filter_map(NonZeroU32::new).collect();
            let whole: f64 = weights.iter().map(|weight| f64::from(weight.get())).sum();
            let parts = parts(&Draw::new(&weights), weights.len());
            for (part, weight) in parts.iter().zip(&weights) {
                let due = f64::from(weight.get()) / whole;
                prop_assert!((part - due).abs() < 1e-6, "{} instead of {}", part, due);
            }
        }

        #[test]
        fn every_number_is_somebodys(weights in prop::collection::vec(1_u32..5, 1..50), random: u64) {
            let weights: Vec<_> = weights.into_iter().filter_map(NonZeroU32::new).collect();
            let draw = Draw::new(&weights);
            for random in [random, 0, u64::MAX] {
                prop_assert!(draw.draw(random) < weights.len());
            }
        }
    }

    /// tower-rs/tower#696: of 99, 0.5 and 0.5 the first got two thirds.
    #[test]
    fn a_heavy_one_has_all_its_part() {
        let weights = [198, 1, 1].map(|weight| NonZeroU32::new(weight).unwrap());
        let parts = parts(&Draw::new(&weights), 3);
        assert!((parts[0] - 0.99).abs() < 1e-6, "{parts:?}");
    }
}
