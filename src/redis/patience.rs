use std::time::Duration;

use tokio::time::Instant;

/// How long a command is waited for, and by how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    deadline: Duration,
    lingering: Duration,
    askers: u32,
}

impl Patience {
    /// Waits so much longer for an answer that is of no use any more but to whoever cleans up after it. To all others the
    /// server was late.
    #[cfg_attr(not(feature = "admission"), expect(dead_code, reason = "limits use it"))]
    pub(crate) fn lingering(self, time: Duration) -> Self {
        Self { lingering: time, ..self }
    }

    /// Asks for so many at once: to the breaker each of them was answered, or was not.
    #[cfg_attr(not(feature = "admission"), expect(dead_code, reason = "limits use it"))]
    pub(crate) fn of(self, askers: usize) -> Self {
        Self { askers: u32::try_from(askers).unwrap_or(u32::MAX), ..self }
    }
}

impl From<Duration> for Patience {
    /// No longer than the deadline.
    fn from(deadline: Duration) -> Self {
        Self { deadline, lingering: Duration::ZERO, askers: 1 }
    }
}

/// Until when a command is to be done, and how long that was to take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub(super) deadline: Duration,
    pub(super) at: Instant,
    /// When nobody waits for it any more.
    pub(super) last: Instant,
    pub(super) askers: u32,
}

impl Until {
    pub(super) fn of(Patience { deadline, lingering, askers }: Patience) -> Self {
        let at = crate::time::after(Instant::now(), deadline);
        Self { deadline, at, last: crate::time::after(at, lingering), askers }
    }
}
