use std::future::{Future, pending};

/// Resolves at the next SIGTERM or SIGINT after this call (on Windows: Ctrl-C).
///
/// From the first call on, these signals no longer end the process by themselves; so call it before you say that you are
/// ready, and await it later. Call it again for the second signal.
///
/// # Panics
/// Outside of a tokio runtime with IO enabled.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    #[cfg(unix)]
    {
        use std::{future::poll_fn, task::Poll};

        use tokio::signal::unix::{SignalKind, signal};

        let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        async move {
            match signals {
                (Ok(mut terminate), Ok(mut interrupt)) => {
                    poll_fn(|cx| match terminate.poll_recv(cx) {
                        Poll::Pending => interrupt.poll_recv(cx),
                        ready => ready,
                    })
                    .await;
                }
                (terminate, interrupt) => {
                    tracing::error!(?terminate, ?interrupt, "signals cannot be listened to");
                    pending::<()>().await;
                }
            }
        }
    }
    #[cfg(not(unix))]
    async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be listened to");
            pending::<()>().await;
        }
    }
}
