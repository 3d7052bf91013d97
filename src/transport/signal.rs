use std::future::{pending, poll_fn};

/// Resolves at the next SIGTERM or SIGINT (on Windows: Ctrl-C).
///
/// From the first call on, these signals no longer end the process by themselves. Call it again for the second
/// signal.
pub async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                poll_fn(|cx| match terminate.poll_recv(cx) {
                    std::task::Poll::Pending => interrupt.poll_recv(cx),
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
    #[cfg(not(unix))]
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "Ctrl-C cannot be listened to");
        pending::<()>().await;
    }
}
