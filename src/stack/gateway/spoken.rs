//! What is spoken on the connections of a listener.
use std::time::Duration;

use crate::transport::Streams;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Spoken {
    #[default]
    Http,
    /// Nothing that we know.
    Tcp,
    /// Either, which is told by the first bytes, that come in this time.
    Detect(Duration),
}

impl Spoken {
    /// Whether there may be connections that do not carry HTTP.
    pub(super) const fn takes_others(self) -> bool {
        !matches!(self, Self::Http)
    }

    /// Whether no connection carries HTTP.
    pub(super) const fn takes_nothing_else(self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// What is done with those that do not.
    pub(super) fn streams<F>(self, forward: F) -> Streams<F> {
        match self {
            Self::Http => Streams::none(forward),
            Self::Tcp => Streams::all(forward),
            Self::Detect(patience) => Streams::detected(forward).patience(patience),
        }
    }
}
