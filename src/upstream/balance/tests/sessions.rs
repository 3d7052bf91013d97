//! Who has been somewhere comes back there.

use super::*;
use crate::upstream::{Fallback, SessionKey, Subset, Subsets};

const KEY: SessionKey = SessionKey::new([7; 16]);

fn sticky(rules: Rules, endpoints: impl IntoIterator<Item = Endpoint>) -> Arc<Roster> {
    let roster = roster(Rules { session_key: KEY, ..rules }, endpoints);
    roster.keep_sessions();
    roster
}

/// Of who has a session at this place.
fn at(place: usize, strict: bool) -> Ask<'static> {
    Ask { session: Some(Named { name: KEY.name(address(place)), strict }), ..Ask::default() }
}

#[test]
fn a_session_stays_where_it_is() {
    for balance in every() {
        let roster = sticky(by(balance), alike(5));
        for n in 0..50 {
            let ask = Ask { hash: Some(crate::chance::mix(n)), ..at(3, n % 2 == 0) };
            assert_eq!(roster.ask(ask), Some(3), "whatever its key is");
        }
        let busy: Vec<_> = (0..100).map(|_| roster.begin(3)).collect();
        assert_eq!(roster.ask(at(3, false)), Some(3), "however much there is to do");
        drop(busy);
    }
}

#[test]
fn who_takes_no_requests_loses_its_sessions() {
    for why in Withheld::ALL {
        let roster = sticky(Rules::default(), alike(3));
        roster.member(1).withhold(*why, true);
        assert!((0..6).all(|_| roster.ask(at(1, false)).is_some_and(|place| place != 1)), "{why:?}");
        assert_eq!(roster.ask(at(1, true)), None, "{why:?}: a strict one goes nowhere else");
        roster.member(1).withhold(*why, false);
        assert!((0..6).all(|_| roster.ask(at(1, false)) == Some(1) && roster.ask(at(1, true)) == Some(1)));
    }
}

/// In panic everybody is given requests, and nobody can choose who is not well.
#[test]
fn panic_is_no_way_to_who_is_not_well() {
    let roster = sticky(Rules::default(), alike(4));
    (0..3).for_each(|place| roster.member(place).withhold(Withheld::Unhealthy, true));
    roster.set(roster.plan().seats.clone());
    let places: std::collections::BTreeSet<_> = (0..8).map(|_| roster.ask(at(0, false))).collect();
    assert_eq!(places.len(), 4, "it is one of many then");
    assert_eq!((roster.ask(at(0, true)), roster.ask(at(3, true))), (None, Some(3)));
}

#[test]
fn who_leaves_the_set_loses_its_sessions() {
    let roster = sticky(Rules::default(), alike(3));
    roster.set(roster.plan().seats[1..].into());
    let name = KEY.name(address(0));
    assert!(roster.plan().named(name, None).is_none());
    assert_eq!(roster.ask(at(0, true)), None);
    assert!((0..6).all(|_| roster.ask(at(0, false)).is_some_and(|place| place != 0)));
    assert!((0..6).all(|_| roster.ask(at(2, false)) == Some(2)), "others keep theirs");
}

#[test]
fn a_retry_goes_elsewhere() {
    for balance in every() {
        let roster = sticky(by(balance), alike(3));
        for _ in 0..10 {
            let earlier = [address(1)];
            assert_ne!(roster.ask(Ask { earlier: &earlier, ..at(1, false) }), Some(1));
            let earlier = [address(1), address(0)];
            assert_eq!(roster.ask(Ask { earlier: &earlier, ..at(1, false) }), Some(2));
            let tried = roster.tried(&[1]);
            assert_ne!(roster.ask(Ask { tried, ..at(1, false) }), Some(1));
            assert_eq!(roster.ask(Ask { tried, ..at(1, true) }), None);
            let earlier = [address(1)];
            assert_eq!(
                roster.ask(Ask { earlier: &earlier, ..at(1, true) }),
                Some(1),
                "there is no other for it"
            );
        }
    }
}

#[test]
fn a_session_is_of_its_subset() {
    let subsets = |fallback| Subsets::new().by(["version"]).fallback(fallback);
    let list = || ["1", "2", "1"].map(|name| endpoint().label("version", name));
    let of = |roster: &Arc<Roster>, version: &str, ask: Ask<'static>| {
        let subset = Some(roster.mark(Subset::new([("version", version)]).pairs()));
        roster.ask(Ask { subset, ..ask })
    };
    let roster = sticky(Rules { subsets: subsets(Fallback::Any), ..Rules::default() }, list());
    assert!((0..4).all(|_| of(&roster, "1", at(2, false)) == Some(2)));
    assert!((0..4).all(|_| of(&roster, "2", at(2, false)) == Some(1)));
    assert_eq!(of(&roster, "2", at(2, true)), None);
    assert!((0..4).all(|_| of(&roster, "3", at(2, false)) == Some(2)), "in the fallback everybody is");
    let default = Fallback::Default(Subset::new([("version", "1")]));
    let roster = sticky(Rules { subsets: subsets(default), ..Rules::default() }, list());
    assert!((0..4).all(|_| of(&roster, "3", at(2, true)) == Some(2)));
    assert_eq!(of(&roster, "3", at(1, true)), None);
}

#[test]
fn names_are_made_where_there_are_sessions() {
    let without = roster(Rules { session_key: KEY, ..Rules::default() }, alike(3));
    assert!(without.plan().named(KEY.name(address(1)), None).is_none());
    without.keep_sessions();
    let made = without.plan();
    assert!(made.named(KEY.name(address(1)), None).is_some());
    without.keep_sessions();
    assert!(Arc::ptr_eq(&made, &without.plan()), "once");
}

proptest! {
    /// Whatever is withheld, and whatever a client has made up: it gets one who takes requests.
    #[test]
    fn no_session_leads_to_who_takes_none(
        list in prop::collection::vec((0_u8..3, 0_u8..16), 1..10),
        name: u64,
        place in 0_usize..12,
        made_up: bool,
        strict: bool,
    ) {
        let endpoints = list.iter().map(|(priority, _)| endpoint().priority(*priority));
        let roster = sticky(Rules { panic_threshold: Ratio::NEVER, ..Rules::default() }, endpoints);
        for (place, (_, reasons)) in list.iter().enumerate() {
            for why in Withheld::ALL.iter().filter(|why| reasons & why.bit() != 0) {
                roster.member(place).withhold(*why, true);
            }
        }
        let name = if made_up { name } else { KEY.name(address(place)) };
        let picked = roster.ask(Ask { session: Some(Named { name, strict }), ..Ask::default() });
        prop_assert!(picked.is_none_or(|place| list[place].1 == 0));
        let own = !made_up && list.get(place).is_some_and(|(_, reasons)| *reasons == 0);
        prop_assert_eq!(picked == Some(place) && own, own, "who takes requests keeps it");
        prop_assert_eq!(picked.is_some(), own || !strict && list.iter().any(|(_, reasons)| *reasons == 0));
    }
}
