//! The end of a connection of which others know what is in flight, and we do not.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::task::{Unconstrained, unconstrained};

use super::tenure::Tenure;

type End = Pin<Box<dyn Future<Output = ()> + Send>>;

/// When no byte is read from a connection any more, nor written.
#[derive(Default)]
pub(super) enum Term {
    /// Never, or somebody else sees to it.
    #[default]
    Open,
    /// With its tenure, which nobody has looked at yet.
    Bounded,
    Running(Unconstrained<End>),
    Over,
}

impl Term {
    /// Whether it has come to its end now, and not before.
    pub(super) fn ends(&mut self, cx: &mut Context<'_>, tenure: impl FnOnce() -> Tenure) -> bool {
        if let Self::Bounded = self {
            // Who keeps its task busy without end must not keep this from being seen.
            *self = Self::Running(unconstrained(Box::pin(tenure().end())));
        }
        let Self::Running(end) = self else { return false };
        let is_over = Pin::new(end).poll(cx) == Poll::Ready(());
        if is_over {
            *self = Self::Over;
        }
        is_over
    }

    pub(super) fn check(&self) -> io::Result<()> {
        match self {
            Self::Over => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the peer's certificate has expired, or is not believed any more",
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Bounded | Self::Running(_) => "Bounded",
            Self::Over => "Over",
        })
    }
}
