use std::time::Duration;

use tokio::time::Instant;

/// The callers whose failure may have been their own, each with the time at which it was heard.
#[derive(Debug, Default)]
pub(super) struct Doubts(pub(super) Vec<(u64, Instant)>);

/// More callers than these are not all to blame.
pub(super) const MOST_DOUBTS: usize = 64;

impl Doubts {
    /// How many others were heard within `window`; nothing, if this one was.
    pub(super) fn hear(&mut self, caller: u64, now: Instant, window: Duration) -> Option<usize> {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < window);
        let others = self.0.len();
        if self.0.iter().any(|(known, _)| *known == caller) {
            return None;
        }
        if others < MOST_DOUBTS {
            self.0.push((caller, now));
        }
        Some(others)
    }

    /// For how long what this one says does not count.
    pub(super) fn left(&self, caller: u64, now: Instant, window: Duration) -> Option<Duration> {
        let (_, at) = self.0.iter().find(|(known, _)| *known == caller)?;
        let left = window.saturating_sub(now.saturating_duration_since(*at));
        (!left.is_zero()).then_some(left)
    }
}
