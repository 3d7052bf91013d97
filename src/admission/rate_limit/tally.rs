use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// What became of requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) admitted: Count,
    pub(super) refused: Count,
    pub(super) spared: Count,
}

/// A number that many threads count up. The first of them have a cache line each, into which nobody else writes; all others
/// share the last.
#[derive(Debug, Default)]
pub(super) struct Count([Padded; CELLS]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

const CELLS: usize = 8;

impl Count {
    #[inline]
    pub(super) fn add_one(&self) {
        let (own, shared) = (own(), CELLS - 1);
        let cell = &self.0[own.min(shared)].0;
        if own < shared {
            cell.store(cell.load(Relaxed).wrapping_add(1), Relaxed);
        } else {
            cell.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn read(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

/// The number of this thread, which no other has had or will have; the last where it cannot be told any more.
#[inline]
fn own() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.try_with(|own| {
        if own.get() == usize::MAX {
            own.set(THREADS.fetch_add(1, Relaxed));
        }
        own.get()
    })
    .unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_lose_nothing() {
        let count = Count::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| (0..1000).for_each(|_| count.add_one()));
            }
        });
        assert_eq!(count.read(), 20_000);
    }
}
