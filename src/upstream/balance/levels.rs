//! How requests are shared among priorities, as Envoy does it.

use crate::ratio::Ratio;

/// By how much a priority may be short of endpoints before others take from it: at 1.4, seven of ten bear all that ten do.
const OVERPROVISIONED: u64 = 140;

/// The endpoints of one priority.
#[derive(Debug, Clone, Copy)]
pub(super) struct Health {
    pub(super) all: usize,
    /// How many of them take requests.
    pub(super) taking: usize,
}

/// What one priority is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    /// Of a hundred requests.
    pub(super) percent: u32,
    /// Too few take requests to bear it: all get some, for they may be better than they look.
    pub(super) panics: bool,
}

/// The parts of all priorities, the first one first; together a hundred.
///
/// A priority bears `taking / all * 1.4` of all, and what the first do not bear the next ones get. If all together do not
/// bear everything, each gets in proportion, and those of which less than `threshold` take requests panic. If all do, the
/// numbers of endpoints count and nothing else.
pub(super) fn levels(health: &[Health], threshold: Ratio) -> Vec<Level> {
    let bears = |health: &Health| {
        let part = OVERPROVISIONED * health.taking as u64 / (health.all as u64).max(1);
        u32::try_from(part).unwrap_or(u32::MAX).min(100)
    };
    let bearable = health.iter().map(bears).sum::<u32>().min(100);
    let panics = |health: &Health| bearable < 100 && is_below(health, threshold);
    if health.iter().all(panics) {
        let all: usize = health.iter().map(|health| health.all).sum();
        return shares(health, |health| 100 * health.all as u64, all as u64, |_| true);
    }
    shares(health, |health| 100 * u64::from(bears(health)), bearable.into(), panics)
}

/// Whether fewer than this part take requests.
fn is_below(health: &Health, threshold: Ratio) -> bool {
    let (taking, all) = (health.taking as u128, health.all as u128);
    taking * u128::from(threshold.denominator()) < all * u128::from(threshold.numerator())
}

/// What rounding leaves is the first one's that has anything.
fn shares(
    health: &[Health],
    part: impl Fn(&Health) -> u64,
    whole: u64,
    panics: impl Fn(&Health) -> bool,
) -> Vec<Level> {
    let mut left = 100;
    let mut levels: Vec<_> = health
        .iter()
        .map(|health| {
            let percent = (part(health) / whole.max(1)).min(left) as u32;
            left -= u64::from(percent);
            Level { percent, panics: panics(health) }
        })
        .collect();
    let heir = levels.iter().position(|level| level.percent > 0).unwrap_or(0);
    if let Some(heir) = levels.get_mut(heir) {
        heir.percent += left as u32;
    }
    levels
}

/// The part of requests that stays in the own zone, of 2^32: all of them, unless it has less than its part of what there
/// is. As many callers are taken to stand in each zone.
pub(super) fn own_part(own: u64, all: u64, zones: usize) -> u64 {
    let part = (u128::from(own) * zones as u128) << 32;
    u64::try_from(part.checked_div(u128::from(all)).unwrap_or(0)).unwrap_or(u64::MAX).min(1 << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALF: Ratio = Ratio::percent(50);

    fn percents(taking: &[usize], threshold: Ratio) -> Vec<u32> {
        let health: Vec<_> = taking.iter().map(|&taking| Health { all: 100, taking }).collect();
        levels(&health, threshold).into_iter().map(|level| level.percent).collect()
    }

    /// The tables of Envoy's "Priority levels".
    #[test]
    fn shares_are_those_of_envoy() {
        for (taking, percent) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[25, 25], &[50, 50]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
        ] {
            assert_eq!(percents(taking, Ratio::NEVER), percent, "{taking:?}");
        }
    }

    #[test]
    fn who_cannot_bear_it_panics() {
        let panics = |taking: &[usize], threshold| {
            let health: Vec<_> = taking.iter().map(|&taking| Health { all: 100, taking }).collect();
            levels(&health, threshold).into_iter().map(|level| level.panics).collect::<Vec<_>>()
        };
        assert_eq!(panics(&[50], HALF), [false]);
        assert_eq!(panics(&[49], HALF), [true]);
        assert_eq!(panics(&[10, 90], HALF), [false, false], "together they bear it");
        assert_eq!(panics(&[10, 55], HALF), [true, false]);
        assert_eq!(panics(&[0, 0], HALF), [true, true]);
        assert_eq!(panics(&[0, 0], Ratio::NEVER), [false, false]);
    }

    #[test]
    fn if_all_panic_numbers_count() {
        let health = [Health { all: 3, taking: 0 }, Health { all: 1, taking: 0 }];
        let level = |percent| Level { percent, panics: true };
        assert_eq!(levels(&health, HALF), [level(75), level(25)]);
        assert_eq!(levels(&[], HALF), []);
    }

    #[test]
    fn a_zone_gives_what_it_does_not_bear() {
        let whole = 1 << 32;
        assert_eq!(own_part(2, 6, 3), whole, "its part");
        assert_eq!(own_part(5, 6, 3), whole, "more than its part");
        assert_eq!(own_part(1, 6, 3), whole / 2);
        assert_eq!(own_part(0, 6, 3), 0);
        assert_eq!(own_part(0, 0, 0), 0);
        assert_eq!(own_part(u64::MAX, u64::MAX, 10), whole);
    }

    proptest! {
        #[test]
        fn all_requests_go_somewhere(list in prop::collection::vec((1_usize..2000, 0_usize..2000), 1..8), percent in 0_u8..=100) {
            let health: Vec<_> = list.into_iter().map(|(all, taking)| Health { all, taking: taking.min(all) }).collect();
            let levels = levels(&health, Ratio::percent(percent));
            prop_assert_eq!(levels.iter().map(|level| level.percent).sum::<u32>(), 100);
            // Nobody is sent where nobody takes anything, while somebody elsewhere does.
            let nobody = |(health, level): (&Health, &Level)| health.taking == 0 && level.percent > 0 && !level.panics;
            if health.iter().any(|health| health.taking * 140 >= health.all) {
                prop_assert!(!health.iter().zip(&levels).any(nobody));
            }
        }
    }
}
