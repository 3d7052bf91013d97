//! Who has which part of the circle of all `u64`. Pure arithmetic on whole numbers: the same everywhere.

/// The length of the circle.
const WHOLE: u128 = 1 << 64;

/// Parts of the circle, and whose they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// Where each part starts, in order; the first at 0. A part ends where the next starts.
    parts: Vec<(u64, usize)>,
}

impl Circle {
    /// `None` if all weights are 0.
    pub(super) fn new(weights: &[u32]) -> Option<Self> {
        let lengths = lengths(weights)?;
        let mut taken: Vec<Part> = Vec::new();
        for (owner, length) in lengths.iter().enumerate().skip(1) {
            // The base of 2 read backwards: each new canary starts in the middle of a widest gap.
            let start = u128::from((owner as u64).reverse_bits());
            take(&mut taken, owner, start, *length);
        }
        take(&mut taken, 0, 0, WHOLE);
        let mut parts: Vec<(u64, usize)> =
            taken.iter().filter_map(|part| Some((u64::try_from(part.start).ok()?, part.owner))).collect();
        parts.dedup_by_key(|(_, owner)| *owner);
        Some(Self { parts })
    }

    /// Whose part `point` is in.
    pub(super) fn owner(&self, point: u64) -> usize {
        let after = self.parts.partition_point(|(start, _)| *start <= point);
        after.checked_sub(1).and_then(|at| self.parts.get(at)).map_or(0, |(_, owner)| *owner)
    }
}

#[derive(Clone, Copy, Debug)]
struct Part {
    start: u128,
    end: u128,
    owner: usize,
}

/// How much of the circle each has; rounded down, and what is left over is the base's, or if that has no weight
/// the last canary's that has one.
fn lengths(weights: &[u32]) -> Option<Vec<u128>> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let length = |weight: &u32| (u128::from(*weight) * WHOLE).checked_div(sum);
    let mut lengths: Vec<u128> = weights.iter().map(length).collect::<Option<_>>()?;
    let left = WHOLE - lengths.iter().sum::<u128>();
    let heir = if *weights.first()? > 0 { 0 } else { weights.iter().rposition(|weight| *weight > 0)? };
    lengths[heir] += left;
    Some(lengths)
}

/// Gives `owner` so much of what is free, from `start` upwards and around. `taken` stays in order.
fn take(taken: &mut Vec<Part>, owner: usize, start: u128, mut length: u128) {
    let mut gaps = gaps(taken);
    // The gap around the start is the first from there on, and the last before it.
    if let Some(at) = gaps.iter().position(|(from, to)| *from < start && start < *to) {
        let (from, to) = gaps[at];
        gaps[at] = (from, start);
        gaps.insert(at + 1, (start, to));
    }
    let first = gaps.partition_point(|(from, _)| *from < start);
    gaps.rotate_left(first);
    for (from, to) in gaps {
        let end = to.min(from + length);
        if end > from {
            taken.push(Part { start: from, end, owner });
            length -= end - from;
        }
    }
    taken.sort_unstable_by_key(|part| part.start);
}

fn gaps(taken: &[Part]) -> Vec<(u128, u128)> {
    let ends = [0].into_iter().chain(taken.iter().map(|part| part.end));
    let starts = taken.iter().map(|part| part.start).chain([WHOLE]);
    ends.zip(starts).filter(|(from, to)| from < to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Circle {
        /// The exact length of what `owner` has.
        fn length(&self, owner: usize) -> u128 {
            let ends = self.parts.iter().skip(1).map(|(start, _)| u128::from(*start)).chain([WHOLE]);
            let parts = self.parts.iter().zip(ends).filter(|((_, of), _)| *of == owner);
            parts.map(|((start, _), end)| end - u128::from(*start)).sum()
        }

        /// Points at which the owner may change, and their neighbours.
        fn edges<'c>(&'c self, other: &'c Self) -> impl Iterator<Item = u64> + 'c {
            let starts = self.parts.iter().chain(&other.parts).map(|(start, _)| *start);
            starts.flat_map(|start| [start, start.wrapping_sub(1), start.wrapping_add(1)])
        }
    }

    fn keeps(owner: usize, before: &Circle, after: &Circle) -> bool {
        before.edges(after).all(|point| before.owner(point) != owner || after.owner(point) == owner)
    }

    #[test]
    fn places_are_pinned() {
        let circle = Circle::new(&[98, 2]).unwrap();
        assert_eq!(circle.parts, [(0, 0), (1 << 63, 1), (9_592_306_918_328_966_840, 0)]);
        let circle = Circle::new(&[1, 1, 1, 1]).unwrap();
        assert_eq!(circle.parts, [(0, 0), (1 << 62, 2), (1 << 63, 1), (3 << 62, 3)]);
        // The second canary reaches the first, and goes on behind it.
        let circle = Circle::new(&[0, 1, 1]).unwrap();
        assert_eq!(circle.parts, [(0, 2), (1 << 63, 1)]);
    }

    #[test]
    fn nobody_without_weight_has_a_part() {
        assert_eq!(Circle::new(&[0, 0]), None);
        assert_eq!(Circle::new(&[]), None);
        assert_eq!(Circle::new(&[5]).unwrap().parts, [(0, 0)]);
        assert_eq!(Circle::new(&[0, 3, 0, 7, 0]).unwrap().length(0), 0);
        assert_eq!(Circle::new(&[0, 3, 0, 7, 0]).unwrap().length(4), 0);
        assert_eq!(Circle::new(&[7, 0]).unwrap().parts, [(0, 0)]);
    }

    fn weights(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u32>> {
        let weight = prop_oneof![Just(0), 1_u32..100, Just(u32::MAX), any::<u32>()];
        prop::collection::vec(weight, len)
            .prop_filter("a sum of zero", |weights| weights.iter().any(|w| *w > 0))
    }

    proptest! {
        #[test]
        fn lengths_are_shares(weights in weights(1..9)) {
            let circle = Circle::new(&weights).unwrap();
            for (owner, weight) in weights.iter().enumerate() {
                let ideal = u128::from(*weight) * WHOLE / sum(&weights);
                prop_assert!(circle.length(owner).abs_diff(ideal) <= weights.len() as u128);
                prop_assert!(*weight > 0 || circle.length(owner) == 0);
            }
        }

        #[test]
        fn of_two_the_one_that_grows_keeps_all(before in weights(2), after in weights(2)) {
            let grown = if share_is_at_least(&after, &before, 1) { 1 } else { 0 };
            prop_assert!(keeps(grown, &Circle::new(&before).unwrap(), &Circle::new(&after).unwrap()));
        }

        #[test]
        fn of_many_small_ones_each_that_grows_keeps_all(
            before in prop::collection::vec(0_u32..=125, 7),
            after in prop::collection::vec(0_u32..=125, 7),
        ) {
            let (first, second) = (with_base(&before), with_base(&after));
            let (first, second) = (Circle::new(&first).unwrap(), Circle::new(&second).unwrap());
            for (canary, (from, to)) in before.iter().zip(&after).enumerate() {
                prop_assert!(to < from || keeps(canary + 1, &first, &second));
                prop_assert!(to > from || keeps(canary + 1, &second, &first));
            }
        }

        #[test]
        fn of_many_the_one_that_grows_alone_keeps_all(
            // One point may go to another by rounding, where the base has lost its last weight: it keeps some.
            (mut weights, at, base, more) in weights(2..7).prop_flat_map(|weights| {
                let canaries = 1..weights.len();
                (Just(weights), canaries, 2_u32..=u32::MAX).prop_flat_map(|(weights, at, base)| {
                    let most = (base - 1).min(u32::MAX - weights[at]).min(1000);
                    (Just(weights), Just(at), Just(base), 0..=most)
                })
            })
        ) {
            weights[0] = base;
            let mut grown = weights.clone();
            grown[0] -= more;
            grown[at] += more;
            let (before, after) = (Circle::new(&weights).unwrap(), Circle::new(&grown).unwrap());
            prop_assert!(keeps(at, &before, &after));
            for earlier in 1..at {
                prop_assert!(keeps(earlier, &before, &after) && keeps(earlier, &after, &before));
            }
        }

        #[test]
        fn a_canary_added_at_the_end_takes_from_the_base_only(weights in weights(2..7), new in 1_u32..50) {
            prop_assume!(weights[0] > new);
            let mut added = weights.clone();
            added[0] -= new;
            added.push(new);
            let (before, after) = (Circle::new(&weights).unwrap(), Circle::new(&added).unwrap());
            for canary in 1..weights.len() {
                prop_assert!(keeps(canary, &before, &after));
            }
        }
    }

    fn with_base(canaries: &[u32]) -> Vec<u32> {
        [1000 - canaries.iter().sum::<u32>()].into_iter().chain(canaries.iter().copied()).collect()
    }

    fn sum(weights: &[u32]) -> u128 {
        weights.iter().map(|weight| u128::from(*weight)).sum()
    }

    fn share_is_at_least(after: &[u32], before: &[u32], at: usize) -> bool {
        u128::from(after[at]) * sum(before) >= u128::from(before[at]) * sum(after)
    }
}
