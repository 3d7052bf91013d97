//! What to do when `accept` fails.

use std::{io, time::Duration};

/// The pause after the first failure; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// The pause before `accept` is tried again.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// A connection was accepted.
    pub(super) fn accepted(&mut self) {
        self.last = None;
    }

    /// `accept` failed. `None`: only that one connection was lost, go on at once.
    ///
    /// Everything else (no descriptors, no memory) lasts, and trying again at once would only burn the processor.
    pub(super) fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};

        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        let pause = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.last = Some(pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_start_again() {
        let mut pauses = Pauses::default();
        let full = || /* EMFILE */ io::Error::from_raw_os_error(24);
        let seen: Vec<_> = (0..9).filter_map(|_| pauses.failed(&full())).map(|p| p.as_millis()).collect();
        assert_eq!(seen, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        pauses.accepted();
        assert_eq!(pauses.failed(&full()), Some(FIRST));
        assert_eq!(pauses.failed(&io::ErrorKind::ConnectionAborted.into()), None);
    }
}
