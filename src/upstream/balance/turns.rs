//! Weighted round robin without bursts, written down in advance.

use std::{cmp::Reverse, collections::BinaryHeap, num::NonZeroU32};

/// The longest round that is written down. Weights that need a longer one are rounded to its whole.
const LONGEST: u64 = 1 << 16;

/// Whose turn it is: a round in which each has as many turns as it weighs, which is gone through again and again.
///
/// At every moment of a round each has had its part of the turns so far to within one turn. That is the most even schedule
/// there is: turn `k` of somebody with `w` of `W` turns lies between `k * W / w` and `(k + 1) * W / w`, and going by the
/// earliest end serves all in time (Baruah et al., "Proportionate Progress", 1996).
///
/// Weights are exact if their sum, without their common divisor, is at most 65,536; others are rounded to that many parts,
/// and everybody has one turn at least.
#[derive(Debug)]
pub(super) enum Turns {
    /// All weigh the same: one after the other.
    Even(usize),
    Weighted(Box<[u32]>),
}

impl Turns {
    pub(super) fn new(weights: &[NonZeroU32]) -> Self {
        if weights.windows(2).all(|pair| pair[0] == pair[1]) {
            return Self::Even(weights.len());
        }
        let divisor = weights.iter().fold(0, |divisor, weight| common(divisor, weight.get()));
        let whole =
            weights.iter().map(|weight| u64::from(weight.get())).sum::<u64>() / u64::from(divisor.max(1));
        let turns = |weight: &NonZeroU32| {
            let weight = u64::from(weight.get() / divisor.max(1));
            if whole <= LONGEST { weight } else { (weight * LONGEST / whole).max(1) }
        };
        Self::Weighted(round(&weights.iter().map(turns).collect::<Vec<_>>()))
    }

    /// Whose turn this is.
    pub(super) fn at(&self, turn: usize) -> usize {
        match self {
            Self::Even(n) => turn % n,
            Self::Weighted(round) => round[turn % round.len()] as usize,
        }
    }
}

fn common(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common(b, a % b) }
}

/// Everybody's turns, the one whose time ends first going first.
fn round(turns: &[u64]) -> Box<[u32]> {
    let whole: u64 = turns.iter().sum();
    let time = |who: usize, had: u64| {
        let begins = had * whole / turns[who];
        let ends = ((had + 1) * whole).div_ceil(turns[who]);
        (begins, ends, who, had)
    };
    let mut later: BinaryHeap<Reverse<_>> = (0..turns.len()).map(|who| Reverse(time(who, 0))).collect();
    let mut ready = BinaryHeap::new();
    let mut round = Vec::with_capacity(whole as usize);
    for now in 0..whole {
        while let Some(Reverse((begins, ends, who, had))) = later.peek().copied()
            && begins <= now
        {
            later.pop();
            ready.push(Reverse((ends, begins, who, had)));
        }
        let Some(Reverse((_, _, who, had))) = ready.pop() else { continue };
        round.push(who as u32);
        if had + 1 < turns[who] {
            later.push(Reverse(time(who, had + 1)));
        }
    }
    round.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(weights: &[u32]) -> Vec<NonZeroU32> {
        weights.iter().map(|weight| NonZeroU32::new(*weight).unwrap()).collect()
    }

    fn written(turns: &[u32]) -> Vec<usize> {
        let turns = Turns::new(&weights(turns));
        let len = match &turns {
            Turns::Even(n) => *n,
            Turns::Weighted(round) => round.len(),
        };
        (0..len).map(|turn| turns.at(turn)).collect()
    }

    #[test]
    fn a_round_is_even() {
        assert_eq!(written(&[7, 7, 7]), [0, 1, 2]);
        assert_eq!(written(&[2, 1]), [0, 1, 0]);
        assert_eq!(written(&[4, 1, 1]), [0, 0, 1, 0, 2, 0]);
        assert_eq!(written(&[30, 10]), [0, 0, 1, 0], "weights without their divisor");
        let heavy = written(&[5, 1, 1, 1, 1, 1]);
        assert!(heavy.windows(2).all(|pair| pair != [0, 0]), "no two in a row: {heavy:?}");
    }

    #[test]
    fn a_round_is_bounded() {
        let long = written(&[u32::MAX, 1, 70_000]);
        assert!(long.len() <= LONGEST as usize + 3, "{}", long.len());
        assert_eq!(long.iter().filter(|who| **who == 1).count(), 1, "nobody starves");
        let turns = Turns::new(&weights(&[1; 3]));
        assert_eq!(turns.at(usize::MAX), usize::MAX % 3);
    }

    proptest! {
        /// Within one turn of its part, at every moment.
        #[test]
        fn everybody_has_its_part_all_the_time(list in prop::collection::vec(1_u32..40, 1..20)) {
            let round = written(&list);
            let divisor = list.iter().fold(0, |divisor, weight| common(divisor, *weight));
            let even = list.iter().all(|weight| *weight == list[0]);
            let whole = if even { list.len() as u64 } else { list.iter().map(|w| u64::from(w / divisor)).sum() };
            prop_assert_eq!(round.len() as u64, whole);
            let mut had = vec![0_u64; list.len()];
            let sum: u64 = list.iter().map(|weight| u64::from(*weight)).sum();
            for (at, who) in round.iter().enumerate() {
                had[*who] += 1;
                for (had, weight) in had.iter().zip(&list) {
                    let off = (had * sum).abs_diff((at as u64 + 1) * u64::from(*weight));
                    prop_assert!(off < sum, "{} turns too many or too few", off as f64 / sum as f64);
                }
            }
        }
    }
}
