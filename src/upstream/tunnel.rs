//! An upgraded connection: bytes both ways, until one side has closed or time is up.

use std::{
    future::{pending, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, ReadBuf, copy_bidirectional},
    time::{Instant, sleep_until, timeout},
};

use super::load::Load;
use crate::{
    io::write_through,
    time::after,
    tunnel::{Tunnel, TunnelCut, TunnelLimits},
};

/// How long a tunnel lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) idle: Duration,
    pub(super) age: Duration,
}

impl Limits {
    /// The narrower of these and those that a timeout layer asks for.
    pub(super) fn narrowed(self, asked: Option<TunnelLimits>) -> Self {
        let Some(TunnelLimits { idle, until }) = asked else { return self };
        let age = until.saturating_duration_since(Instant::now());
        Self { idle: self.idle.min(idle), age: self.age.min(age) }
    }
}

/// Starts a tunnel between the two sides of an upgrade. It counts as a request in flight until it has closed.
pub(super) fn open(
    client: OnUpgrade,
    upstream: OnUpgrade,
    limits: Limits,
    cut: Option<TunnelCut>,
    load: Load,
) -> Tunnel {
    let (tunnel, guard) = Tunnel::new();
    let cut = async move {
        match cut {
            Some(cut) => cut.wait().await,
            None => pending().await,
        }
    };
    tokio::spawn(async move {
        let _held = (load, guard);
        let carried = timeout(limits.age, carry(client, upstream, limits.idle, cut)).await;
        if let Err(error) = carried.unwrap_or_else(|_| Err(timed_out("the tunnel is too old"))) {
            tracing::debug!(%error, "a tunnel was cut");
        }
    });
    tunnel
}

async fn carry(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Duration,
    cut: impl Future<Output = ()>,
) -> io::Result<()> {
    let (client, upstream) = (client.await, upstream.await);
    let (client, upstream) = (client.map_err(io::Error::other)?, upstream.map_err(io::Error::other)?);
    let activity = Activity::new();
    let mut client = Watched { io: TokioIo::new(client), activity: activity.clone() };
    let mut upstream = Watched { io: TokioIo::new(upstream), activity: activity.clone() };
    let mut copy = pin!(copy_bidirectional(&mut client, &mut upstream));
    let (mut silence, mut cut) = (pin!(activity.none_for(idle)), pin!(cut));
    poll_fn(|cx| {
        if let Poll::Ready(copied) = copy.as_mut().poll(cx) {
            return Poll::Ready(copied.map(drop));
        }
        if cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        silence.as_mut().poll(cx).map(|()| Err(timed_out("nothing was sent for too long")))
    })
    .await
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// When something was last read from either side.
#[derive(Clone)]
struct Activity {
    start: Instant,
    /// Milliseconds after `start`.
    last: Arc<AtomicU64>,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last: Arc::default() }
    }

    fn note(&self) {
        self.last.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    async fn none_for(&self, idle: Duration) {
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let until = after(last, idle);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

struct Watched<T> {
    io: T,
    activity: Activity,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.note();
        Poll::Ready(Ok(()))
    }
}

write_through!(Watched<T>, io);
