mod keyed;
mod sessions;
mod subsets;
mod timed;

use std::{collections::HashMap, net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::{
    chance::Chance,
    key::Key,
    ratio::Ratio,
    reject::{Reason, Rejection},
    upstream::{
        availability::Withheld, common::Common, endpoint::Endpoint, load::Load, member::Member,
        options::Options,
    },
};

fn address(port: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1 + port as u16))
}

fn seats(endpoints: impl IntoIterator<Item = Endpoint>, common: &Arc<Common>) -> Box<[Seat]> {
    let options = Arc::new(Options::default());
    let seat = |(port, endpoint)| Seat {
        member: Arc::new(Member::new(address(port), "".into(), Arc::clone(&options), Arc::clone(common))),
        endpoint: Arc::new(endpoint),
    };
    endpoints.into_iter().enumerate().map(seat).collect()
}

fn roster(rules: Rules, endpoints: impl IntoIterator<Item = Endpoint>) -> Arc<Roster> {
    let common = Arc::default();
    let seats = seats(endpoints, &common);
    Arc::new(Roster::new(rules, Chance::seeded(7), common, seats))
}

fn by(balance: Balance) -> Rules {
    Rules { balance, ..Rules::default() }
}

fn endpoint() -> Endpoint {
    Endpoint::new("a:1")
}

fn weighing(weights: &[u32]) -> Vec<Endpoint> {
    weights.iter().map(|weight| endpoint().weight(NonZeroU32::new(*weight).unwrap())).collect()
}

fn alike(n: usize) -> Vec<Endpoint> {
    vec![endpoint(); n]
}

fn key() -> Key {
    Key::Header(HeaderName::from_static("x-user"))
}

/// Those that do not look at a key.
const KEYLESS: [Balance; 4] =
    [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma, Balance::Random];

fn keyed() -> [Balance; 2] {
    [Balance::RingHash(RingHash::new(key())), Balance::Maglev(Maglev::new(key()))]
}

fn every() -> impl Iterator<Item = Balance> {
    KEYLESS.into_iter().chain(keyed())
}

fn place(member: &Arc<Member>) -> usize {
    usize::from(member.address().port()) - 1
}

impl Roster {
    fn ask(self: &Arc<Self>, ask: Ask<'_>) -> Option<usize> {
        self.pick(&self.plan(), &ask).map(place)
    }

    fn tried(self: &Arc<Self>, places: &[usize]) -> Tried {
        let mut tried = Tried::default();
        places.iter().for_each(|&place| tried.add(&self.member(place)));
        tried
    }

    fn any(self: &Arc<Self>) -> Option<usize> {
        self.ask(Ask::default())
    }

    fn of(self: &Arc<Self>, hash: u64) -> Option<usize> {
        self.ask(Ask { hash: Some(hash), ..Ask::default() })
    }

    fn member(self: &Arc<Self>, place: usize) -> Arc<Member> {
        Arc::clone(&self.plan().seats[place].member)
    }

    fn begin(self: &Arc<Self>, place: usize) -> Load {
        Load::begin(self.member(place), self.interest(), None, None)
    }

    /// How often each is picked.
    fn counts(self: &Arc<Self>, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.plan().seats.len()];
        for _ in 0..picks {
            counts[self.any().unwrap()] += 1;
        }
        counts
    }
}

#[test]
fn everybody_gets_his_part_by_weight() {
    for balance in every() {
        let roster = roster(by(balance.clone()), weighing(&[1, 2, 7]));
        let counts = roster.counts(10_000);
        for (count, due) in counts.iter().zip([1_000_usize, 2_000, 7_000]) {
            assert!(count.abs_diff(due) < 200, "{balance:?}: {counts:?}");
        }
    }
}

/// tower-rs/tower#696: of 99, 0.5 and 0.5 the first got two thirds.
#[test]
fn who_is_light_gets_no_more_for_being_drawn_against_the_heavy() {
    for balance in KEYLESS {
        let roster = roster(by(balance.clone()), weighing(&[198, 1, 1]));
        let counts = roster.counts(10_000);
        assert!(counts[0].abs_diff(9_900) < 100, "{balance:?}: {counts:?}");
        let mut held = Vec::new();
        for _ in 0..2_000 {
            held.push(roster.begin(roster.any().unwrap()));
        }
        let heavy = roster.member(0).load();
        assert!(heavy.abs_diff(1_980) < 30, "{balance:?}: {heavy} in flight");
    }
}

#[test]
fn who_is_busy_gets_less() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let roster = roster(by(balance.clone()), alike(2));
        let busy = roster.begin(0);
        assert!((0..50).all(|_| roster.any() == Some(1)), "{balance:?}");
        drop(busy);
        let counts = roster.counts(200);
        assert!(counts.iter().all(|count| *count > 60), "{balance:?}: {counts:?}");
    }
}

#[test]
fn requests_spread_evenly_while_none_ends() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma, Balance::RoundRobin] {
        let roster = roster(by(balance), alike(5));
        let held: Vec<_> = (0..500).map(|_| roster.begin(roster.any().unwrap())).collect();
        let loads: Vec<_> = (0..5).map(|place| roster.member(place).load()).collect();
        assert!(loads.iter().all(|load| (90..=110).contains(load)), "{loads:?}");
        drop(held);
        assert!((0..5).all(|place| roster.member(place).load() == 0));
    }
}

#[test]
fn what_was_tried_is_left_out() {
    for balance in every() {
        let nobody = roster(by(balance.clone()), []);
        let roster = roster(by(balance), alike(3));
        for hash in 0..50 {
            let ask = |places: &[usize]| Ask {
                tried: roster.tried(places),
                hash: Some(hash << 58),
                ..Ask::default()
            };
            assert_eq!(roster.ask(ask(&[0, 2])), Some(1));
            assert_eq!(roster.ask(ask(&[0, 1, 2])), None);
            assert_eq!(nobody.of(hash), None);
        }
    }
}

#[test]
fn another_than_was_tried_earlier_and_never_the_last_again() {
    for balance in every() {
        let (all, one) = (roster(by(balance.clone()), alike(3)), roster(by(balance), alike(1)));
        for hash in 0..50 {
            let pick = |roster: &Arc<Roster>, tried: &[usize], earlier: &[usize]| {
                let tried = roster.tried(tried);
                let earlier: Vec<_> = earlier.iter().map(|place| address(*place)).collect();
                roster.ask(Ask { tried, earlier: &earlier, hash: Some(hash << 58), ..Ask::default() })
            };
            assert_ne!(pick(&all, &[], &[1]), Some(1));
            assert_eq!(pick(&all, &[], &[1, 0]), Some(2));
            assert_ne!(pick(&all, &[], &[1, 0, 2]), Some(2), "all were tried: not the last");
            assert_eq!(pick(&all, &[1], &[0]), Some(2));
            assert_eq!(pick(&all, &[1, 2], &[0]), Some(0), "there is no other");
            assert_eq!(pick(&one, &[], &[0]), Some(0), "there is no other");
        }
    }
}

#[test]
fn who_takes_no_requests_gets_none_from_that_moment_on() {
    for balance in every() {
        let roster = roster(by(balance.clone()), alike(5));
        let old = roster.plan();
        for why in [Withheld::Ejected, Withheld::Open, Withheld::Unhealthy, Withheld::Draining] {
            roster.member(3).withhold(why, true);
            assert!(
                (0..200).all(|_| roster.pick(&old, &Ask::default()).map(place) != Some(3)),
                "by the old plan: {balance:?}"
            );
            let counts = roster.counts(400);
            assert!(
                (60..140).contains(&counts[4]) && counts[3] == 0,
                "nor has one neighbour all of it: {counts:?}"
            );
            roster.member(3).withhold(why, false);
            assert!(roster.counts(400)[3] > 40, "{balance:?}");
        }
    }
}

#[test]
fn if_most_take_none_all_get_some() {
    for balance in every() {
        let roster = roster(by(balance.clone()), alike(5));
        let withhold = |places: std::ops::Range<usize>, why| {
            places.for_each(|place| roster.member(place).withhold(why, true));
            roster.counts(500)
        };
        assert_eq!(withhold(0..2, Withheld::Unhealthy)[..2], [0, 0], "most take them");
        let counts = withhold(2..3, Withheld::Ejected);
        assert!(counts.iter().all(|count| *count > 50), "{balance:?}: {counts:?}");
        let counts = withhold(3..4, Withheld::Open);
        assert!(counts[3] == 0 && counts[4] > 50, "but not who has been failing just now: {counts:?}");
        let counts = withhold(0..1, Withheld::Draining);
        assert!(counts[0] == 0 && counts[1] > 50, "nor who is going: {counts:?}");
    }
}

#[test]
fn without_panic_there_is_nobody() {
    let roster = roster(Rules { panic_threshold: Ratio::NEVER, ..Rules::default() }, alike(2));
    roster.member(0).withhold(Withheld::Ejected, true);
    assert_eq!(roster.counts(10), [0, 10]);
    let before = roster.plan();
    for why in [Withheld::Ejected, Withheld::Unhealthy, Withheld::Open] {
        roster.member(1).withhold(why, true);
        assert_eq!(roster.pick(&before, &Ask::default()).map(place), None, "nor by the plan before: {why:?}");
        assert_eq!(roster.any(), None);
        roster.member(1).withhold(why, false);
        assert_eq!(roster.any(), Some(1));
    }
}

#[test]
fn others_stand_in_for_those_of_a_priority_that_are_missing() {
    let spare = || endpoint().priority(1);
    for balance in KEYLESS {
        let endpoints = alike(4).into_iter().chain([spare(), spare()]);
        let roster = roster(by(balance.clone()), endpoints);
        assert_eq!(roster.counts(300)[4..], [0, 0]);
        roster.member(0).withhold(Withheld::Unhealthy, true);
        assert_eq!(roster.counts(300)[4..], [0, 0], "three of four bear it");
        roster.member(1).withhold(Withheld::Unhealthy, true);
        let counts = roster.counts(2_000);
        assert!((counts[4] + counts[5]).abs_diff(600) < 100, "{balance:?}: {counts:?}");
        let tried = roster.tried(&[2, 3]);
        assert!(
            (0..50).all(|_| roster.ask(Ask { tried, ..Ask::default() }) >= Some(4)),
            "and for those tried"
        );
    }
    for balance in keyed() {
        let roster = roster(by(balance), alike(2).into_iter().chain([spare()]));
        roster.member(0).withhold(Withheld::Unhealthy, true);
        for hash in 0..100_u64 {
            assert_eq!(roster.of(hash), Some(if hash < 70 { 1 } else { 2 }), "as in Envoy");
        }
    }
}

#[test]
fn the_own_zone_is_preferred_as_far_as_it_bears_it() {
    let zones = |zones: &[&'static str]| zones.iter().map(|zone| endpoint().zone(*zone)).collect::<Vec<_>>();
    for balance in KEYLESS {
        let here = || Rules { zone: Some("a".into()), ..by(balance.clone()) };
        let even = roster(here(), zones(&["a", "b", "a", "b"]));
        assert_eq!(even.counts(100)[1..].iter().step_by(2).sum::<usize>(), 0);
        even.member(0).withhold(Withheld::Ejected, true);
        let counts = even.counts(3_000);
        assert!(counts[2].abs_diff(2_000) < 150, "two thirds of its part are there: {counts:?}");
        let small = roster(here(), zones(&["a", "b", "b", "b"]));
        let counts = small.counts(4_000);
        assert!(counts[0].abs_diff(2_000) < 150, "half of its part: {counts:?}");
        let tried = small.tried(&[0]);
        assert!((0..50).all(|_| small.ask(Ask { tried, ..Ask::default() }) > Some(0)));
        assert!(roster(here(), zones(&["b", "c"])).counts(100).iter().all(|count| *count > 20));
    }
    for balance in keyed() {
        let all = zones(&["a", "b", "c"]);
        let here = roster(Rules { zone: Some("a".into()), ..by(balance.clone()) }, all.clone());
        let there = roster(Rules { zone: Some("b".into()), ..by(balance) }, all);
        assert!((0..100).all(|n| here.of(n << 57) == there.of(n << 57)), "a key has one endpoint everywhere");
    }
}
