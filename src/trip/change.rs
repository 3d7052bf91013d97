use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Where a machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything goes.
    Closed,
    /// Nothing goes.
    Open,
    /// The wait is over, and probes go.
    HalfOpen,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Who says where a machine stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// It does.
    #[default]
    Enforced,
    /// It does, and nobody heeds it: everything goes, and what would not have gone is counted.
    Observed,
    /// Somebody has opened it, until another mode is set. Nothing goes, not even a probe.
    ForcedOpen,
    /// Somebody has closed it, until another mode is set. Everything goes, whatever fails.
    ForcedClosed,
}

impl Mode {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Enforced, Self::Observed, Self::ForcedOpen, Self::ForcedClosed];

    /// The word for it in the status: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Observed => "observed",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }

    pub(super) const fn of(number: u8) -> Self {
        match number {
            1 => Self::Observed,
            2 => Self::ForcedOpen,
            3 => Self::ForcedClosed,
            _ => Self::Enforced,
        }
    }
}

/// Why a machine has come to stand where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It opened: so many failed in a row.
    Consecutive,
    /// It opened: so large a share failed.
    FailureRate,
    /// It opened: so large a share was slow.
    SlowRate,
    /// It opened again: a probe failed.
    Probe,
    /// It is half open: its wait is over, and somebody came.
    Waited,
    /// It closed: its probes succeeded.
    Recovered,
    /// Somebody said so: a [mode](Mode) was set, or all was forgotten.
    Told,
}

impl Cause {
    /// The word for it in logs: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::SlowRate => "slow_rate",
            Self::Probe => "probe",
            Self::Waited => "waited",
            Self::Recovered => "recovered",
            Self::Told => "told",
        }
    }
}

/// A machine stands elsewhere from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Where.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// How long it stays open. `None` if it is not, or until somebody says otherwise.
    pub wait: Option<Duration>,
}

/// What is told of each change, in their order and while the machine is locked: it is quick, and asks no machine anything.
pub type Watcher = Arc<dyn Fn(&Change) + Send + Sync>;

/// What machines have come to.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    opened: AtomicU64,
    refused: AtomicU64,
    spared: AtomicU64,
}

impl Counts {
    pub(super) fn open(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn spare(&self) {
        self.spared.fetch_add(1, Relaxed);
    }

    /// How often one opened, again after a probe too.
    #[cfg(feature = "resilience")]
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// How many were told that it is open.
    #[cfg(feature = "resilience")]
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How many went only because it is observed.
    #[cfg(feature = "resilience")]
    pub(crate) fn spared(&self) -> u64 {
        self.spared.load(Relaxed)
    }
}
