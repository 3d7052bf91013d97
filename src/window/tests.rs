use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::Window;
use super::counted::Counted;
use super::timed::Timed;

const MS: Duration = Duration::from_millis(1);

fn some(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn add<const N: usize>(totals: &mut [u64; N], result: [bool; N]) {
    for (total, counts) in totals.iter_mut().zip(result) {
        *total += u64::from(counts);
    }
}

#[test]
fn a_million_successes_do_not_hide_an_outage() {
    for window in [Window::by_count(some(100)), Window::by_time(10_000 * MS, some(10))] {
        let mut now = Instant::now();
        for _ in 0..1_000_000 {
            window.record(now, [true, false]);
        }
        now += 10_000 * MS;
        for _ in 0..100 {
            window.record(now, [false, true]);
        }
        assert_eq!(window.totals(now), [0, 100], "{window:?}");
    }
}

#[test]
fn buckets_leave_one_by_one() {
    let window = Window::by_time(1_000 * MS, some(10));
    let start = Instant::now();
    for bucket in 0..10 {
        window.record(start + bucket * 100 * MS, [true]);
    }
    let totals: Vec<_> = (9..21).map(|bucket| window.totals(start + bucket * 100 * MS)[0]).collect();
    assert_eq!(totals, [10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]);
}

#[test]
fn an_idle_gap_leaves_nothing_behind() {
    let window = Window::by_time(1_000 * MS, some(10));
    let start = Instant::now();
    window.record(start, [true]);
    for gap in [1_000, 1_100, 2_000, 10_000, 86_400_000u32] {
        assert_eq!(window.totals(start + gap * MS), [0], "{gap}");
    }
    let later = start + 86_400_000 * MS;
    window.record(later, [true]);
    assert_eq!(window.totals(later), [1]);
}

#[test]
fn a_result_told_late_goes_where_it_belongs_or_nowhere() {
    let window = Window::by_time(1_000 * MS, some(10));
    let start = Instant::now() + MS;
    window.record(start + 1_500 * MS, [true]);
    window.record(start + 900 * MS, [true]);
    assert_eq!(window.totals(start + 1_500 * MS), [2]);
    assert_eq!(window.totals(start + 1_900 * MS), [1]);
    // A window ago: its bucket is that of 1,500 ms now.
    window.record(start + 500 * MS, [true]);
    assert_eq!(window.totals(start + 1_500 * MS), [2]);
    // Before the window was made.
    window.record(start - 100 * MS, [true]);
    assert_eq!(window.totals(start + 1_500 * MS), [2]);
}

#[test]
fn a_cleared_window_is_empty_and_goes_on() {
    for window in [Window::by_count(some(3)), Window::by_time(1_000 * MS, some(10))] {
        let now = Instant::now();
        window.record(now, [true, false]);
        window.record(now, [true, true]);
        window.clear();
        assert_eq!(window.totals(now), [0, 0], "{window:?}");
        window.record(now, [false, true]);
        assert_eq!(window.totals(now), [0, 1], "{window:?}");
    }
}

#[test]
fn odd_sizes_are_no_trouble() {
    let now = Instant::now();
    let none = Window::by_time(Duration::ZERO, some(u16::MAX));
    none.record(now, [true]);
    assert_eq!(none.totals(now + MS), [0]);
    let all = Window::by_time(Duration::MAX, some(1));
    all.record(now, [true]);
    assert_eq!(all.totals(now + 1_000_000 * MS), [1]);
    let one = Window::by_count(some(1));
    one.record(now, [true]);
    one.record(now, [false]);
    assert_eq!(one.totals(now), [0]);
    Window::by_count(some(1)).record(now, []);
}

#[test]
fn threads_that_cross_buckets_at_once_lose_nothing() {
    const THREADS: u64 = 4;
    const ROUNDS: u32 = 20_000;
    let origin = Instant::now();
    // 20,000 milliseconds of results, 2,000 laps, of which the last 10 ms are in the window at the end.
    let window = Timed::<2>::new(origin, 10 * MS, some(5));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let window = &window;
            scope.spawn(move || {
                for ms in 0..ROUNDS {
                    window.record(origin + ms * MS, [true, thread == 0]);
                }
            });
        }
    });
    assert_eq!(window.totals(origin + (ROUNDS - 1) * MS), [10 * THREADS, 10]);
}

#[test]
fn threads_that_count_at_once_lose_nothing() {
    let window = Counted::<2>::new(some(101));
    thread::scope(|scope| {
        for thread in 0..4 {
            let window = &window;
            scope.spawn(move || (0..50_000).for_each(|at| window.record([true, (at + thread) % 3 == 0])));
        }
    });
    let expected = window.results().fold([0, 0], |mut sums, bits| {
        add(&mut sums, [bits & 1 == 1, bits >> 1 & 1 == 1]);
        sums
    });
    assert_eq!(window.totals(), expected);
    assert_eq!(expected[0], 101);
    window.clear();
    assert_eq!(window.totals(), [0, 0]);
}

#[test]
fn readers_never_see_more_than_the_window_holds() {
    let window = Counted::<1>::new(some(8));
    thread::scope(|scope| {
        let writers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| (0..50_000).for_each(|at| window.record([at % 2 == 0])))).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert!(window.totals()[0] <= 8);
        }
    });
}

proptest! {
    #[test]
    fn by_time_it_is_what_a_list_of_all_results_says(
        span in 1..2_000u32,
        buckets in 1..20u16,
        steps in prop::collection::vec((prop_oneof![4 => 0..300u32, 1 => 0..10_000u32], any::<[bool; 3]>()), 0..200),
    ) {
        let origin = Instant::now();
        let window = Timed::new(origin, span * MS, some(buckets));
        let bucket = window.bucket();
        let mut all = Vec::new();
        let mut now = origin;
        for (step, result) in steps {
            now += step * MS;
            window.record(now, result);
            all.push((now, result));
            // A bucket is a whole one on the grid that begins where the window was made.
            let tick = |at: Instant| (at - origin).as_nanos() / bucket.as_nanos();
            let mut expected = [0; 3];
            let (mut at_least, mut at_most) = ([0; 3], [0; 3]);
            for (at, result) in &all {
                if tick(*at) + u128::from(buckets) > tick(now) {
                    add(&mut expected, *result);
                }
                if now - *at <= bucket * u32::from(buckets - 1) {
                    add(&mut at_least, *result);
                }
                if now - *at < bucket * u32::from(buckets) {
                    add(&mut at_most, *result);
                }
            }
            let totals = window.totals(now);
            prop_assert_eq!(totals, expected);
            for counter in 0..3 {
                prop_assert!((at_least[counter]..=at_most[counter]).contains(&totals[counter]));
            }
        }
    }

    #[test]
    fn by_count_it_is_what_a_queue_says(
        size in 1..50u16,
        results in prop::collection::vec(any::<[bool; 3]>(), 0..200),
    ) {
        let window = Window::by_count(some(size));
        let now = Instant::now();
        let mut queue = VecDeque::new();
        for result in results {
            window.record(now, result);
            queue.push_back(result);
            if queue.len() > usize::from(size) {
                queue.pop_front();
            }
            let mut expected = [0; 3];
            queue.iter().for_each(|result| add(&mut expected, *result));
            prop_assert_eq!(window.totals(now), expected);
        }
    }
}
