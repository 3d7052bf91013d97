mod models;

use std::{num::NonZeroU32, time::Duration};

use proptest::prelude::*;

use crate::admission::rate_limit::{
    Algorithm, Quota, Rate,
    judge::{Judge, Shift, Verdict},
    rate::nanos,
};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// A time by either clock: 1978-11-15T17:46:40Z, in nanoseconds since 1970.
const TODAY: u64 = 280_000_000 * SECOND;
/// Where lives end: four times the longest debt later is still a time that 64 bits hold.
const END: u64 = 150 * 365 * DAY;

fn judge(algorithm: Algorithm, count: u32, period: Duration, burst: Option<u32>, debt: u32) -> Option<Judge> {
    let quota = Quota::new(Rate::new(count, period).ok()?);
    let quota = burst.map_or(quota, |burst| quota.with_burst(NonZeroU32::new(burst).unwrap()));
    Judge::new(algorithm, quota, debt, 0).ok()
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::TokenBucket),
        Just(Algorithm::SlidingWindow),
        Just(Algorithm::CALENDAR),
        (0_u64..100_000).prop_map(|wait| Algorithm::LeakyBucket { max_wait: Duration::from_millis(wait) }),
    ]
}

/// Rates from one a month to ten million a second, as far as they are accepted, with the time one unit takes.
fn rates() -> impl Strategy<Value = (u32, Duration)> {
    let period = prop_oneof![
        Just(Duration::from_secs(1)),
        Just(Duration::from_secs(60)),
        Just(Duration::from_secs(7 * 86_400)),
        Just(Duration::from_secs(30 * 86_400)),
        Just(Duration::from_secs(365 * 86_400)),
        (1_u64..10_000_000_000).prop_map(Duration::from_nanos),
    ];
    (prop_oneof![1_u32..20, 1_u32..10_000_001], period)
}

fn judges() -> impl Strategy<Value = (Judge, u64)> {
    (algorithms(), rates(), prop_oneof![1_u32..20, 1_u32..1_000_000], prop_oneof![Just(0), 0_u32..1000])
        .prop_filter_map("refused", |(algorithm, (count, period), burst, debt)| {
            let burst = (algorithm == Algorithm::TokenBucket).then_some(burst);
            let unit = (nanos(period) / u64::from(count)).max(1);
            Some((judge(algorithm, count, period, burst, debt)?, unit))
        })
}

/// A step of an account's life: a time goes by, in units or in a whole day, and then something is charged or given back.
fn steps(most: usize) -> impl Strategy<Value = Vec<(f64, bool, u32, u8)>> {
    prop::collection::vec((0.0..1.5_f64, prop::bool::weighted(0.1), 0_u32..5, 0_u8..8), 1..most)
}

/// Where such a life leads: a state, and the time.
fn live(judge: &Judge, unit: u64, steps: &[(f64, bool, u32, u8)]) -> (u64, u64) {
    let capacity = judge.remaining(0, 0);
    let (mut state, mut now) = (0, TODAY);
    for &(wait, long, cost, what) in steps {
        let then = now;
        let wait = if long {
            (unit.saturating_mul(u64::from(capacity)) as f64 * wait) as u64
        } else {
            (unit as f64 * wait) as u64
        };
        now = now.saturating_add(wait).min(END);
        let cost = if what % 2 == 0 { cost } else { cost * (capacity / 3) };
        state = match what {
            0..6 => match judge.judge(state, now, cost) {
                Verdict::Spend(state) => state,
                Verdict::Wait(_) | Verdict::Never => state,
            },
            6 => judge.shift(state, then, now, Shift { units: cost.into(), beyond: 900 }),
            _ => judge.shift(state, then, now, Shift { units: -i64::from(cost), beyond: 900 }),
        };
    }
    (state, now)
}

fn is_spent(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Spend(_))
}

proptest! {
    #[test]
    fn what_waits_as_told_is_admitted_and_not_before((judge, unit) in judges(), steps in steps(40), cost in 1_u32..1000) {
        let (state, now) = live(&judge, unit, &steps);
        let can = judge.remaining(0, 0);
        let cost = (cost - 1) % can + 1;
        if let Verdict::Wait(time) = judge.judge(state, now, cost) {
            prop_assert!(time > 0);
            prop_assert!(is_spent(judge.judge(state, now + time, cost)), "{judge:?}");
            prop_assert!(matches!(judge.judge(state, now + time - 1, cost), Verdict::Wait(1)), "{judge:?}");
        }
        prop_assert_eq!(judge.judge(state, now, can + 1), Verdict::Never);
    }

    #[test]
    fn what_remains_can_be_spent_and_no_more((judge, unit) in judges(), steps in steps(40)) {
        let (state, now) = live(&judge, unit, &steps);
        let remaining = judge.remaining(state, now);
        prop_assert!(is_spent(judge.judge(state, now, remaining)));
        prop_assert!(!is_spent(judge.judge(state, now, remaining + 1)));
        let next = judge.next_unit(state, now);
        if remaining < judge.remaining(0, 0) {
            prop_assert!(next > 0);
            prop_assert!(judge.remaining(state, now + next) > remaining, "{judge:?}");
            prop_assert_eq!(judge.remaining(state, now + next - 1), remaining);
        } else {
            prop_assert_eq!(next, 0);
        }
    }

    #[test]
    fn what_owes_nothing_is_as_new((judge, unit) in judges(), steps in steps(40)) {
        let (state, now) = live(&judge, unit, &steps);
        let whole = judge.whole_in(state, now);
        prop_assert_eq!(whole == 0, judge.owed(state, now) == 0);
        let can = judge.remaining(0, 0);
        prop_assert_eq!(judge.owed(state, now + whole), 0);
        prop_assert_eq!(judge.judge(state, now + whole, can), judge.judge(0, now + whole, can));
        if whole > 0 {
            prop_assert!(judge.owed(state, now + whole - 1) > 0);
        }
    }

    #[test]
    fn a_join_owes_what_either_does(
        (judge, unit) in judges(),
        (one, other) in (steps(30), steps(30)),
        (later, cost) in (0.0..3.0_f64, 1_u32..1000),
    ) {
        let ((one, then), (other, now)) = (live(&judge, unit, &one), live(&judge, unit, &other));
        let now = then.max(now);
        let join = judge.join(one, other, now);
        let now = now + (unit as f64 * later * f64::from(judge.remaining(0, 0))) as u64;
        prop_assert!(judge.owed(join, now) >= judge.owed(one, now).max(judge.owed(other, now)));
        if is_spent(judge.judge(join, now, cost)) {
            prop_assert!(is_spent(judge.judge(one, now, cost)) && is_spent(judge.judge(other, now, cost)));
        }
        prop_assert_eq!(judge.join(join, one, now), judge.join(join, 0, now));
    }

    #[test]
    fn what_is_given_back_at_once_leaves_no_trace((judge, unit) in judges(), steps in steps(40), cost in 1_u32..20) {
        let (state, now) = live(&judge, unit, &steps);
        if let Verdict::Spend(spent) = judge.judge(state, now, cost) {
            let back = judge.shift(spent, now, now, Shift { units: -i64::from(cost), beyond: 0 });
            prop_assert_eq!(judge.remaining(back, now), judge.remaining(state, now));
            prop_assert_eq!(judge.owed(back, now), judge.owed(state, now));
            let charged = judge.shift(back, now, now, Shift { units: cost.into(), beyond: 0 });
            prop_assert_eq!(judge.owed(charged, now), judge.owed(spent, now));
        }
    }

    /// So what is checked of limits below holds for plans.
    #[test]
    fn a_plan_is_judged_as_a_limit_of_its_own(
        (algorithm, (count, period), granted) in (algorithms(), rates(), prop_oneof![1_u32..20, 1_u32..1_000_000]),
        steps in steps(60),
    ) {
        let rate = |count| Some(Quota::new(Rate::new(count, period).ok()?));
        let (Some(own), Some(plan)) = (rate(count), rate(granted)) else { return Ok(()) };
        let Ok(limit) = Judge::new(algorithm, own, 0, granted) else { return Ok(()) };
        let (Some(plan), Ok(alone)) = (limit.with(plan, 0), Judge::new(algorithm, plan, 0, count)) else { return Ok(()) };
        let unit = nanos(period) / u64::from(granted);
        let (mut state, mut lone, mut now) = (0, 0, TODAY);
        for (wait, long, cost, what) in steps {
            let cost = if what % 2 == 0 { cost } else { cost * (granted / 3) };
            now += (unit as f64 * wait) as u64 * if long { u64::from(granted) } else { 1 };
            match (plan.judge(state, now, cost), alone.judge(lone, now, cost)) {
                (Verdict::Spend(one), Verdict::Spend(other)) => (state, lone) = (one, other),
                (one, other) => prop_assert_eq!(one, other, "{:?} {:?}", plan, alone),
            }
            prop_assert_eq!(plan.remaining(state, now), alone.remaining(lone, now));
            prop_assert_eq!(plan.whole_in(state, now), alone.whole_in(lone, now));
        }
    }

    /// Whoever reads the clock first may be judged last. What is admitted all in all is what the definition has for the time
    /// that has gone by, and not a unit more.
    #[test]
    fn a_clock_that_jitters_admits_no_more(
        (algorithm, (count, period)) in (algorithms(), rates()),
        steps in prop::collection::vec((-1.0..1.2_f64, 1_u32..4), 1..200),
    ) {
        let Some(judge) = judge(algorithm, count, period, None, 0) else { return Ok(()) };
        let (period, unit) = (nanos(period), nanos(period) / u64::from(count));
        let begin = TODAY - TODAY % period;
        let (mut state, mut latest, mut spent) = (0, begin, 0_u64);
        for (step, cost) in steps {
            let now = latest.saturating_add_signed((unit as f64 * step) as i64).max(begin);
            latest = latest.max(now);
            if let Verdict::Spend(after) = judge.judge(state, now, cost) {
                state = after;
                spent += u64::from(cost);
            }
        }
        let elapsed = latest - begin;
        let most = match algorithm {
            Algorithm::TokenBucket => u64::from(count) + elapsed / unit,
            Algorithm::LeakyBucket { max_wait } => 1 + (nanos(max_wait) + elapsed) / unit,
            // Windows of the calendar are not of one length, nor do they all begin there.
            _ => u64::from(count) * (elapsed / period + 3),
        };
        prop_assert!(spent <= most, "{judge:?} {spent} {most}");
    }

    #[test]
    fn debt_is_bounded(
        (algorithm, (count, period)) in (algorithms(), rates()), debt in 0_u32..1000, asked in 0_u32..5000,
    ) {
        let Some(judge) = judge(algorithm, count, period, None, debt) else { return Ok(()) };
        let mut state = 0;
        for _ in 0..3 {
            let charge = Shift { units: i64::from(asked) + i64::from(judge.remaining(0, 0)), beyond: debt };
            state = judge.shift(state, TODAY, TODAY, charge);
        }
        let capacity = u64::from(judge.remaining(0, 0));
        let paid_off = judge.whole_in(state, TODAY);
        // What is owed comes back at the rate, in whole windows, of which some are longer than others.
        let unit = u128::from(nanos(period) / u64::from(count));
        let most = u128::from(capacity + u64::from(debt) + 1) * unit + 3 * period.as_nanos();
        prop_assert!(u128::from(paid_off) <= most + most / 20, "{judge:?} {paid_off} {most}");
        prop_assert!(!is_spent(judge.judge(state, TODAY, 1)) || asked == 0);
    }
}

#[test]
fn the_ends_of_the_range() {
    let month = Duration::from_secs(30 * 86_400);
    let bucket = |count, period, burst| judge(Algorithm::TokenBucket, count, period, Some(burst), 0);
    let slow = bucket(1, month, 1).unwrap();
    assert_eq!(slow.judge(0, 0, 1), Verdict::Spend(nanos(month)));
    assert_eq!(slow.judge(nanos(month), 0, 1), Verdict::Wait(nanos(month)));
    assert_eq!(slow.judge(1, 0, 1), Verdict::Wait(1));
    assert_eq!(slow.judge(0, 0, u32::MAX), Verdict::Never);
    let fast = bucket(10_000_000, Duration::from_secs(1), 10_000_000).unwrap();
    assert_eq!(fast.judge(0, 0, 10_000_000), Verdict::Spend(SECOND));
    assert_eq!(fast.judge(SECOND, 0, 1), Verdict::Wait(100));
    assert_eq!(fast.judge(100, 0, 10_000_001), Verdict::Never);
    assert!(bucket(1, month, 1216).is_some());
    assert!(bucket(1, month, 1217).is_none(), "more than a hundred years");
    assert!(bucket(1, month, u32::MAX).is_none());

    for algorithm in [Algorithm::SlidingWindow, Algorithm::CALENDAR] {
        for (count, period) in [(1, month), (10_000_000, Duration::from_secs(1)), (u32::MAX, month)] {
            let judge = judge(algorithm, count, period, None, 0).unwrap();
            let Verdict::Spend(spent) = judge.judge(0, TODAY, count) else { panic!("{judge:?}") };
            assert_eq!(judge.remaining(spent, TODAY), 0);
            assert!(matches!(judge.judge(spent, TODAY, 1), Verdict::Wait(time) if time <= 2 * 366 * DAY));
            assert!(is_spent(judge.judge(spent, TODAY + 62 * DAY, count)));
        }
    }
    let short = Duration::from_nanos(100);
    assert!(judge(Algorithm::SlidingWindow, 1, short, None, 0).is_some());
    assert!(judge(Algorithm::SlidingWindow, 1, short, None, u32::MAX).is_none(), "no room for such a debt");
    assert!(judge(Algorithm::CALENDAR, 1, short, None, 0).is_none(), "no clock shows that");
    let long = Algorithm::LeakyBucket { max_wait: Duration::MAX };
    assert!(judge(long, 1, month, None, 0).is_none());
    assert!(judge(Algorithm::CALENDAR, 1, month, Some(2), 0).is_none(), "a window has no burst");
}

/// Of a rate whose units take no whole number of nanoseconds: each is asked for in each nanosecond.
#[test]
fn nobody_has_more_than_an_odd_rate() {
    for (count, least) in [(7_000_000, 6990), (9_100_000, 9009), (9_999_999, 9900), (300_000, 299)] {
        let judge = judge(Algorithm::TokenBucket, count, Duration::from_secs(1), Some(1), 0).unwrap();
        let (mut state, mut spent) = (0, 0);
        for now in 0..1_000_000 {
            if let Verdict::Spend(after) = judge.judge(state, TODAY + now, 1) {
                (state, spent) = (after, spent + 1);
            }
        }
        assert!((least..=1 + count / 1000).contains(&spent), "{spent} of {count}/s in a millisecond");
    }
}

#[test]
fn a_cost_of_nothing_is_always_paid() {
    let judge = judge(Algorithm::TokenBucket, 1, Duration::from_secs(1), None, 0).unwrap();
    assert_eq!(judge.judge(u64::MAX, 0, 0), Verdict::Spend(u64::MAX));
    assert_eq!(judge.judge(0, 0, u32::MAX), Verdict::Never);
}

#[test]
fn fixed_windows_are_those_of_the_calendar() {
    let ends = |period: u64, now: u64| {
        let judge = judge(Algorithm::CALENDAR, 1, Duration::from_secs(period), None, 0).unwrap();
        let Verdict::Spend(state) = judge.judge(0, now * SECOND, 1) else { panic!("{period}") };
        let end = now + judge.whole_in(state, now * SECOND).div_ceil(SECOND);
        assert_eq!(judge.judge(state, end * SECOND - 1, 1), Verdict::Wait(1));
        end
    };
    let now = 951_868_799; // 2000-02-29T23:59:59Z
    for period in [1, 60, 3600, 86_400, 30 * 86_400] {
        assert_eq!(ends(period, now), now + 1, "{period}");
    }
    assert_eq!(ends(7 * 86_400, now), 952_300_800, "Monday, 2000-03-06");
    assert_eq!(ends(365 * 86_400, now), 978_307_200, "2001-01-01");
    assert_eq!(ends(30 * 86_400, now + 1), 954_547_200, "2000-04-01");
    assert_eq!(ends(90, 180), 270, "from 1970 on");
    for (zone, period, end) in [
        ("+02:00", 86_400, 951_861_600 + 86_400),
        ("-11:30", 86_400, 951_910_200),
        ("+00:30", 3600, 951_870_600),
        ("+01:00", 30 * 86_400, 954_547_200 - 3600), // it is March there
        ("-01:00", 30 * 86_400, 951_868_800 + 3600),
        ("-01:00", 365 * 86_400, 978_307_200 + 3600),
    ] {
        let zone = Algorithm::FixedWindow { zone: zone.parse().unwrap() };
        let judge = judge(zone, 1, Duration::from_secs(period), None, 0).unwrap();
        let Verdict::Spend(state) = judge.judge(0, now * SECOND, 1) else { panic!() };
        assert_eq!(judge.whole_in(state, now * SECOND) / SECOND + now, end, "{zone:?} {period}");
    }

    // Each month from 1970 to 2199 is as long as it is.
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut begin = 0;
    for year in 1970..2200 {
        for days in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            let end = begin + days * 86_400;
            assert_eq!((ends(30 * 86_400, begin), ends(30 * 86_400, end - 1)), (end, end), "{year}");
            begin = end;
        }
    }
}

#[test]
fn a_clock_that_was_wrong_by_years_starves_nobody() {
    let judge = judge(Algorithm::CALENDAR, 3, Duration::from_secs(60), None, 0).unwrap();
    let Verdict::Spend(state) = judge.judge(0, TODAY + 3650 * DAY, 3) else { panic!() };
    assert_eq!(judge.remaining(state, TODAY), 3);
    let Verdict::Spend(now) = judge.judge(0, TODAY, 2) else { panic!() };
    assert_eq!(judge.owed(judge.join(state, now, TODAY), TODAY), 2, "the other account is none");
}

/// What was spent under a larger plan, or before a reload that grants less, is no debt.
#[test]
fn a_smaller_count_owes_nothing_of_the_next_window() {
    let rate = |count| Quota::new(Rate::new(count, Duration::from_secs(60)).unwrap());
    for (algorithm, windows) in [(Algorithm::SlidingWindow, 2), (Algorithm::CALENDAR, 1)] {
        let gold = Judge::new(algorithm, rate(1000), 0, 0).unwrap();
        let free = gold.with(rate(10), 0).unwrap();
        assert!(gold.reads_as(&free) && free.reads_as(&Judge::new(algorithm, rate(10), 5, 20).unwrap()));
        let begin = TODAY - TODAY % (60 * SECOND);
        let Verdict::Spend(state) = gold.judge(0, begin, 600) else { panic!("{algorithm:?}") };
        let Verdict::Wait(wait) = free.judge(state, begin, 1) else { panic!("{algorithm:?}") };
        assert!(wait <= windows * 60 * SECOND, "{algorithm:?} {wait}");
        assert_eq!(free.whole_in(state, begin), windows * 60 * SECOND);
        assert_eq!(free.remaining(state, begin + windows * 60 * SECOND), 10);
    }
    // What was charged in the end is owed, though.
    let judge = Judge::new(Algorithm::CALENDAR, rate(10), 25, 0).unwrap();
    let state = judge.shift(0, TODAY, TODAY, Shift { units: 100, beyond: 25 });
    assert_eq!(judge.owed(state, TODAY), 35);
    let minute = |n: u64| TODAY + n * 60 * SECOND;
    assert_eq!([1, 2, 3, 4].map(|n| judge.remaining(state, minute(n))), [0, 0, 5, 10]);
}

#[test]
fn plans_have_other_counts_and_the_same_states() {
    let rate = |count| Quota::new(Rate::new(count, Duration::from_secs(60)).unwrap());
    for algorithm in [Algorithm::TokenBucket, Algorithm::SlidingWindow, Algorithm::CALENDAR] {
        let judge = Judge::new(algorithm, rate(10), 0, 1000).unwrap();
        let gold = judge.with(rate(1000), 0).unwrap();
        let Verdict::Spend(state) = gold.judge(0, TODAY, 600) else { panic!("{algorithm:?}") };
        assert_eq!(
            (gold.remaining(state, TODAY), judge.remaining(state, TODAY)),
            if algorithm == Algorithm::TokenBucket { (400, 4) } else { (400, 0) }
        );
        assert!(judge.owed(state, TODAY) > 0);
        let hourly = Quota::new(Rate::new(10, Duration::from_secs(3600)).unwrap());
        assert_eq!(judge.with(hourly, 0).is_some(), algorithm == Algorithm::TokenBucket);
        let burst = rate(10).with_burst(NonZeroU32::MIN);
        assert_eq!(judge.with(burst, 0).is_some(), algorithm == Algorithm::TokenBucket);
    }
}
