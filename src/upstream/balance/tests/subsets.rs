//! Parts of a set by labels.

use super::*;
use crate::upstream::{Fallback, Subset, Subsets};

fn version(name: &str) -> Endpoint {
    endpoint().label("version", name)
}

fn versions(names: &[&str]) -> Vec<Endpoint> {
    names.iter().map(|name| version(name)).collect()
}

fn by_version(fallback: Fallback) -> Subsets {
    Subsets::new().by(["version"]).fallback(fallback)
}

impl Roster {
    fn in_version(self: &Arc<Self>, version: &str, hash: u64) -> Option<usize> {
        let subset = Some(self.mark(Subset::new([("version", version)]).pairs()));
        self.ask(Ask { hash: Some(hash), subset, ..Ask::default() })
    }

    fn counts_in(self: &Arc<Self>, version: &str, picks: u64) -> Vec<usize> {
        let mut counts = vec![0; self.plan().seats.len()];
        for n in 0..picks {
            counts[self.in_version(version, crate::chance::mix(n)).unwrap()] += 1;
        }
        counts
    }
}

#[test]
fn a_subset_is_picked_from_by_all_its_policies() {
    for balance in every() {
        let rules = Rules { subsets: by_version(Fallback::None), ..by(balance.clone()) };
        let mut list = versions(&["1", "2", "2", "1", "2"]);
        list[1] = list[1].clone().weight(NonZeroU32::new(3).unwrap());
        let roster = roster(rules, list);
        let counts = roster.counts_in("2", 5_000);
        assert_eq!((counts[0], counts[3]), (0, 0), "{balance:?}");
        assert!(counts[1].abs_diff(3_000) < 200, "{balance:?}: {counts:?}");
        assert!(
            counts[2].abs_diff(1_000) < 150 && counts[4].abs_diff(1_000) < 150,
            "{balance:?}: {counts:?}"
        );
        assert!(roster.counts(500).iter().all(|count| *count > 0), "who names none can go anywhere");
    }
}

/// One counter for all would send those that come in turns to one endpoint of each.
#[test]
fn each_subset_has_its_own_turns() {
    let rules = Rules { subsets: by_version(Fallback::None), ..Rules::default() };
    let roster = roster(rules, versions(&["1", "1", "2", "2"]));
    let mut counts = [0; 4];
    for n in 0..100 {
        if n == 50 {
            roster.set(roster.plan().seats.clone()); // they go on where they were
        }
        for version in ["1", "2"] {
            counts[roster.in_version(version, 0).unwrap()] += 1;
        }
    }
    assert_eq!(counts, [50; 4]);
}

#[test]
fn what_becomes_of_who_names_a_subset_of_nobody() {
    let fallback = |fallback| {
        let rules = Rules { subsets: by_version(fallback), ..Rules::default() };
        roster(rules, versions(&["1", "2", "1"]))
    };
    assert_eq!(fallback(Fallback::None).in_version("3", 0), None);
    let any = fallback(Fallback::Any);
    let all: std::collections::BTreeSet<_> = (0..3).map(|_| any.in_version("3", 0)).collect();
    assert_eq!(all.len(), 3);
    let default = fallback(Fallback::Default(Subset::new([("version", "2")])));
    assert!((0..5).all(|_| default.in_version("3", 0) == Some(1)));
    assert_ne!(default.in_version("1", 0), Some(1));
    let nobody = fallback(Fallback::Default(Subset::new([("version", "4")])));
    assert_eq!(nobody.in_version("3", 0), None);
}

#[test]
fn a_subset_has_its_own_panic_priorities_and_zones() {
    let seven = ["1", "1", "2", "2", "2", "2", "2"];
    let rules = Rules { subsets: by_version(Fallback::Any), ..Rules::default() };
    let crowd = roster(rules.clone(), versions(&seven));
    crowd.member(0).withhold(Withheld::Unhealthy, true);
    crowd.member(1).withhold(Withheld::Unhealthy, true);
    crowd.set(crowd.plan().seats.clone());
    let counts = crowd.counts_in("1", 100);
    assert_eq!(
        counts[..2],
        [50, 50],
        "it panics, though the whole does not; and there is no fallback for the weak"
    );
    assert_eq!(crowd.counts(70)[..2], [0, 0]);

    let spare = [version("1"), version("1").priority(1), version("2"), version("2").priority(1)];
    let spare = roster(rules.clone(), spare);
    spare.member(0).withhold(Withheld::Ejected, true);
    spare.set(spare.plan().seats.clone());
    assert_eq!(spare.counts_in("1", 50), [0, 50, 0, 0]);
    assert_eq!(spare.counts_in("2", 50), [0, 0, 50, 0]);

    let zoned = Rules { zone: Some("a".into()), ..rules };
    let list = ["a", "b", "a", "b"].into_iter().zip(["1", "1", "2", "2"]);
    let zoned = roster(zoned, list.map(|(zone, name)| version(name).zone(zone)));
    assert_eq!(zoned.counts_in("2", 50), [0, 0, 50, 0]);
}

#[test]
fn a_subset_is_what_the_set_makes_of_it() {
    let roster = roster(Rules::default(), versions(&["1", "2"]));
    let plan = roster.plan();
    assert_eq!(roster.in_version("2", 0), None, "nobody has asked for it");
    roster.divide(Subset::new([("version", "")]).keys());
    assert_eq!(roster.in_version("2", 0), Some(1));
    let made = roster.plan();
    roster.divide(Subset::new([("version", "")]).keys());
    assert!(Arc::ptr_eq(&made, &roster.plan()) && !Arc::ptr_eq(&plan, &made), "it is made once");

    let second = made.seats[1].clone();
    let relabelled = Seat { endpoint: Arc::new(version("3")), ..second.clone() };
    roster.set([made.seats[0].clone(), relabelled].into());
    assert_eq!((roster.in_version("2", 0), roster.in_version("3", 0)), (None, Some(1)));
    assert!(second.member.availability().takes(), "it is the same, and goes on");
    roster.set([made.seats[0].clone()].into());
    assert_eq!(roster.in_version("3", 0), None);
}

#[test]
fn there_are_no_more_subsets_than_a_thousand() {
    let rules = Rules { subsets: by_version(Fallback::None), ..Rules::default() };
    let roster = roster(rules, (0..1_100).map(|n| version(&n.to_string())));
    let there = (0..1_100).filter(|n| roster.in_version(&n.to_string(), 0) == Some(*n)).count();
    assert_eq!(there, 1_000);
    assert_eq!(roster.counts(1_100), [1; 1_100], "the others are there for who names none");
}

#[test]
fn a_retry_goes_elsewhere_within_its_subset() {
    let rules = Rules { subsets: by_version(Fallback::Any), ..Rules::default() };
    let roster = roster(rules, versions(&["1", "2", "2", "1"]));
    let subset = Some(roster.mark(Subset::new([("version", "2")]).pairs()));
    for _ in 0..10 {
        let earlier = [address(1)];
        assert_eq!(roster.ask(Ask { subset, earlier: &earlier, ..Ask::default() }), Some(2));
        let tried = roster.tried(&[1, 2]);
        assert_eq!(roster.ask(Ask { subset, tried, ..Ask::default() }), None, "and never outside of it");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever labels endpoints have and whoever is withheld: who is picked has the labels, and somebody is if one takes
    /// requests.
    #[test]
    fn who_is_picked_has_the_labels(
        list in prop::collection::vec((0_u8..3, prop::option::of(0_u8..2), 0_u8..16), 1..12),
        wanted in (0_u8..3, 0_u8..2),
        which in 0_usize..6,
        hash: u64,
    ) {
        let labelled = list.iter().map(|(a, b, _)| {
            let endpoint = endpoint().label("a", a.to_string());
            b.iter().fold(endpoint, |endpoint, b| endpoint.label("b", b.to_string()))
        });
        let subsets = Subsets::new().by(["b", "a"]).by(["a"]);
        let rules = Rules { subsets, panic_threshold: Ratio::NEVER, ..by(every().nth(which).unwrap()) };
        let roster = roster(rules, labelled);
        for (place, (.., reasons)) in list.iter().enumerate() {
            for why in Withheld::ALL.iter().filter(|why| reasons & why.bit() != 0) {
                roster.member(place).withhold(*why, true);
            }
        }
        let subset = Subset::new([("b", wanted.1.to_string()), ("a", wanted.0.to_string())]);
        let ask = Ask { hash: Some(hash), subset: Some(roster.mark(subset.pairs())), ..Ask::default() };
        let fits = |(a, b, reasons): &(u8, Option<u8>, u8)| *a == wanted.0 && *b == Some(wanted.1) && *reasons == 0;
        let picked = roster.ask(ask);
        prop_assert_eq!(picked.is_some(), list.iter().any(fits));
        prop_assert!(picked.is_none_or(|place| fits(&list[place])));
    }
}
