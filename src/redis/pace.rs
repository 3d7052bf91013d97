use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// Lets one through in each so much time, however many come.
#[derive(Debug)]
pub(super) struct Pace {
    born: Instant,
    every: u64,
    /// When the next may go, in milliseconds.
    next: AtomicU64,
}

impl Pace {
    pub(super) fn new(every: Duration) -> Self {
        Self { born: Instant::now(), every: every.as_millis() as u64, next: AtomicU64::new(0) }
    }

    /// Whether this one goes.
    pub(super) fn lets(&self) -> bool {
        let (now, next) = (self.born.elapsed().as_millis() as u64, self.next.load(Relaxed));
        now >= next && self.next.compare_exchange(next, now + self.every, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_goes_in_each_time() {
        let pace = Pace::new(Duration::from_millis(50));
        for _ in 0..3 {
            assert!(pace.lets());
            assert!((0..100).all(|_| !pace.lets()));
            tokio::time::advance(Duration::from_millis(49)).await;
            assert!(!pace.lets());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }
}
