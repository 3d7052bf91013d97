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

mod sessions;
mod subsets;

fn address(port: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1 + port as u16))
}

fn seats(endpoints: impl IntoIterator<Item = Endpoint>, common: &Arc<Common>) -> Box<[Seat]> {
    let options = Arc::new(Options::default());
    let seat = |(port, endpoint)| Seat {
        member: Arc::new(Member::new(address(port), Arc::clone(&options), Arc::clone(common))),
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
        Load::begin(self.member(place), self.interest(), None)
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
    roster.member(1).withhold(Withheld::Ejected, true);
    assert_eq!(roster.any(), None);
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

#[tokio::test(start_paused = true)]
async fn who_is_new_is_given_more_and_more() {
    let slow = SlowStart::new(Duration::from_secs(100));
    for balance in KEYLESS {
        let roster = roster(Rules { slow_start: Some(slow), ..by(balance.clone()) }, alike(5));
        assert!(roster.counts(500).iter().all(|count| *count > 50), "all are new");
        roster.member(4).withhold(Withheld::Unhealthy, true);
        roster.set(roster.plan().seats.clone());
        roster.member(4).withhold(Withheld::Unhealthy, false);
        roster.set(roster.plan().seats.clone());
        let last = |counts: Vec<usize>| counts[4];
        let parts = [(0, 20..90), (50, 250..400), (50, 420..580)];
        for (passed, part) in parts {
            tokio::time::advance(Duration::from_secs(passed)).await;
            let count = last(roster.counts(2_500));
            assert!(part.contains(&count), "{balance:?}: {count}");
        }
        assert_eq!(roster.member(4).state(), 0, "the clock is not asked any more");
    }
}

/// What becomes of requests at endpoints that answer after so long, or fail.
async fn simulate(
    roster: &Arc<Roster>,
    seconds: u64,
    answer: impl Fn(usize) -> (Duration, bool),
) -> Vec<usize> {
    let mut counts = vec![0; roster.plan().seats.len()];
    let mut open: Vec<(tokio::time::Instant, Load, bool)> = Vec::new();
    for _ in 0..seconds * 100 {
        let place = roster.any().unwrap();
        counts[place] += 1;
        let (after, fails) = answer(place);
        open.push((tokio::time::Instant::now() + after, roster.begin(place), fails));
        tokio::time::advance(Duration::from_millis(10)).await;
        for (_, mut load, fails) in open.extract_if(.., |(end, ..)| *end <= tokio::time::Instant::now()) {
            if fails {
                load.fail(&Rejection::new(Reason::UpstreamReset));
            } else {
                let (mut head, ()) = http::Response::new(()).into_parts();
                load.head(&mut head, true);
                load.complete();
            }
        }
    }
    counts
}

/// axum-reverse-proxy: by the time to a head of whatever status, an endpoint that fails at once attracts all there is.
#[tokio::test(start_paused = true)]
async fn who_fails_fast_attracts_nothing() {
    let roster = roster(by(Balance::PeakEwma), alike(5));
    let counts =
        simulate(&roster, 60, |place| (Duration::from_millis(if place == 0 { 1 } else { 50 }), place == 0))
            .await;
    assert!(counts[0] <= 10, "of 6000 requests: {counts:?}");
    assert!(counts[1..].iter().all(|count| *count > 600), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_gets_less_and_is_tried_again() {
    let roster = roster(by(Balance::PeakEwma), alike(4));
    let millis = |slow: u64| move |place| (Duration::from_millis(if place == 0 { slow } else { 20 }), false);
    let counts = simulate(&roster, 60, millis(2_000)).await;
    assert!((1..=120).contains(&counts[0]), "of 6000 requests: {counts:?}");
    let counts = simulate(&roster, 120, millis(20)).await;
    assert!(counts[0] > 1_000, "it has recovered: {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_new_starts_as_the_others_are() {
    let roster = roster(by(Balance::PeakEwma), alike(3));
    simulate(&roster, 60, |_| (Duration::from_millis(200), false)).await;
    let common = Arc::clone(roster.common());
    let new = seats(alike(4), &common)[3].clone();
    roster.set(roster.plan().seats.iter().cloned().chain([new]).collect());
    let [old, new] = [0, 3]
        .map(|place| roster.member(place))
        .map(|member| member.ewma().at(member.age(tokio::time::Instant::now())));
    assert!((new / old - 1.0).abs() < 0.3, "{new} and {old}");
    let counts = simulate(&roster, 10, |_| (Duration::from_millis(200), false)).await;
    assert!((150..400).contains(&counts[3]), "{counts:?}");
}

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
