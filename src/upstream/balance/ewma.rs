//! How long an endpoint's answers take: a moving average that believes bad news at once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::StatusCode;

use crate::{
    outcome::{End, Failure, Outcome, Verdict},
    reject::GrpcCode,
};

/// How long news counts: after so many milliseconds they weigh 1/e.
const DECAY: f32 = 10_000.0;
/// What an endpoint starts with of which nothing is known, in microseconds.
const UNKNOWN: f32 = 30_000.0;
/// As slow as this counts an answer that was a failure: who fails fast is not fast.
const PENALTY: Duration = Duration::from_secs(5);

/// One endpoint's estimate, in one word: microseconds as `f32`, and the millisecond of its age at which that was so.
///
/// After Finagle's and Linkerd's peak EWMA: a longer time is believed at once, a shorter one bit by bit, and where nothing
/// is heard the estimate fades, so that an endpoint that was slow is tried again. It is read without being changed.
pub(in super::super) struct Ewma(AtomicU64);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Estimate {
    micros: f32,
    at: u32,
}

impl Default for Ewma {
    fn default() -> Self {
        Self(AtomicU64::new(Estimate { micros: UNKNOWN, at: 0 }.word()))
    }
}

impl Ewma {
    /// Microseconds that an answer is expected to take; `age` in milliseconds.
    pub(super) fn at(&self, age: u64) -> f32 {
        Estimate::of(self.0.load(Ordering::Relaxed)).faded(age as u32)
    }

    /// Begins with what is expected of others.
    pub(super) fn start(&self, micros: f32, age: u64) {
        self.0.store(Estimate { micros, at: age as u32 }.word(), Ordering::Relaxed);
    }

    /// One request has ended.
    pub(in super::super) fn ended(&self, outcome: &Outcome, latency: Duration, age: u64) {
        let failed = outcome.verdict_on_server(false) == Verdict::ServerFault || is_limited(outcome);
        let micros = (if failed { latency.max(PENALTY) } else { latency }).as_micros() as f32;
        // Who went away before there was a head, or had no more time, knows only that it takes so long at least.
        let out_of_time = outcome.end == End::Failed(Failure::CallerDeadline);
        let partial = (outcome.status.is_none() || out_of_time) && !failed;
        let next = |word| {
            let estimate = Estimate::of(word);
            let next = if partial {
                estimate.at_least(micros, age as u32)
            } else {
                estimate.next(micros, age as u32)
            };
            (next != estimate).then(|| next.word())
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

/// Whether it has more to do than it bears.
fn is_limited(outcome: &Outcome) -> bool {
    outcome.status == Some(StatusCode::TOO_MANY_REQUESTS)
        || outcome.grpc == Some(GrpcCode::RESOURCE_EXHAUSTED)
}

impl Estimate {
    fn of(word: u64) -> Self {
        Self { micros: f32::from_bits((word >> 32) as u32), at: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at)
    }

    /// What is left of its weight. Who is told late finds no time passed.
    fn weight(self, now: u32) -> f32 {
        let passed = (now.wrapping_sub(self.at) as i32).max(0);
        if passed == 0 { 1.0 } else { (-(passed as f32) / DECAY).exp() }
    }

    fn faded(self, now: u32) -> f32 {
        self.micros * self.weight(now)
    }

    fn at_least(self, micros: f32, now: u32) -> Self {
        if micros > self.faded(now) { Self { micros, at: now } } else { self }
    }

    fn next(self, micros: f32, now: u32) -> Self {
        let weight = self.weight(now);
        if micros >= self.micros * weight {
            return Self { micros, at: now };
        }
        if weight >= 1.0 {
            return self; // one word a millisecond is enough
        }
        Self { micros: self.micros * weight + micros * (1.0 - weight), at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Completion, Failure};
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    const fn estimate(micros: f32, at: u32) -> Estimate {
        Estimate { micros, at }
    }

    /// The outcome of a call that went like this.
    fn outcome(call: impl FnOnce(&mut Completion<Slate>)) -> Outcome {
        let slate = Slate::default();
        let mut completion = Completion::new(slate.clone());
        call(&mut completion);
        drop(completion);
        slate.0.lock().unwrap().take().unwrap()
    }

    #[derive(Clone, Default)]
    struct Slate(Arc<Mutex<Option<Outcome>>>);

    impl crate::gate::Pass for Slate {
        fn on_end(&mut self, outcome: &Outcome) {
            *self.0.lock().unwrap() = Some(*outcome);
        }
    }

    fn answered(status: u16) -> Outcome {
        outcome(|call| {
            let (mut head, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
            call.head(&mut head, true);
            call.complete();
        })
    }

    #[test]
    fn bad_news_are_believed_at_once_and_good_ones_bit_by_bit() {
        assert_eq!(estimate(1_000.0, 0).next(9_000.0, 1), estimate(9_000.0, 1));
        let next = estimate(9_000.0, 0).next(1_000.0, 10_000);
        let third = 1.0 / std::f32::consts::E;
        assert!((next.micros - (9_000.0 * third + 1_000.0 * (1.0 - third))).abs() < 1.0, "{next:?}");
        assert_eq!(estimate(9_000.0, 5).next(1_000.0, 5), estimate(9_000.0, 5), "within one millisecond");
    }

    #[test]
    fn what_nobody_hears_of_fades() {
        let slow = estimate(5_000_000.0, 0);
        assert!(slow.faded(1_000) > 4_500_000.0 && slow.faded(100_000) < 300.0);
        assert_eq!(slow.faded(0), 5_000_000.0);
        assert_eq!(estimate(7.0, 100).faded(50), 7.0, "told late");
        assert!(estimate(7.0, u32::MAX - 5).faded(5) < 7.0, "the milliseconds of 49 days have run over");
    }

    /// Who is looked at often is no other than who is not.
    #[test]
    fn a_look_changes_nothing() {
        let (often, once) = (Ewma::default(), Ewma::default());
        for ewma in [&often, &once] {
            ewma.ended(&answered(200), Duration::from_millis(90), 100);
        }
        let first = often.at(5_000);
        assert!((1..100).all(|_| often.at(5_000) == first));
        assert!(often.at(20_000) < first, "it fades");
        assert_eq!((often.at(5_000), often.at(30_000)), (first, once.at(30_000)));
        for ewma in [&often, &once] {
            ewma.ended(&answered(200), Duration::from_millis(1), 30_000);
        }
        assert_eq!(often.at(30_000), once.at(30_000));
    }

    #[test]
    fn who_fails_fast_is_slow() {
        for failed in [answered(500), answered(503), answered(429)] {
            let ewma = Ewma::default();
            ewma.ended(&failed, Duration::from_micros(10), 1);
            assert_eq!(ewma.at(1), 5_000_000.0, "{failed:?}");
        }
        let refused = outcome(|call| call.fail(&std::io::Error::from(std::io::ErrorKind::ConnectionRefused)));
        assert_eq!(refused.end, End::Failed(Failure::Connect));
        let ewma = Ewma::default();
        ewma.ended(&refused, Duration::ZERO, 1);
        assert_eq!(ewma.at(1), 5_000_000.0);
        for fine in [answered(200), answered(404)] {
            let ewma = Ewma::default();
            ewma.ended(&fine, Duration::from_micros(10), 1000);
            assert!(ewma.at(1000) < 30_000.0);
        }
    }

    #[test]
    fn who_is_not_waited_for_is_no_faster_for_it() {
        let cancelled = outcome(|_| ());
        let ewma = Ewma::default();
        ewma.ended(&cancelled, Duration::from_micros(10), 1);
        assert!((ewma.at(1) - 30_000.0).abs() < 10.0);
        ewma.ended(&cancelled, Duration::from_secs(1), 1);
        assert_eq!(ewma.at(1), 1_000_000.0, "but slower, if it let us wait");
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_what_was_and_what_is(
            micros in 0.0_f32..1e9, news in 0.0_f32..1e9, at: u32, passed in 0_u32..1_000_000,
        ) {
            let before = estimate(micros, at);
            let now = at.wrapping_add(passed);
            let next = before.next(news, now);
            prop_assert_eq!(Estimate::of(next.word()), next);
            prop_assert!(next.faded(now) >= before.faded(now) * 0.999, "news never make it better than silence");
            prop_assert!(next.micros <= micros.max(news) * 1.001);
            prop_assert!(next.micros >= news.min(before.faded(now)) * 0.999);
        }
    }
}
