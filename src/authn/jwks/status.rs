//! How a source of keys is doing.

use std::{fmt, time::Duration};

/// What a source of keys looks like at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemoteStatus {
    /// Whether there are keys, and how good they are.
    pub state: RemoteState,
    /// How many keys verify.
    pub keys: usize,
    /// How many of the last set were left out, because they cannot be used.
    pub skipped: usize,
    /// How long ago the present set was fetched.
    pub age: Option<Duration>,
    /// How long until the next fetch; none, if nobody has used the keys yet.
    pub next: Option<Duration>,
    /// How many fetches had each result.
    pub fetches: [(FetchResult, u64); FetchResult::ALL.len()],
    /// What was wrong with the last fetch, if something was.
    pub last_error: Option<Box<str>>,
}

/// Whether there are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemoteState {
    /// Not yet, or not any more: tokens are answered 503.
    Unknown,
    /// Yes, and their provider wants them to be used.
    Fresh,
    /// Yes, but they should have been replaced by now, and could not be.
    Stale,
}

/// What became of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchResult {
    /// A key set.
    Success,
    /// No connection, or it broke.
    Unreachable,
    /// Not in time.
    Timeout,
    /// An answer with another status than 200.
    Refused,
    /// A redirect to another origin, or too many.
    Redirected,
    /// More bytes than are read.
    TooLarge,
    /// Metadata of another issuer.
    WrongIssuer,
    /// Something that is no metadata, or no key set with a usable key.
    Unusable,
}

impl RemoteState {
    /// The name in status and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
        }
    }
}

impl FetchResult {
    /// Every result.
    pub const ALL: &'static [Self; 8] = &[
        Self::Success,
        Self::Unreachable,
        Self::Timeout,
        Self::Refused,
        Self::Redirected,
        Self::TooLarge,
        Self::WrongIssuer,
        Self::Unusable,
    ];

    /// The metric label: snake case, stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
            Self::TooLarge => "too_large",
            Self::WrongIssuer => "wrong_issuer",
            Self::Unusable => "unusable",
        }
    }
}

impl fmt::Display for RemoteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Display for FetchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
