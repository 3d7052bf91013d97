//! The slow obvious models: each keeps a log of all that was admitted.

use super::*;

/// A bucket of tokens, each of them made of `interval` drops; a drop falls each nanosecond.
struct Bucket {
    drops: u128,
    size: u128,
    interval: u128,
}

impl Bucket {
    fn wait(&mut self, time: u64) {
        self.drops = (self.drops + u128::from(time)).min(self.size);
    }

    fn spend(&mut self, cost: u32) -> Option<u64> {
        let cost = u128::from(cost) * self.interval;
        match cost.checked_sub(self.drops) {
            None | Some(0) => {
                self.drops -= cost;
                None
            }
            Some(missing) => Some(missing as u64),
        }
    }
}

proptest! {
    #[test]
    fn a_token_bucket_is_a_bucket_of_drops(
        ((count, period), burst) in (rates(), prop_oneof![1_u32..20, 1_u32..1_000_000]),
        steps in prop::collection::vec((0.0..1.5_f64, 1_u32..5, any::<bool>()), 1..80),
    ) {
        let Some(judge) = judge(Algorithm::TokenBucket, count, period, Some(burst), 0) else { return Ok(()) };
        let interval = nanos(period) / u64::from(count);
        let size = u128::from(interval) * u128::from(burst);
        let mut bucket = Bucket { drops: size, size, interval: interval.into() };
        let (mut state, mut now) = (0, TODAY);
        for (wait, cost, big) in steps {
            let wait = (interval as f64 * wait) as u64;
            let cost = if big { cost * (burst / 3) } else { cost };
            now += wait;
            bucket.wait(wait);
            match judge.judge(state, now, cost) {
                Verdict::Never => prop_assert!(cost > burst),
                Verdict::Wait(time) => prop_assert_eq!(bucket.spend(cost), Some(time)),
                Verdict::Spend(after) => {
                    prop_assert_eq!(bucket.spend(cost), None);
                    state = after;
                }
            }
            prop_assert_eq!(u128::from(judge.remaining(state, now)), bucket.drops / bucket.interval);
        }
    }

    #[test]
    fn a_leaky_bucket_lets_one_go_each_interval(
        (count, period) in rates(),
        max_wait in 0_u64..5000,
        steps in prop::collection::vec((0.0..2.5_f64, 1_u32..4), 1..80),
    ) {
        let max_wait = Duration::from_millis(max_wait);
        let Some(judge) = judge(Algorithm::LeakyBucket { max_wait }, count, period, None, 0) else { return Ok(()) };
        let interval = nanos(period) / u64::from(count);
        let (mut state, mut now) = (0, TODAY);
        let mut free = now; // when the next may go
        for (wait, cost) in steps {
            now += (interval as f64 * wait) as u64;
            free = free.max(now);
            let hold = judge.hold(state, now, cost).unwrap();
            prop_assert_eq!(hold, (free - now, interval * u64::from(cost)));
            let fits = free - now + interval * u64::from(cost) <= nanos(max_wait) + interval;
            match judge.judge(state, now, cost) {
                Verdict::Spend(after) => {
                    prop_assert!(fits && free - now <= nanos(max_wait));
                    state = after;
                    free += interval * u64::from(cost);
                }
                Verdict::Wait(_) | Verdict::Never => prop_assert!(!fits),
            }
        }
    }

    #[test]
    fn a_sliding_window_weighs_two_counts(
        (count, period) in rates(),
        steps in prop::collection::vec((0.0..1.2_f64, any::<bool>(), 1_u32..5, any::<bool>()), 1..80),
    ) {
        let Some(judge) = judge(Algorithm::SlidingWindow, count, period, None, 0) else { return Ok(()) };
        let period = nanos(period);
        let (mut state, mut now) = (0, TODAY);
        let mut log: Vec<(u64, u32)> = Vec::new();
        for (wait, far, cost, big) in steps {
            now += (if far { period } else { period / u64::from(count) } as f64 * wait) as u64;
            let cost = if big { cost * (count / 6) } else { cost };
            let in_window = |n: u64| -> u128 {
                log.iter().filter(|(at, _)| at / period == n).map(|(_, cost)| u128::from(*cost)).sum()
            };
            let (running, before) = (in_window(now / period), in_window((now / period).wrapping_sub(1)));
            let load = |before: u128| {
                before * u128::from(period - now % period) + (running + u128::from(cost)) * u128::from(period)
            };
            let most = u128::from(count) * u128::from(period);
            let verdict = judge.judge(state, now, cost);
            if let Verdict::Spend(after) = verdict {
                prop_assert!(load(before) <= most, "more than its definition");
                state = after;
                log.push((now, cost));
            } else {
                // Exact up to a hundred thousand in a window that is not too short, else rounded up.
                let rounded = if count <= 100_000 && period >= SECOND { before } else { before + u128::from(count / 64) + 2 };
                prop_assert!(load(rounded) > most, "starved: {judge:?}");
            }
        }
    }

    #[test]
    fn a_fixed_window_has_its_count_and_no_more(
        (count, period) in rates(),
        steps in prop::collection::vec((0.0..1.2_f64, any::<bool>(), 1_u32..5, any::<bool>()), 1..80),
    ) {
        let Some(judge) = judge(Algorithm::CALENDAR, count, period, None, 0) else { return Ok(()) };
        let window = |now: u64| match period.as_secs() {
            2_592_000 | 31_536_000 => None,
            604_800 => Some((now + 3 * DAY) / nanos(period)),
            _ => Some(now / nanos(period)),
        };
        let (mut state, mut now) = (0, TODAY);
        let mut log: Vec<(Option<u64>, u32)> = Vec::new();
        for (wait, far, cost, big) in steps {
            now += (if far { nanos(period) } else { nanos(period) / u64::from(count) } as f64 * wait) as u64;
            if window(now).is_none() {
                continue; // the calendar has a test of its own
            }
            let cost = if big { cost * (count / 6) } else { cost };
            let spent: u32 = log.iter().filter(|(at, _)| *at == window(now)).map(|(_, cost)| cost).sum();
            let verdict = judge.judge(state, now, cost);
            prop_assert_eq!(is_spent(verdict), spent + cost <= count);
            if let Verdict::Spend(after) = verdict {
                state = after;
                log.push((window(now), cost));
            }
        }
    }

    /// No window of the calendar has more than its count, however the clock jitters; and whatever it did, an account
    /// has its whole count in the next window.
    #[test]
    fn a_fixed_window_bears_a_clock_that_steps(
        count in 1_u32..20,
        steps in prop::collection::vec((-1.0..1.4_f64, 1_u32..4), 1..200),
        wild in prop::collection::vec((-40.0..40.0_f64, 1_u32..4), 1..50),
    ) {
        let period = Duration::from_secs(60);
        let judge = judge(Algorithm::CALENDAR, count, period, None, 0).unwrap();
        let minute = nanos(period);
        let mut log = std::collections::HashMap::new();
        let (mut state, mut latest) = (0, TODAY);
        for (step, cost) in steps {
            // The clock may show any time of the minute before the latest that it showed, and after it.
            let now = latest.saturating_add_signed((minute as f64 * step) as i64);
            latest = latest.max(now);
            if let Verdict::Spend(after) = judge.judge(state, now, cost) {
                state = after;
                *log.entry(state >> judge_bits(&judge)).or_insert(0) += cost;
            }
        }
        prop_assert!(log.values().all(|&spent| spent <= count));
        let mut now = latest;
        for (step, cost) in wild {
            now = now.saturating_add_signed((minute as f64 * step) as i64);
            if let Verdict::Spend(after) = judge.judge(state, now, cost) {
                state = after;
            }
            let wait = match judge.judge(state, now, count) { Verdict::Wait(time) => time, _ => 0 };
            prop_assert!(wait <= 2 * minute, "starved for {wait}");
        }
    }
}

/// Where the index of a window begins in a state.
fn judge_bits(judge: &Judge) -> u32 {
    let Judge::FixedWindow(window) = judge else { unreachable!() };
    window.bits
}
