//! The slow obvious models: each keeps a log of all that was admitted.

use super::*;

/// A bucket of tokens, each of them made of `token` drops; so many drops fall each nanosecond, and none is ever cut.
struct Bucket {
    drops: i128,
    size: i128,
    token: i128,
    falling: i128,
}

impl Bucket {
    fn new(token: u128, falling: u32, burst: u32) -> Self {
        let token = token as i128;
        let size = token * i128::from(burst);
        Self { drops: size, size, token, falling: falling.into() }
    }

    /// By what the rate says: `count` tokens in each period.
    fn exact(period: Duration, count: u32, burst: u32) -> Self {
        Self::new(period.as_nanos(), count, burst)
    }

    /// By whose tokens take a nanosecond longer.
    fn starving(period: Duration, count: u32, burst: u32) -> Self {
        Self::new(period.as_nanos() + u128::from(count), count, burst)
    }

    /// By whose tokens take whole nanoseconds.
    fn rounded(period: Duration, count: u32, burst: u32) -> Self {
        Self::new(period.as_nanos().div_ceil(count.into()), 1, burst)
    }

    fn wait(&mut self, time: u64) {
        self.drops = (self.drops + i128::from(time) * self.falling).min(self.size);
    }

    fn holds(&self, cost: u32) -> bool {
        i128::from(cost) * self.token <= self.drops
    }

    /// Whether it holds it or not.
    fn spend(&mut self, cost: u32) {
        self.drops -= i128::from(cost) * self.token;
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
        let of = |bucket: fn(Duration, u32, u32) -> Bucket| bucket(period, count, burst);
        let mut bucket = of(Bucket::rounded);
        let (mut exact, mut starving) = (of(Bucket::exact), of(Bucket::starving));
        let (mut state, mut now) = (0, TODAY);
        for (wait, cost, big) in steps {
            let wait = (interval as f64 * wait) as u64;
            let cost = if big { cost * (burst / 3) } else { cost };
            now += wait;
            let all = [&mut bucket, &mut exact, &mut starving];
            all.into_iter().for_each(|bucket| bucket.wait(wait));
            match judge.judge(state, now, cost) {
                Verdict::Never => prop_assert!(cost > burst),
                Verdict::Wait(time) => {
                    prop_assert!(!starving.holds(cost), "starved");
                    prop_assert_eq!(i128::from(cost) * bucket.token - bucket.drops, i128::from(time));
                }
                Verdict::Spend(after) => {
                    prop_assert!(exact.holds(cost), "more than the rate");
                    prop_assert!(bucket.holds(cost));
                    [&mut bucket, &mut exact, &mut starving].into_iter().for_each(|bucket| bucket.spend(cost));
                    state = after;
                }
            }
            prop_assert_eq!(i128::from(judge.remaining(state, now)), bucket.drops / bucket.token);
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
        let interval = nanos(period).div_ceil(count.into());
        let (mut state, mut now) = (0, TODAY);
        let mut free = now; // when the next may go
        // The same in parts of a nanosecond, of which there are as many as units in a period; nobody goes before that.
        let (count, period) = (u128::from(count), period.as_nanos());
        let mut exactly = u128::from(now) * count;
        for (wait, cost) in steps {
            now += (interval as f64 * wait) as u64;
            free = free.max(now);
            exactly = exactly.max(u128::from(now) * count);
            let hold = judge.hold(state, now, cost).unwrap();
            prop_assert_eq!(hold, (free - now, interval * u64::from(cost)));
            let fits = free - now + interval * u64::from(cost) <= nanos(max_wait) + interval;
            match judge.judge(state, now, cost) {
                Verdict::Spend(after) => {
                    prop_assert!(fits && free - now <= nanos(max_wait));
                    prop_assert!(u128::from(free) * count >= exactly, "sooner than the rate says");
                    exactly += period * u128::from(cost);
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
