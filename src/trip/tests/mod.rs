use std::{
    num::{NonZeroU16, NonZeroU32},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::{
    change::Counts,
    doubts::MOST_DOUBTS,
    machine::{PATIENCE, Parts},
    *,
};
use crate::{
    backoff::{Backoff, Jitter},
    chance::Chance,
    ratio::Ratio,
};
use proptest::prelude::*;
use tokio::time::Instant;

#[cfg(feature = "resilience")]
mod model;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

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

/// Whoever holds its locks keeps nobody waiting as long as it is closed, and stays so.
#[test]
fn closed_it_takes_no_lock() {
    let shares = Policy::new().ratio(Ratio::percent(90), n(20)).slow(SECOND, Ratio::percent(90));
    for policy in [Policy::new().consecutive(n(3)), shares, shares.last(NonZeroU16::new(100).unwrap())] {
        let trip = fixed(policy);
        let (control, doubts) = (trip.machine().lock(), trip.machine().doubts());
        let (done, waits) = std::sync::mpsc::channel();
        let other = trip.clone();
        std::thread::spawn(move || {
            let now = Instant::now();
            for _ in 0..100 {
                other.enter(now).unwrap().success(now);
                fail(&other, now);
                drop(other.enter(now).unwrap());
                other.enter(now).unwrap().success(now);
            }
            let _ = done.send(other.state(now));
        });
        let state = waits.recv_timeout(Duration::from_secs(30));
        drop((control, doubts));
        assert_eq!(state, Ok(State::Closed), "a lock is waited for");
    }
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
    assert_eq!(trip.machine().doubts().0.len(), MOST_DOUBTS);
    trip.enter(now).unwrap().doubt(now);
    assert_eq!(trip.machine().totals(now), [0, 10_001, 0], "who goes for nobody just fails");
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
    assert_eq!(trip.machine().lock().probes, 0);
}

#[test]
fn a_slow_share_opens_it_and_a_slow_probe_keeps_it_open() {
    let policy = Policy::new().consecutive(None).ratio(Ratio::NEVER, n(4)).slow(SECOND, Ratio::percent(50));
    let (trip, mut now) = (fixed(policy), Instant::now());
    let mut call = |takes: Duration| {
        let entry = trip.enter(now).unwrap();
        now += takes;
        entry.success(now);
        now
    };
    for takes in [MS, MS, SECOND] {
        call(takes);
    }
    let now = call(SECOND);
    assert_eq!(trip.state(now), State::Open, "two of four");
    let (begun, ended) = (now + SECOND, now + 3 * SECOND);
    trip.enter(begun).unwrap().success(ended);
    assert_eq!(trip.state(ended), State::Open, "still slow");
    let later = ended + 3 * SECOND;
    trip.enter(later).unwrap().success(later + 999 * MS);
    assert_eq!(trip.state(later + SECOND), State::Closed);
}

/// The window of tower-resilience does not slide: after a million successes an outage needs a million failures.
#[test]
fn a_million_successes_do_not_hide_an_outage() {
    let now = Instant::now();
    let by_count =
        Policy::new().consecutive(None).ratio(Ratio::percent(50), n(20)).last(NonZeroU16::new(100).unwrap());
    for (policy, pause) in [(by_count, Duration::ZERO), (by_count.window(10 * SECOND), 11 * SECOND)] {
        let trip = fixed(policy);
        (0..1_000_000).for_each(|_| trip.enter(now).unwrap().success(now));
        let failures = (0..).take_while(|_| {
            trip.enter(now + pause).is_ok_and(|entry| {
                entry.failure(now + pause);
                true
            })
        });
        assert_eq!(failures.count(), if pause.is_zero() { 50 } else { 20 });
    }
}

/// There it is a no-op while closed.
#[test]
fn a_reset_forgets_what_was_counted_while_closed() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(3))), Instant::now());
    fail(&trip, now);
    fail(&trip, now);
    let begun = trip.enter(now).unwrap();
    trip.reset();
    begun.failure(now);
    fail(&trip, now);
    fail(&trip, now);
    assert_eq!((trip.state(now), trip.machine().totals(now)), (State::Closed, [0, 2, 0]));
}

#[test]
fn by_hand_it_is_open_closed_or_looked_at() {
    let counts = Arc::new(Counts::default());
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let watcher: Watcher = Arc::new(move |change: &Change| {
        hear.lock().unwrap().push(format!("{} {}", change.state.label(), change.cause.label()));
    });
    let policy = Policy::new().consecutive(n(1)).wait(Backoff::new(SECOND).jitter(Jitter::None));
    let trip =
        Trip::of(policy, Parts { watcher: Some(watcher), counts: Arc::clone(&counts), ..Parts::default() });
    let mut now = Instant::now();

    trip.set_mode(Mode::ForcedOpen);
    now += Duration::from_secs(1_000_000);
    assert_eq!((trip.state(now), trip.enter(now).unwrap_err().retry_after()), (State::Open, SECOND));
    trip.reset();
    assert_eq!(trip.state(now), State::Open, "it was forced");

    trip.set_mode(Mode::ForcedClosed);
    fail(&trip, now);
    assert_eq!(trip.state(now), State::Closed);

    trip.set_mode(Mode::Observed);
    fail(&trip, now);
    let spared = trip.enter(now).unwrap();
    assert!(spared.is_spared() && trip.state(now) == State::Open);
    spared.failure(now);
    now += SECOND;
    let probe = trip.enter(now).unwrap();
    assert!(trip.enter(now).unwrap().is_spared(), "a probe is under way");
    probe.success(now);

    trip.set_mode(Mode::Enforced);
    assert_eq!((trip.mode(), trip.state(now)), (Mode::Enforced, State::Closed));
    fail(&trip, now);
    assert!(trip.enter(now).is_err());
    now += SECOND;
    fail(&trip, now);

    assert_eq!(
        *told.lock().unwrap(),
        [
            "open told",
            "open told",
            "closed told",
            "closed told",
            "open consecutive",
            "half_open waited",
            "closed recovered",
            "closed told",
            "open consecutive",
            "half_open waited",
            "open probe",
        ]
    );
    #[cfg(feature = "resilience")]
    assert_eq!((counts.opened(), counts.refused(), counts.spared()), (3, 2, 2));
}

#[test]
fn a_probe_that_never_ends_keeps_nobody_out() {
    let (trip, now) = (fixed(Policy::new().consecutive(n(1))), Instant::now());
    fail(&trip, now);
    let now = now + SECOND;
    let endless = trip.enter(now).unwrap();
    assert!(trip.enter(now + PATIENCE - MS).is_err());
    let next = trip.enter(now + PATIENCE).unwrap();
    assert!(trip.enter(now + PATIENCE).is_err(), "one each ten seconds");
    next.success(now + PATIENCE);
    assert_eq!(trip.state(now + PATIENCE), State::Closed);
    endless.failure(now + PATIENCE);
    assert_eq!(trip.state(now + PATIENCE), State::Closed, "of another round");
}

/// Four threads that succeed, fail and forget, while a fifth forces and resets.
#[test]
fn threads_do_not_leave_it_stuck() {
    let policy = Policy::new().consecutive(n(3)).probes(n(2), n(2));
    let trip = fixed(policy.wait(Backoff::new(MS).jitter(Jitter::None)));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let trip = &trip;
            scope.spawn(move || {
                for turn in 0..20_000_u32 {
                    let now = began + turn * MS / 4;
                    match (trip.enter(now), (turn ^ thread) % 5) {
                        (Ok(entry), 0) => entry.success(now),
                        (Ok(entry), 1 | 2) => entry.failure(now),
                        (entry, _) => drop(entry),
                    }
                }
            });
        }
        scope.spawn(|| {
            for turn in 0..2_000 {
                match turn % 8 {
                    0 => trip.set_mode(Mode::ForcedOpen),
                    4 => trip.set_mode(Mode::Enforced),
                    _ => trip.reset(),
                }
                std::thread::yield_now();
            }
            trip.set_mode(Mode::Enforced);
        });
    });
    assert_eq!(trip.machine().lock().probes, 0);
    let now = began + 3_600 * SECOND;
    while trip.state(now) != State::Closed {
        trip.enter(now).unwrap().success(now);
    }
}
