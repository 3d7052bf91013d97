//! Where a request was sent: what the caller of upstreams tells those who count, log and judge.
//!
//! Whoever sends a request on tells one [`Attempt`] to the request's [`Trail`](crate::trail::Trail), so that a call
//! that never got an answer still shows where it went; where there is no trail, it puts it into the response's
//! extensions. Whoever splits traffic does the same with a [`Variant`].

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
