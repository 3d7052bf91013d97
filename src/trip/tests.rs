use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::{doubts::MOST_DOUBTS, *};
use crate::{
    backoff::{Backoff, Jitter},
    ratio::Ratio,
};
use proptest::prelude::*;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

fn fixed(policy: Policy) -> Trip {
    Trip::new(
        policy.wait(Backoff::new(Duration::from_secs(1)).max(Duration::from_secs(3)).jitter(Jitter::None)),
    )
}

fn fail(trip: &Trip, now: Instant) {
    trip.enter(now).unwrap().failure(now);
}

#[test]
fn failures_in_a_row_open_it_and_others_do_not() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(3))), Instant::now());
    for _ in 0..5 {
        fail(&trip, now);
        fail(&trip, now);
        trip.enter(now).unwrap().success(now);
    }
    assert_eq!(trip.state(now), State::Closed);
    for _ in 0..3 {
        fail(&trip, now);
    }
    assert_eq!(trip.state(now), State::Open);
    assert_eq!(trip.enter(now + 400 * MS).unwrap_err().retry_after(), 600 * MS);
}

#[test]
fn a_share_opens_it_from_enough_results_on() {
    let trip = fixed(Policy::new().consecutive(None).ratio(Ratio::percent(50), n(4)));
    let now = Instant::now();
    for _ in 0..3 {
        fail(&trip, now);
    }
    assert_eq!(trip.state(now), State::Closed, "three results are too few");
    let later = now + Duration::from_secs(20);
    for _ in 0..3 {
        trip.enter(later).unwrap().success(later);
    }
    fail(&trip, later);
    assert_eq!(trip.state(later), State::Closed, "a quarter: the old failures have left");
    fail(&trip, later);
    fail(&trip, later);
    assert_eq!(trip.state(later), State::Open);
}

#[test]
fn it_waits_longer_each_time_until_it_has_closed() {
    let (trip, mut now) = (fixed(Policy::new().consecutive(n(1))), Instant::now());
    for wait in [1, 3, 3] {
        fail(&trip, now);
        let open = trip.enter(now).unwrap_err();
        assert_eq!(open.retry_after(), Duration::from_secs(wait));
        now += open.retry_after();
        assert_eq!(trip.state(now), State::HalfOpen);
    }
    trip.enter(now).unwrap().success(now);
    assert_eq!(trip.state(now), State::Closed);
    fail(&trip, now);
    assert_eq!(trip.enter(now).unwrap_err().retry_after(), Duration::from_secs(1));
}

#[test]
fn probes_are_bounded_and_come_back_when_dropped() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(2), n(3))), Instant::now());
    fail(&trip, now);
    let now = now + Duration::from_secs(1);
    let (first, second) = (trip.enter(now).unwrap(), trip.enter(now).unwrap());
    assert!(trip.enter(now).is_err());
    drop(first);
    trip.enter(now).unwrap().success(now);
    second.success(now);
    assert_eq!(trip.state(now), State::HalfOpen, "two of three");
    trip.enter(now).unwrap().success(now);
    assert_eq!(trip.state(now), State::Closed);
}

fn doubt(trip: &Trip, caller: u64, now: Instant) {
    trip.enter_for(caller, now).unwrap().doubt(now);
}

#[test]
fn one_caller_alone_does_not_open_it() {
    let (trip, now) = (fixed(Policy::new()), Instant::now());
    for _ in 0..1_000 {
        doubt(&trip, 7, now);
    }
    trip.enter_for(1, now).unwrap().success(now);
    (0..1_000).for_each(|_| doubt(&trip, 7, now));
    assert_eq!(trip.state(now), State::Closed, "neither in a row nor by their share");
    // It is heard again when the window has passed, between others who are served.
    for turn in 1..20 {
        let later = now + turn * Duration::from_secs(10);
        doubt(&trip, 7, later);
        trip.enter_for(1, later).unwrap().success(later);
    }
    let later = now + Duration::from_secs(300);
    (1..=4).for_each(|caller| doubt(&trip, caller, later));
    assert_eq!(trip.state(later), State::Closed);
    doubt(&trip, 5, later);
    assert_eq!(trip.state(later), State::Open, "it fails for five");
}

#[test]
fn one_caller_alone_does_not_keep_it_open() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(1))), Instant::now());
    fail(&trip, now);
    let now = now + Duration::from_secs(1);
    doubt(&trip, 7, now);
    assert_eq!(trip.state(now), State::HalfOpen, "perhaps it is this one's fault");
    assert_eq!(trip.enter_for(7, now).unwrap_err().retry_after(), Duration::from_secs(1));
    trip.enter_for(1, now).unwrap().success(now);
    assert_eq!(trip.state(now), State::Closed);
    // Two of them are believed, and one after the window.
    fail(&trip, now);
    let now = now + Duration::from_secs(1);
    doubt(&trip, 7, now);
    doubt(&trip, 8, now);
    let until = now + trip.enter(now).unwrap_err().retry_after();
    doubt(&trip, 7, until);
    assert_eq!(trip.state(until), State::HalfOpen);
    trip.enter_for(7, until + Duration::from_secs(10)).unwrap().failure(until);
    assert_eq!(trip.state(until), State::Open);
}

#[test]
fn who_doubts_is_counted_in_bounded_room() {
    let (trip, now) = (fixed(Policy::new().consecutive(None).ratio(Ratio::NEVER, n(1))), Instant::now());
    (0..10_000).for_each(|caller| doubt(&trip, caller, now));
    assert_eq!(trip.0.doubts().0.len(), MOST_DOUBTS);
    trip.enter(now).unwrap().doubt(now);
    assert_eq!(trip.0.results.totals(now), [0, 10_001], "who goes for nobody just fails");
}

#[test]
fn what_began_before_a_change_has_no_say() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(2), n(1))), Instant::now());
    let old = trip.enter(now).unwrap();
    fail(&trip, now);
    let half = now + Duration::from_secs(1);
    let (slow, failing) = (trip.enter(half).unwrap(), trip.enter(half).unwrap());
    failing.failure(half);
    slow.success(half);
    assert_eq!(trip.state(half), State::Open, "a probe of the last round does not close it");
    let again = half + Duration::from_secs(3);
    trip.enter(again).unwrap().success(again);
    old.failure(again);
    assert_eq!(trip.state(again), State::Closed, "nor does an old failure open it");
}

#[test]
fn threads_never_get_more_probes_than_there_are() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(1)).probes(n(3), n(1000))), Instant::now());
    fail(&trip, now);
    let now = now + Duration::from_secs(1);
    let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..2_000 {
                    let Ok(entry) = trip.enter(now) else { continue };
                    most.fetch_max(under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    if turn % 2 == 0 { drop(entry) } else { drop(trip.enter(now)) }
                }
            });
        }
    });
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    assert_eq!(trip.0.lock().probes, 0);
}

proptest! {
    /// Whatever happens in whatever order, probes are given back and it can always be closed again.
    #[test]
    fn it_never_sticks(steps in prop::collection::vec((0u8..4, 0u64..2_000), 0..200)) {
        let trip = fixed(Policy::new().consecutive(n(2)).probes(n(2), n(2)));
        let (mut now, mut entries) = (Instant::now(), Vec::new());
        for (step, wait) in steps {
            now += Duration::from_millis(wait);
            match (step, entries.pop()) {
                (0, entry) => {
                    entries.extend(entry);
                    entries.extend(trip.enter(now));
                }
                (1, Some(entry)) => Entry::success(entry, now),
                (2, Some(entry)) => Entry::failure(entry, now),
                _ => {}
            }
            prop_assert!(trip.0.lock().probes <= 2);
        }
        entries.clear();
        now += Duration::from_secs(3);
        for _ in 0..2 {
            trip.enter(now).unwrap().success(now);
        }
        prop_assert_eq!(trip.state(now), State::Closed);
    }
}
