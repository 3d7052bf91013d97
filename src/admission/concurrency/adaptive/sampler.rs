use std::{
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{StatusCode, response};
use tokio::time::Instant;

use super::{Latency, LimitAlgorithm, Seen};
use crate::{
    outcome::{End, Failure, Outcome, Verdict},
    reject::GrpcCode,
};

/// A limit that adapts.
#[derive(Debug)]
pub(in crate::admission::concurrency) struct Adaptive {
    pub(in crate::admission::concurrency) sampler: Sampler,
    pub(in crate::admission::concurrency) latency: Latency,
}

/// One sample, above the sum of the latencies in units of 100 ns.
const ONE: u64 = 1 << 44;
const UNIT: u128 = 100;
/// No latency counts for more.
const LONGEST: Duration = Duration::from_secs(600);
/// A window has at least so many samples.
const FEWEST: u64 = 10;

/// Gathers what is seen in a window, without a lock; whoever ends the window takes the step.
#[derive(Debug)]
pub(in crate::admission::concurrency) struct Sampler {
    begin: Instant,
    window: u64,
    ends: AtomicU64,
    sum: AtomicU64,
    drops: AtomicU32,
    peak: AtomicU32,
    algorithm: Mutex<Box<dyn LimitAlgorithm>>,
}

impl Sampler {
    pub(in crate::admission::concurrency) const WINDOW: Duration = Duration::from_millis(100);

    pub(in crate::admission::concurrency) fn new(
        algorithm: Box<dyn LimitAlgorithm>,
        window: Duration,
    ) -> Self {
        let window = nanos(window).max(1);
        Self {
            begin: Instant::now(),
            window,
            ends: AtomicU64::new(window),
            sum: AtomicU64::new(0),
            drops: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            algorithm: Mutex::new(algorithm),
        }
    }

    /// Goes on from a limit that was found before.
    pub(in crate::admission::concurrency) fn resume(&self, limit: u32) -> u32 {
        let mut algorithm = self.algorithm.lock().unwrap_or_else(PoisonError::into_inner);
        algorithm.resume(limit);
        algorithm.limit().max(1)
    }

    /// Something went well. The next limit, if a window has ended.
    #[inline]
    pub(in crate::admission::concurrency) fn sample(
        &self,
        now: Instant,
        rtt: Duration,
        in_flight: u32,
    ) -> Option<u32> {
        let units = (rtt.min(LONGEST).as_nanos() / UNIT) as u64;
        self.sum.fetch_add(ONE + units, Ordering::Relaxed);
        self.see(now, in_flight)
    }

    /// Something was dropped. The next limit, if a window has ended.
    pub(in crate::admission::concurrency) fn dropped(&self, now: Instant, in_flight: u32) -> Option<u32> {
        self.drops.fetch_add(1, Ordering::Relaxed);
        self.see(now, in_flight)
    }

    #[inline]
    fn see(&self, now: Instant, in_flight: u32) -> Option<u32> {
        if in_flight > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_flight, Ordering::Relaxed);
        }
        let now = nanos(now.saturating_duration_since(self.begin));
        if now < self.ends.load(Ordering::Relaxed) { None } else { self.step(now) }
    }

    #[cold]
    fn step(&self, now: u64) -> Option<u32> {
        let mut algorithm = match self.algorithm.try_lock() {
            Ok(algorithm) => algorithm,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let enough = self.sum.load(Ordering::Relaxed) / ONE + u64::from(self.drops.load(Ordering::Relaxed));
        if now < self.ends.load(Ordering::Relaxed) || enough < FEWEST {
            return None;
        }
        let sum = self.sum.swap(0, Ordering::Relaxed);
        let (samples, units) = (sum / ONE, sum % ONE);
        let seen = Seen {
            rtt: units.checked_div(samples).map(|mean| Duration::from_nanos(mean * UNIT as u64)),
            in_flight: self.peak.swap(0, Ordering::Relaxed),
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            drops: self.drops.swap(0, Ordering::Relaxed),
        };
        let limit = algorithm.step(&seen).max(1);
        self.ends.store(now.saturating_add(self.window), Ordering::Relaxed);
        Some(limit)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a response with this head has a latency that counts.
pub(in crate::admission::concurrency) fn is_sample(head: &response::Parts) -> bool {
    let failed = head.status.is_client_error() || head.status.is_server_error();
    !failed && GrpcCode::of(&head.headers).is_none_or(|code| code == GrpcCode::OK)
}

/// Whether what happened says that the server had too much to do. Not if the time that was over was `of_caller`.
pub(in crate::admission::concurrency) fn is_drop(outcome: &Outcome, of_caller: impl FnOnce() -> bool) -> bool {
    let of_caller = outcome.is_told_late() && of_caller();
    if outcome.verdict_on_server(of_caller) != Verdict::ServerFault {
        return false;
    }
    let full = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    let failures = [Failure::Connect, Failure::Deadline, Failure::Refused, Failure::Reset];
    matches!(outcome.end, End::Failed(failure) if failures.contains(&failure))
        || outcome.status.is_some_and(|status| full.contains(&status))
        || outcome
            .grpc
            .is_some_and(|code| [GrpcCode::UNAVAILABLE, GrpcCode::DEADLINE_EXCEEDED].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::super::Aimd;
    use super::*;
    use std::num::NonZeroU32;

    const MS: Duration = Duration::from_millis(1);

    #[derive(Debug)]
    struct Told(std::sync::mpsc::Sender<Seen>);

    impl LimitAlgorithm for Told {
        fn limit(&self) -> u32 {
            7
        }
        fn step(&mut self, seen: &Seen) -> u32 {
            self.0.send(*seen).unwrap();
            9
        }
    }

    #[test]
    fn a_window_has_its_time_and_its_samples() {
        let (tell, told) = std::sync::mpsc::channel();
        let sampler = Sampler::new(Box::new(Told(tell)), 100 * MS);
        let at = |ms: u32| sampler.begin + ms * MS;
        for n in 0..8 {
            assert_eq!(sampler.sample(at(n), (10 + 2 * n) * MS, n), None);
        }
        // The time is over, and two are missing.
        assert_eq!(sampler.sample(at(150), 17 * MS, 3), None);
        assert_eq!(sampler.dropped(at(160), 20), Some(9));
        let seen = told.recv().unwrap();
        assert_eq!((seen.samples, seen.drops, seen.in_flight), (9, 1, 20));
        assert_eq!(seen.rtt, Some(Duration::from_nanos(17_000_000)));
        // The next one begins with nothing.
        assert_eq!(sampler.sample(at(200), MS, 1), None);
        for _ in 0..10 {
            let _ = sampler.dropped(at(300), 1);
        }
        let seen = told.recv().unwrap();
        assert_eq!((seen.samples, seen.drops, seen.rtt), (1, 9, Some(MS)));
    }

    #[test]
    fn threads_lose_nothing() {
        let (tell, told) = std::sync::mpsc::channel();
        let sampler = Sampler::new(Box::new(Told(tell)), MS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..20_000_u32 {
                        let _ = sampler.sample(sampler.begin + n * Duration::from_micros(1), 3 * MS, 1);
                    }
                });
            }
        });
        let _ = sampler.step(u64::MAX / 2);
        drop(sampler);
        let (mut all, mut odd) = (0, 0);
        while let Ok(seen) = told.recv() {
            all += u64::from(seen.samples);
            odd += u32::from(seen.rtt != Some(3 * MS));
        }
        // Fewer than a window needs may be left.
        assert!((80_000 - FEWEST..=80_000).contains(&all) && odd == 0, "{all} {odd}");
    }

    #[test]
    fn extremes_are_no_trouble() {
        let aimd = Aimd::new().bounds(NonZeroU32::MIN, NonZeroU32::MAX).initial(NonZeroU32::MAX);
        let sampler = Sampler::new(Box::new(aimd), Duration::MAX);
        for _ in 0..100_000 {
            assert_eq!(sampler.sample(sampler.begin, Duration::MAX, u32::MAX), None);
        }
        let _ = Sampler::new(Box::new(Aimd::new()), Duration::ZERO).sample(Instant::now(), MS, 0);
    }
}
