//! What is logged of handshakes that fail, and of heads that become no request: that may be as often as strangers like.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The most lines in the time below.
const MOST: u32 = 5;
const TIME: Duration = Duration::from_secs(1);

/// What went wrong for one kind of reason.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Lines {
    /// Whether a line may be logged now; how many were left out before it.
    pub(crate) fn next(&self) -> Option<u64> {
        let (mut counts, now) = (self.counts(), Instant::now());
        if counts.since.is_none_or(|since| now.saturating_duration_since(since) >= TIME) {
            counts.since = Some(now);
            counts.lines = 0;
        }
        if counts.lines >= MOST {
            counts.left_out += 1;
            return None;
        }
        counts.lines += 1;
        Some(std::mem::take(&mut counts.left_out))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_a_few_lines_a_second_and_a_count_of_the_others() {
        let lines = Lines::default();
        for before in [0, 95] {
            let mut told: Vec<_> = (0..100).map(|_| lines.next()).collect();
            told.truncate(6);
            assert_eq!(told, [Some(before), Some(0), Some(0), Some(0), Some(0), None]);
            advance(TIME).await;
        }
        assert_eq!(lines.next(), Some(95));
    }
}
