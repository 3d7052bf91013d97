//! When a change is taken: once it has come to rest, and at the latest after a second.
use std::time::Duration;

use tokio::time::Instant;

/// How often files are looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);
/// How long a change that does not come to rest is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was taken, and what was seen last.
#[derive(Debug)]
pub(super) struct Debounce<T> {
    taken: T,
    last: T,
    since: Option<Instant>,
}

impl<T: PartialEq + Clone> Debounce<T> {
    pub(super) fn new(taken: T) -> Self {
        Self { last: taken.clone(), taken, since: None }
    }

    /// Whether what is seen now is to be taken.
    pub(super) fn look(&mut self, seen: T, now: Instant) -> bool {
        if seen == self.taken {
            (self.last, self.since) = (seen, None);
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let rests = seen == self.last || now - since >= PATIENCE;
        self.last = seen;
        if rests {
            self.take(self.last.clone());
        }
        rests
    }

    /// Tells that this was taken.
    pub(super) fn take(&mut self, taken: T) {
        *self = Self::new(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at each state in turn, and returns at which of them it was taken.
    fn taken(states: &[u32]) -> Vec<usize> {
        let (mut debounce, start) = (Debounce::new(0), Instant::now());
        let mut at = |index: usize, state| debounce.look(state, start + LOOK * u32::try_from(index).unwrap());
        states.iter().enumerate().filter_map(|(index, &state)| at(index, state).then_some(index)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_taken_when_it_rests() {
        assert_eq!(taken(&[0, 0, 1, 1, 1, 1]), [3]);
        assert!(taken(&[0, 1, 0, 0]).is_empty(), "and not if it was taken back");
        assert_eq!(taken(&[1, 2, 3, 3, 3]), [3]);
        assert_eq!(taken(&[1, 1, 2, 2]), [1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_not_waited_for_without_end() {
        let storm: Vec<u32> = (1..=20).collect();
        assert_eq!(taken(&storm), [4, 9, 14, 19]);
    }
}
