//! Where a request was sent: what the caller of upstreams tells those who count, log and judge.
//!
//! Whoever sends a request on tells one [`Attempt`] to the request's [`Trail`](crate::trail::Trail), so that a call
//! that never got an answer still shows where it went; where there is no trail, it puts it into the response's
//! extensions. Whoever splits traffic does the same with a [`Variant`].
//!
//! Who sends a request a second time puts [`Earlier`] into its extensions: what was tried before, so that another endpoint
//! is tried now.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// The upstream, the endpoint and the number of tries behind an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The upstream's configured name.
    pub upstream: Arc<str>,
    /// The endpoint of the last try, if one was chosen.
    pub endpoint: Option<SocketAddr>,
    /// How many tries were made, the first included.
    pub attempts: u8,
    /// How long the last try waited for its connection; `None` if a pooled one was used.
    pub connect: Option<Duration>,
}

impl Attempt {
    /// A first try at `upstream`, with no endpoint chosen yet.
    pub fn new(upstream: impl Into<Arc<str>>) -> Self {
        Self { upstream: upstream.into(), endpoint: None, attempts: 1, connect: None }
    }

    /// Names the endpoint of the last try.
    #[must_use]
    pub fn endpoint(mut self, endpoint: SocketAddr) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// Counts the tries made so far.
    #[must_use]
    pub fn attempts(mut self, attempts: u8) -> Self {
        self.attempts = attempts;
        self
    }

    /// States how long the connection took.
    #[must_use]
    pub fn connect(mut self, took: Duration) -> Self {
        self.connect = Some(took);
        self
    }
}

/// A request extension: what was tried before for the same call.
///
/// Whoever picks endpoints prefers others, counts on from there, and takes the last of these only if there is no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    attempts: u8,
    endpoints: Vec<SocketAddr>,
}

impl Earlier {
    /// Adds the attempts that `attempt` tells of; what it was told of earlier ones is in it.
    pub fn add(&mut self, attempt: &Attempt) {
        self.attempts = attempt.attempts;
        if let Some(endpoint) = attempt.endpoint {
            self.endpoints.retain(|other| *other != endpoint);
            self.endpoints.push(endpoint);
        }
    }

    /// How many tries were made.
    #[must_use]
    pub const fn attempts(&self) -> u8 {
        self.attempts
    }

    /// The endpoints that were tried, the last one last. Each stands there once.
    #[must_use]
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }
}

/// A request extension: the version that it goes to, whatever a traffic split would choose. One with a canary chooses by
/// itself in any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pinned(pub Variant);

/// Why a call that failed was not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RetryStop {
    /// All attempts that it may have were made.
    Attempts,
    /// Its body is too long to be kept, or broke off.
    Body,
    /// There are too many second attempts already.
    Budget,
    /// What is left of its time does not suffice.
    Deadline,
    /// The server has said not to, or to come much later.
    Told,
    /// It might be done twice: it is not idempotent, and may have been done already.
    Unsafe,
}

impl RetryStop {
    /// Every one.
    pub const ALL: &'static [Self] =
        &[Self::Attempts, Self::Body, Self::Budget, Self::Deadline, Self::Told, Self::Unsafe];

    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Body => "body",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Told => "told",
            Self::Unsafe => "unsafe",
        }
    }
}

/// The configured name of the version that a traffic split chose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant(pub Arc<str>);

impl Variant {
    /// The variant called `name`.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
