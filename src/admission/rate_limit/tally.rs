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

/// A number that many threads count up, each in a cache line of its own as far as there are some.
#[derive(Debug, Default)]
pub(super) struct Count([Padded; CELLS]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Padded(AtomicU64);

const CELLS: usize = 8;

impl Count {
    #[inline]
    pub(super) fn add_one(&self) {
        self.0[own()].0.fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

/// The number of this thread.
#[inline]
fn own() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static OWN: Cell<usize> = const { Cell::new(usize::MAX) });
    OWN.try_with(|own| {
        if own.get() == usize::MAX {
            own.set(THREADS.fetch_add(1, Relaxed) % CELLS);
        }
        own.get()
    })
    .unwrap_or_default()
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
