//! How long answers take lately: a percentile of it, at hand for every call.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::ratio::Ratio;

/// How long each of the two windows lasts.
const SPAN: Duration = Duration::from_secs(10);
/// A percentile of fewer is an accident.
const FEWEST: u64 = 100;
/// How many answers come between two looks at all of them.
const UNREAD: u64 = 32;

/// Each power of two has eight buckets.
const EIGHTHS: u32 = 3;
/// What takes longer, in microseconds, is taken for that: a good two minutes.
const LONGEST: u64 = (1 << 27) - 1;
const BUCKETS: usize = bucket(LONGEST) + 1;

/// Times of answers of the last 10 to 20 seconds, in two windows of buckets: 1.6 KB, whatever happens.
///
/// A bucket is an eighth of its lower end wide, and a percentile is its upper end: never too short, and too long by an eighth
/// at most. Recording is an addition; each 32nd time all buckets are looked at, without anybody waiting for it. Times that
/// come while a window is emptied may be lost.
#[derive(Debug)]
pub(super) struct Latencies {
    share: Ratio,
    windows: [[AtomicU32; BUCKETS]; 2],
    /// Which of them is filled.
    filled: AtomicUsize,
    recorded: AtomicU64,
    /// In microseconds; 0 while it is not known.
    percentile: AtomicU64,
    /// When the window began that is filled.
    since: Mutex<Option<Instant>>,
}

impl Latencies {
    pub(super) fn new(share: Ratio) -> Self {
        let window = || [const { AtomicU32::new(0) }; BUCKETS];
        Self {
            share,
            windows: [window(), window()],
            filled: AtomicUsize::new(0),
            recorded: AtomicU64::new(0),
            percentile: AtomicU64::new(0),
            since: Mutex::default(),
        }
    }

    pub(super) const fn share(&self) -> Ratio {
        self.share
    }

    /// The time within which the share of the answers came, once that is known.
    pub(super) fn percentile(&self) -> Option<Duration> {
        Some(self.percentile.load(Relaxed)).filter(|micros| *micros > 0).map(Duration::from_micros)
    }

    pub(super) fn record(&self, time: Duration, now: Instant) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        self.windows[self.filled.load(Relaxed)][bucket(micros.min(LONGEST))].fetch_add(1, Relaxed);
        if (self.recorded.fetch_add(1, Relaxed) + 1).is_multiple_of(UNREAD) {
            self.look(now);
        }
    }

    /// Unless somebody else is at it.
    #[cold]
    fn look(&self, now: Instant) {
        let Ok(mut since) = self.since.try_lock() else { return };
        let age = now.saturating_duration_since(*since.get_or_insert(now));
        if age >= SPAN {
            let elder = 1 - self.filled.load(Relaxed);
            self.empty(elder);
            self.filled.store(elder, Relaxed);
            *since = Some(now);
            if age >= 2 * SPAN {
                // After a quiet time the younger is old as well.
                self.empty(1 - elder);
            }
        }
        self.percentile.store(self.read(), Relaxed);
    }

    fn empty(&self, window: usize) {
        self.windows[window].iter().for_each(|count| count.store(0, Relaxed));
    }

    /// In microseconds; 0 if there are too few.
    fn read(&self) -> u64 {
        let [one, other] = &self.windows;
        let counts = || {
            one.iter()
                .zip(other)
                .map(|(one, other)| u64::from(one.load(Relaxed)) + u64::from(other.load(Relaxed)))
        };
        let total: u64 = counts().sum();
        if total < FEWEST {
            return 0;
        }
        let (share, whole) = (u128::from(self.share.numerator()), u128::from(self.share.denominator()));
        let wanted = (u128::from(total) * share).div_ceil(whole);
        let mut within = 0_u128;
        let found = counts().position(|count| {
            within += u128::from(count);
            within >= wanted
        });
        end(found.unwrap_or(BUCKETS - 1))
    }
}

/// The bucket of so many microseconds.
const fn bucket(micros: u64) -> usize {
    if micros < 1 << EIGHTHS {
        return micros as usize;
    }
    let log = micros.ilog2();
    let eighth = micros >> (log - EIGHTHS) & 7;
    (((log - EIGHTHS + 1) << EIGHTHS) as u64 | eighth) as usize
}

/// Where a bucket ends, in microseconds: the next begins there.
const fn end(bucket: usize) -> u64 {
    let (power, eighth) = (bucket as u64 >> EIGHTHS, bucket as u64 & 7);
    if power == 0 { eighth + 1 } else { (8 + eighth + 1) << (power - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn filled(share: Ratio, times: impl IntoIterator<Item = Duration>) -> Latencies {
        let latencies = Latencies::new(share);
        let now = Instant::now();
        times.into_iter().for_each(|time| latencies.record(time, now));
        latencies
    }

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for at in 0..BUCKETS - 1 {
            assert_eq!((bucket(end(at)), bucket(end(at) - 1)), (at + 1, at));
        }
        assert_eq!((BUCKETS, end(BUCKETS - 1)), (200, LONGEST + 1));
        assert!(size_of::<Latencies>() < 1_700);
    }

    #[test]
    fn few_answers_say_nothing() {
        let half = Ratio::percent(50);
        assert_eq!(filled(half, [MS; 96]).percentile(), None);
        assert!(filled(half, [MS; 128]).percentile().is_some());
        assert!(filled(half, [Duration::MAX; 128]).percentile() > Some(Duration::from_secs(120)));
        assert!(filled(half, [Duration::ZERO; 128]).percentile() <= Some(Duration::from_micros(1)));
    }

    /// What was is not what is: old times leave, after a quiet time all of them at once.
    #[tokio::test(start_paused = true)]
    async fn old_times_leave() {
        let latencies = filled(Ratio::percent(50), [100 * MS; 512]);
        for (pause, expected) in [(0, 100), (10, 100), (10, 10)] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            let now = Instant::now();
            (0..64).for_each(|_| latencies.record(10 * MS, now));
            let known = latencies.percentile().unwrap();
            assert!(known >= expected * MS && known <= expected * MS * 9 / 8 + MS, "{known:?} of {expected}");
            (0..64).for_each(|_| latencies.record(10 * MS, now));
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        (0..32).for_each(|_| latencies.record(MS, Instant::now()));
        assert_eq!(latencies.percentile(), None);
    }

    #[test]
    fn threads_record_at_once() {
        let latencies = Latencies::new(Ratio::percent(90));
        let now = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..16_000_u32).for_each(|n| latencies.record(n % 100 * MS, now)));
            }
        });
        let known = latencies.percentile().unwrap();
        assert!(known >= 89 * MS && known <= 101 * MS, "{known:?}");
    }

    proptest! {
        /// Never too short, and too long by an eighth at most.
        #[test]
        fn a_percentile_is_as_exact_as_it_says(
            percent in 1_u8..100,
            mut micros in prop::collection::vec(1_u64..50_000_000, 128..=128),
        ) {
            let latencies = filled(Ratio::percent(percent), micros.iter().copied().map(Duration::from_micros));
            micros.sort_unstable();
            let exact = micros[(128 * usize::from(percent)).div_ceil(100) - 1];
            let known = u64::try_from(latencies.percentile().unwrap().as_micros()).unwrap();
            prop_assert!(known > exact && known <= exact + exact / 8 + 1, "{known} of {exact}");
        }
    }
}
