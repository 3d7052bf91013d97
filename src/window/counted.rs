use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A ring of the last results, and the sums over it.
///
/// Whoever replaces a result takes it out of the sums in the same step. As the replacement is one atomic swap,
/// each result is put in once and taken out once, in whatever order threads come.
pub(super) struct Counted<const N: usize> {
    next: AtomicUsize,
    /// For which counters a result counts, one bit each.
    ring: Box<[AtomicU32]>,
    /// They wrap: a result may be taken out by one thread before the one that put it in has added it.
    sums: [AtomicU64; N],
}

impl<const N: usize> Counted<N> {
    pub(super) fn new(results: NonZeroU16) -> Self {
        const { assert!(N <= 32, "a window by count has at most 32 counters") };
        Self {
            next: AtomicUsize::new(0),
            ring: (0..results.get()).map(|_| AtomicU32::new(0)).collect(),
            sums: [const { AtomicU64::new(0) }; N],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn record(&self, counts_for: [bool; N]) {
        let bits =
            counts_for.iter().enumerate().fold(0, |bits, (at, counts)| bits | u32::from(*counts) << at);
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % self.ring.len();
        self.replace(&self.ring[slot], bits);
    }

    fn replace(&self, result: &AtomicU32, new: u32) {
        let old = result.swap(new, Ordering::Relaxed);
        for (at, sum) in self.sums.iter().enumerate() {
            match (new >> at & 1, old >> at & 1) {
                (1, 0) => _ = sum.fetch_add(1, Ordering::Relaxed),
                (0, 1) => _ = sum.fetch_sub(1, Ordering::Relaxed),
                _ => {}
            }
        }
    }

    pub(super) fn totals(&self) -> [u64; N] {
        self.sums.each_ref().map(|sum| {
            let sum = sum.load(Ordering::Relaxed).cast_signed();
            sum.clamp(0, self.ring.len() as i64).cast_unsigned()
        })
    }

    pub(super) fn clear(&self) {
        for result in &self.ring {
            self.replace(result, 0);
        }
    }

    #[cfg(test)]
    pub(super) fn results(&self) -> impl Iterator<Item = u32> {
        self.ring.iter().map(|result| result.load(Ordering::Relaxed))
    }
}
