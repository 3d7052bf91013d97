//! The machine as simply as it can be said: every result is kept, and counted anew each time.

use super::*;
use crate::trip::{machine::PATIENCE, policy::Over};

struct Model {
    policy: Policy,
    born: Instant,
    phase: Phase,
    round: u32,
    in_a_row: u32,
    times: u32,
    /// When, whether it failed, and whether it was slow.
    results: Vec<(Instant, bool, bool)>,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { probes: u32, successes: u32, last: Instant },
}

struct Ticket {
    round: u32,
    probe: bool,
    began: Instant,
}

impl Model {
    fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            _ => State::HalfOpen,
        }
    }

    fn enter(&mut self, now: Instant) -> Result<Ticket, Duration> {
        let began = now;
        let (mut probes, successes, last) = match self.phase {
            Phase::Closed => return Ok(Ticket { round: self.round, probe: false, began }),
            Phase::Open { until } if now < until => return Err(until - now),
            Phase::Open { .. } => (0, 0, now),
            Phase::HalfOpen { probes, successes, last } => (probes, successes, last),
        };
        if probes >= self.policy.probes.get() && now - last < PATIENCE {
            return Err(Duration::from_secs(1));
        }
        probes += 1;
        self.phase = Phase::HalfOpen { probes, successes, last: now };
        Ok(Ticket { round: self.round, probe: true, began })
    }

    fn end(&mut self, ticket: &Ticket, failed: Option<bool>, now: Instant) {
        if ticket.round != self.round {
            return;
        }
        let slow = self.policy.slow.is_some_and(|(from, _)| now - ticket.began >= from);
        match (&mut self.phase, failed) {
            (Phase::HalfOpen { probes, .. }, None) => *probes -= 1,
            (_, None) => {}
            (Phase::HalfOpen { probes, successes, .. }, Some(failed)) => {
                (*probes, *successes) = (*probes - 1, *successes + 1);
                if failed || slow {
                    self.open(now);
                } else if *successes >= self.policy.successes.get() {
                    self.phase = Phase::Closed;
                    self.results.clear();
                    (self.round, self.in_a_row, self.times) = (self.round + 1, 0, 0);
                }
            }
            (_, Some(failed)) => {
                self.results.push((now, failed, slow));
                self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
                if (failed || slow) && self.is_too_much(now) {
                    self.times = 0;
                    self.open(now);
                }
            }
        }
    }

    fn is_too_much(&self, now: Instant) -> bool {
        let last: Vec<_> = match self.policy.over {
            Over::Results(last) => self.results.iter().rev().take(usize::from(last.get())).collect(),
            Over::Time(window) => {
                let tick = |at: Instant| (at - self.born).as_nanos() / (window / 10).as_nanos();
                self.results.iter().filter(|(at, ..)| tick(*at) + 10 > tick(now)).collect()
            }
        };
        let share = |some: usize, share: Ratio| {
            last.len() >= self.policy.least.get() as usize
                && some as f64 / last.len() as f64 >= share.as_f64()
                && share != Ratio::NEVER
        };
        self.policy.consecutive.is_some_and(|most| self.in_a_row >= most.get())
            || share(last.iter().filter(|(_, failed, _)| *failed).count(), self.policy.ratio)
            || self
                .policy
                .slow
                .is_some_and(|(_, most)| share(last.iter().filter(|(.., slow)| *slow).count(), most))
    }

    fn open(&mut self, now: Instant) {
        (self.round, self.times) = (self.round + 1, self.times + 1);
        let until = now + self.policy.wait.delay(self.times, &Chance::seeded(0));
        self.phase = Phase::Open { until };
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let shares =
        || prop::sample::select(vec![Ratio::NEVER, Ratio::percent(25), Ratio::percent(50), Ratio::ALWAYS]);
    let over = prop_oneof![(1..30_u16).prop_map(Ok), (100..20_000_u64).prop_map(Err)];
    let counts = (prop::option::of(1..5_u32), 1..10_u32, 1..4_u32, 1..4_u32);
    (counts, shares(), shares(), 1..3_000_u64, over).prop_map(|(counts, failures, slow, from, over)| {
        let (consecutive, least, probes, successes) = counts;
        let policy = Policy::new()
            .consecutive(consecutive.and_then(NonZeroU32::new))
            .ratio(failures, n(least))
            .slow(Duration::from_millis(from), slow)
            .probes(n(probes), n(successes))
            .wait(Backoff::new(SECOND).max(3 * SECOND).jitter(Jitter::None));
        match over {
            Ok(results) => policy.last(NonZeroU16::new(results).unwrap()),
            Err(window) => policy.window(Duration::from_millis(window)),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is asked and told, at whatever time.
    #[test]
    fn it_is_what_a_list_of_all_results_says(
        policy in any_policy(),
        is_busy in any::<bool>(),
        steps in prop::collection::vec((0..8_u8, any::<prop::sample::Index>(), 0..1_500_u64), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _paused = runtime.enter();
        let trip = match is_busy {
            true => Trip::busy(policy, Parts::default()),
            false => Trip::new(policy),
        };
        let mut now = Instant::now();
        let (born, phase) = (now, Phase::Closed);
        let mut model = Model { policy, born, phase, round: 0, in_a_row: 0, times: 0, results: Vec::new() };
        let mut under_way = Vec::new();
        for (step, which, wait) in steps {
            match step {
                0 => now += Duration::from_millis(wait),
                1..4 => match (trip.enter(now), model.enter(now)) {
                    (Ok(entry), Ok(ticket)) => {
                        prop_assert_eq!(entry.is_probe(), ticket.probe);
                        under_way.push((entry, ticket));
                    }
                    (Err(open), Err(wait)) => prop_assert_eq!(open.retry_after(), wait),
                    (entry, ticket) => prop_assert!(false, "{:?}, and not {}", entry, ticket.is_ok()),
                },
                _ if under_way.is_empty() => {}
                _ => {
                    let (entry, ticket) = under_way.swap_remove(which.index(under_way.len()));
                    let failed = match step {
                        4 => None,
                        5 | 6 => Some(true),
                        _ => Some(false),
                    };
                    model.end(&ticket, failed, now);
                    match failed {
                        None => drop(entry),
                        Some(true) => entry.failure(now),
                        Some(false) => entry.success(now),
                    }
                }
            }
            prop_assert_eq!(trip.state(now), model.state(now));
        }
        // Wherever it has come to stand, it can be closed again.
        drop(under_way);
        now += Duration::from_secs(3);
        for _ in 0..policy.successes.get() {
            trip.enter(now).unwrap().success(now);
        }
        prop_assert_eq!(trip.state(now), State::Closed);
    }
}
