//! The end of a connection of which others know what is in flight, and we do not.

use std::{convert::Infallible, fmt, io, pin::Pin, task::Context};

use tokio::{
    sync::oneshot,
    task::{AbortHandle, Unconstrained, unconstrained},
};

use super::tenure::Tenure;

/// When no byte is read from a connection any more, nor written.
#[derive(Default)]
pub(super) enum Term {
    /// Never, or somebody else sees to it.
    #[default]
    Open,
    /// With its tenure, which nobody has looked at yet.
    Bounded,
    Running(Waiting),
    Over,
}

/// A task of its own waits for the end, and ends with the connection: who serves that may not look at it for long, and must keep
/// nobody else's peers from being looked at again meanwhile.
pub(super) struct Waiting {
    /// Where those who read and those who write see it: each may be a task. What is sent is dropped with that task.
    halves: [Unconstrained<oneshot::Receiver<Infallible>>; 2],
    task: AbortHandle,
}

impl Waiting {
    fn begin(end: impl Future<Output = ()> + Send + 'static) -> Self {
        let ((read, reads), (write, writes)) = (oneshot::channel(), oneshot::channel());
        let task = tokio::spawn(async move {
            end.await;
            drop((read, write));
        });
        // Who keeps its task busy without end must not keep this from being seen.
        Self { halves: [reads, writes].map(unconstrained), task: task.abort_handle() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Term {
    /// Whether it has come to its end now, and not before. The half that asks is woken when it does.
    pub(super) fn ends(
        &mut self,
        cx: &mut Context<'_>,
        half: usize,
        tenure: impl FnOnce() -> Tenure,
    ) -> bool {
        if let Self::Bounded = self {
            *self = Self::Running(Waiting::begin(tenure().end()));
        }
        let Self::Running(waiting) = self else { return false };
        let is_over = Pin::new(&mut waiting.halves[half]).poll(cx).is_ready();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        runtime::Handle,
        task::yield_now,
        time::{Instant, sleep},
    };

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn alive() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    #[tokio::test(start_paused = true)]
    async fn both_halves_are_woken_at_the_end() {
        let ends = Instant::now() + HOUR;
        let tenure = move || Tenure { ends: Some(ends), ..Tenure::default() };
        let mut term = Term::Bounded;
        let mut halves = [(); 2].map(tokio_test::task::spawn);
        for (half, task) in halves.iter_mut().enumerate() {
            assert!(!task.enter(|cx, _| term.ends(cx, half, tenure)));
        }
        sleep(HOUR).await;
        assert!(halves.iter().all(|task| !task.is_woken()), "what is in flight has its time");
        term.check().unwrap();
        sleep(HOUR).await;
        assert!(halves.iter().all(|task| task.is_woken()));
        assert!(halves[1].enter(|cx, _| term.ends(cx, 1, tenure)));
        assert!(!halves[0].enter(|cx, _| term.ends(cx, 0, tenure)), "it is told once");
        term.check().unwrap_err();
        assert_eq!(alive(), 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_the_end_of_what_is_gone() {
        let mut task = tokio_test::task::spawn(());
        let mut term = Term::Bounded;
        assert_eq!(alive(), 0, "nor for that of one that nobody has read from");
        assert!(!task.enter(|cx, _| term.ends(cx, 0, Tenure::default)));
        yield_now().await;
        assert_eq!(alive(), 1);
        drop(term);
        yield_now().await;
        assert_eq!(alive(), 0);
    }
}
