use std::fmt;

/// A law that every layer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Law {
    /// The instance that was made ready is the one that is called.
    Readiness,
    /// The layer owns the shared state: `layer()` twice, or on a clone, is still one limit.
    SharedState,
    /// Nothing leaks when a future or a body is dropped.
    Cancellation,
    /// A permit that means "in flight" lives until the body has ended or the tunnel has closed.
    InFlight,
    /// Wrapped bodies keep data, trailers, `size_hint` and `is_end_stream`.
    Bodies,
    /// The inner error type is untouched.
    Errors,
    /// No unbounded memory.
    Memory,
    /// No lock is held across an await, and nothing busy-waits.
    Waiting,
    /// A decision that lets pass allocates nothing.
    Allocation,
    /// Time is tokio's, and a paused clock moves it.
    Time,
    /// `Send + Sync + Clone + 'static` services, `Send` futures.
    Types,
    /// Nothing global is installed, and no runtime is needed to build it.
    Globals,
}

impl Law {
    /// Every law, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Readiness,
        Self::SharedState,
        Self::Cancellation,
        Self::InFlight,
        Self::Bodies,
        Self::Errors,
        Self::Memory,
        Self::Waiting,
        Self::Allocation,
        Self::Time,
        Self::Types,
        Self::Globals,
    ];

    /// The law's number, from 1.
    #[must_use]
    pub const fn number(self) -> usize {
        self as usize + 1
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Readiness => "calls the instance that was made ready",
            Self::SharedState => "the layer owns the shared state",
            Self::Cancellation => "nothing leaks when dropped",
            Self::InFlight => "permits live until the body has ended",
            Self::Bodies => "bodies keep data, trailers, hint and end",
            Self::Errors => "the inner error type is untouched",
            Self::Memory => "memory is bounded",
            Self::Waiting => "no lock across an await, no busy wait",
            Self::Allocation => "letting pass allocates nothing",
            Self::Time => "time is tokio's",
            Self::Types => "Send, Sync, Clone, 'static",
            Self::Globals => "nothing global",
        })
    }
}
