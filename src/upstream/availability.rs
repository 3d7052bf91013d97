use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

/// Why an endpoint is not given requests, whatever else speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// It is new, and is being [connected to](super::UpstreamBuilder::preconnect).
    Connecting,
    /// It is going: what it has begun it ends, and it begins nothing.
    Draining,
    /// Too many of its answers were failures.
    Ejected,
    /// Its circuit breaker is open.
    Open,
    /// It has [to answer well first](super::health::Policy::wait_for_first), and has not answered yet.
    Unheard,
    /// It fails its health checks.
    Unhealthy,
}

impl Withheld {
    /// Every one.
    pub const ALL: &'static [Self] =
        &[Self::Connecting, Self::Draining, Self::Ejected, Self::Open, Self::Unheard, Self::Unhealthy];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Open => "open",
            Self::Unheard => "unheard",
            Self::Unhealthy => "unhealthy",
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Whether an endpoint takes requests, and if not, for which reasons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Availability(u8);

impl Availability {
    /// Whether it takes requests.
    #[must_use]
    pub const fn takes(self) -> bool {
        self.0 == 0
    }

    /// Why not.
    pub fn reasons(self) -> impl Iterator<Item = Withheld> {
        Withheld::ALL.iter().copied().filter(move |why| self.0 & why.bit() != 0)
    }
}

impl fmt::Debug for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.reasons()).finish()
    }
}

/// The reasons that stand for ever, until somebody takes them away.
pub(super) const WITHHELD: u8 = 0x3f;
/// It could not be reached a moment ago. Passes with time.
pub(super) const RESTS: u8 = 0x40;
/// It is new, and is given more and more. Passes with time.
pub(super) const WARMS: u8 = 0x80;

/// All that may speak against an endpoint, in one word: a zero is looked at no further.
#[derive(Default)]
pub(super) struct State(AtomicU8);

impl State {
    pub(super) fn bits(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether that changes anything.
    pub(super) fn set(&self, bit: u8, on: bool) -> bool {
        let before = match on {
            true => self.0.fetch_or(bit, Ordering::Relaxed),
            false => self.0.fetch_and(!bit, Ordering::Relaxed),
        };
        (before & bit != 0) != on
    }

    pub(super) fn availability(&self) -> Availability {
        Availability(self.bits() & WITHHELD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_for_itself() {
        let state = State::default();
        assert!(state.availability().takes());
        assert!(state.set(Withheld::Ejected.bit(), true) && state.set(Withheld::Open.bit(), true));
        assert!(!state.set(Withheld::Open.bit(), true), "it stood there");
        assert!(!state.availability().takes());
        assert_eq!(format!("{:?}", state.availability()), "{Ejected, Open}");
        assert!(state.set(Withheld::Ejected.bit(), false));
        assert_eq!(state.availability().reasons().collect::<Vec<_>>(), [Withheld::Open]);
        assert!(state.set(Withheld::Open.bit(), false) && !state.set(Withheld::Unhealthy.bit(), false));
        assert!(state.availability().takes());
    }

    #[test]
    fn what_passes_with_time_is_no_reason() {
        let state = State::default();
        state.set(RESTS | WARMS, true);
        assert!(state.availability().takes());
        let all = Withheld::ALL.iter().fold(0, |bits, why| bits | why.bit());
        assert_eq!(all, WITHHELD);
        assert_eq!(all & (RESTS | WARMS), 0);
    }
}
