use std::{
    fmt,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    head::Head,
    key::{Key, KeySeed},
};

/// Accounts: 64 KiB, however many addresses there are.
const CELLS: usize = 8_192;
/// No time between failures is longer: it keeps every sum within 64 bits.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How many failures an address (IPv6: a /64) may have before it is answered 429 instead of 401.
///
/// A valid key always passes: nobody behind the same address can lock its owner out, and nothing is gained by guessing
/// at 256 random bits. What is bounded is what failures cost us and what they fill our logs with.
///
/// It is the generic cell rate algorithm over a fixed number of accounts, of which each address is given one under a
/// secret seed: nothing is allocated or locked, and no flood of addresses makes it grow. Two addresses may be given
/// the same account; then the failures of one may turn a 401 of the other into a 429.
pub struct FailureLimit {
    cells: Box<[AtomicU64]>,
    seed: KeySeed,
    origin: Instant,
    /// Nanoseconds in which one failure is forgiven.
    interval: u64,
    /// Nanoseconds in which all of them are.
    whole: u64,
}

impl FailureLimit {
    /// `count` failures at once, and as many again in each `period`. An interval between two of more than a day is as a
    /// day.
    #[must_use]
    pub fn new(count: NonZeroU32, period: Duration) -> Self {
        let interval = nanos((period / count.get()).clamp(Duration::from_nanos(1), LONGEST));
        Self {
            cells: std::iter::repeat_with(AtomicU64::default).take(CELLS).collect(),
            seed: KeySeed::new(),
            origin: Instant::now(),
            interval,
            whole: interval.saturating_mul(u64::from(count.get())),
        }
    }

    /// Counts a failure of whoever sent this; or tells how long it takes until the next would count.
    pub(super) fn count(&self, head: &mut Head<'_>) -> Result<(), Duration> {
        let now = nanos(head.now().saturating_duration_since(self.origin));
        let cell = &self.cells[(Key::ClientAddr.fingerprint(head, &self.seed) as usize) % CELLS];
        // An account holds the time at which it will be whole again.
        let counted = cell.fetch_update(Relaxed, Relaxed, |due| {
            let due = due.max(now) + self.interval;
            (due - now <= self.whole).then_some(due)
        });
        counted.map(drop).map_err(|due| Duration::from_nanos(due.max(now) + self.interval - self.whole - now))
    }
}

impl Default for FailureLimit {
    /// 20 failures at once, and one more every 3 seconds.
    fn default() -> Self {
        const COUNT: NonZeroU32 = NonZeroU32::new(20).unwrap();
        Self::new(COUNT, Duration::from_secs(60))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}

impl fmt::Debug for FailureLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureLimit")
            .field("interval", &Duration::from_nanos(self.interval))
            .field("whole", &Duration::from_nanos(self.whole))
            .finish_non_exhaustive()
    }
}
