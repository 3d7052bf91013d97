use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How many laps late a result may be told and still be known as late.
const LATE: u32 = 1 << 16;

/// A ring of buckets, in which every counter carries the lap that it belongs to.
///
/// A bucket is used again on the next lap. Because lap and count are one word, nobody has to empty it first:
/// whoever comes first in a new lap replaces the word, and a word of another lap counts as zero. There is no
/// moment at which a bucket is half emptied.
pub(super) struct Timed<const N: usize> {
    origin: Instant,
    bucket: u64,
    /// Lap in the high half, count in the low half.
    ring: Box<[[AtomicU64; N]]>,
}

/// Where an instant falls.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    lap: u32,
}

impl<const N: usize> Timed<N> {
    pub(super) fn new(origin: Instant, span: Duration, buckets: NonZeroU16) -> Self {
        let bucket = nanos(span / u32::from(buckets.get())).max(1);
        let ring = (0..buckets.get()).map(|_| [const { AtomicU64::new(0) }; N]).collect();
        Self { origin, bucket, ring }
    }

    pub(super) fn bucket(&self) -> Duration {
        Duration::from_nanos(self.bucket)
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn record(&self, now: Instant, counts_for: [bool; N]) {
        let place = self.place(now);
        for (word, counts) in self.ring[place.slot].iter().zip(counts_for) {
            if counts {
                count(word, place.lap);
            }
        }
    }

    pub(super) fn totals(&self, now: Instant) -> [u64; N] {
        let now = self.place(now);
        let mut totals = [0; N];
        for (slot, words) in self.ring.iter().enumerate() {
            // What lies ahead of this lap's place was written in the lap before.
            let lap = if slot <= now.slot { now.lap } else { now.lap.wrapping_sub(1) };
            for (total, word) in totals.iter_mut().zip(words) {
                let (written, count) = unpack(word.load(Ordering::Relaxed));
                if written == lap {
                    *total += u64::from(count);
                }
            }
        }
        totals
    }

    pub(super) fn clear(&self) {
        for word in self.ring.iter().flatten() {
            word.store(0, Ordering::Relaxed);
        }
    }

    fn place(&self, now: Instant) -> Place {
        let tick = nanos(now.saturating_duration_since(self.origin)) / self.bucket;
        let len = self.ring.len() as u64;
        // Laps begin at 1, so that a word which was never written belongs to none.
        Place { slot: (tick % len) as usize, lap: ((tick / len) as u32).wrapping_add(1) }
    }
}

/// Adds one to the count of this lap.
fn count(word: &AtomicU64, lap: u32) {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let (written, count) = unpack(seen);
        let next = match written.wrapping_sub(lap) {
            0 => pack(lap, count.saturating_add(1)),
            1..LATE => return,
            _ => pack(lap, 1),
        };
        match word.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(changed) => seen = changed,
        }
    }
}

fn pack(lap: u32, count: u32) -> u64 {
    u64::from(lap) << 32 | u64::from(count)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// A `u64` holds 584 years of them.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
