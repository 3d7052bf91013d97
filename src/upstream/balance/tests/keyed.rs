//! Endpoints that are chosen by a key.

use super::*;

#[test]
fn a_key_stays_where_it_is() {
    for balance in keyed() {
        let roster = roster(by(balance), alike(10));
        let hash = |n: u64| crate::chance::mix(n);
        let before: Vec<_> = (0..1_000).map(|n| roster.of(hash(n)).unwrap()).collect();
        assert!((0..1_000).all(|n| roster.of(hash(n)) == Some(before[n as usize])));
        roster.member(3).withhold(Withheld::Ejected, true);
        let moved = |n: &u64| before[*n as usize] != 3 && roster.of(hash(*n)) != Some(before[*n as usize]);
        let moved = (0..1_000).filter(moved).count();
        assert!(moved < 100, "{moved} of 1000 keys of others");
        assert!((0..1_000).all(|n| roster.of(hash(n)) != Some(3)));
        roster.member(3).withhold(Withheld::Ejected, false);
        assert!((0..1_000).all(|n| roster.of(hash(n)) == Some(before[n as usize])));
        let anywhere = roster.counts(1_000);
        assert!(anywhere.iter().all(|count| *count > 50), "without a key: {anywhere:?}");
    }
}

#[test]
fn a_table_is_the_same_in_any_order() {
    for balance in keyed() {
        let common = Arc::default();
        let mut seats = seats(weighing(&[3, 1, 4, 1, 5, 9]), &common);
        let of = |seats: Box<[Seat]>| {
            let roster =
                Arc::new(Roster::new(by(balance.clone()), Chance::seeded(1), Arc::clone(&common), seats));
            (0..500_u64).map(|n| roster.of(n << 54).unwrap()).collect::<Vec<_>>()
        };
        let one = of(seats.clone());
        seats.reverse();
        assert_eq!(one, of(seats));
    }
}

#[test]
fn who_leaves_the_set_gets_nothing_more() {
    let roster = roster(Rules::default(), alike(3));
    let old = roster.plan();
    roster.set(old.seats[1..].into());
    assert_eq!(roster.plan().seats.len(), 2);
    assert!(
        (0..10).all(|_| roster.pick(&old, &Ask::default()).map(place) != Some(0)),
        "who still holds the old plan knows, too"
    );
    assert_eq!(old.seats[0].member.availability().reasons().collect::<Vec<_>>(), [Withheld::Draining]);
    assert!(old.seats[1].member.availability().takes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// No endpoint is given a request beyond its part, times the bound, of what is in flight with that one.
    #[test]
    fn nobody_bears_more_than_his_bound(
        weights in prop::collection::vec(1_u32..10, 1..12),
        percent in 100_u32..300,
        requests in prop::collection::vec((0_u64..4, any::<bool>()), 1..200),
        ring: bool,
    ) {
        let balance = match ring {
            true => Balance::RingHash(RingHash::new(key()).bounded_load(percent)),
            false => Balance::Maglev(Maglev::new(key()).bounded_load(percent)),
        };
        let roster = roster(by(balance), weighing(&weights));
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut held: HashMap<usize, Vec<Load>> = HashMap::new();
        let mut in_flight = 0_u64;
        for (hash, ends) in requests {
            let place = roster.of(crate::chance::mix(hash)).unwrap();
            let bound = ((in_flight + 1) * u64::from(percent)).div_ceil(100);
            let bound = (bound * u64::from(weights[place])).div_ceil(sum);
            let loads = held.entry(place).or_default();
            prop_assert!((loads.len() as u64) < bound, "{} of {}", loads.len() + 1, bound);
            loads.push(roster.begin(place));
            in_flight += 1;
            if ends && let Some(one) = held.values_mut().find_map(Vec::pop) {
                drop(one);
                in_flight -= 1;
            }
        }
    }

    /// Whatever is withheld, and however they are weighed and placed: who is picked takes requests, or nobody does, or too
    /// few do.
    #[test]
    fn who_is_picked_takes_requests(
        list in prop::collection::vec((1_u32..5, 0_u8..3, 0_u8..16), 1..12),
        which in 0_usize..6,
        hashes in prop::collection::vec(any::<u64>(), 20),
    ) {
        let endpoints = list.iter().map(|(weight, priority, _)| {
            endpoint().weight(NonZeroU32::new(*weight).unwrap()).priority(*priority)
        });
        let rules = Rules { panic_threshold: Ratio::NEVER, ..by(every().nth(which).unwrap()) };
        let roster = roster(rules, endpoints);
        for (place, (.., reasons)) in list.iter().enumerate() {
            for why in Withheld::ALL.iter().filter(|why| reasons & why.bit() != 0) {
                roster.member(place).withhold(*why, true);
            }
        }
        let anybody = list.iter().any(|(.., reasons)| *reasons == 0);
        for hash in hashes {
            let picked = roster.of(hash);
            prop_assert_eq!(picked.is_some(), anybody);
            prop_assert!(picked.is_none_or(|place| list[place].2 == 0));
        }
    }
}
