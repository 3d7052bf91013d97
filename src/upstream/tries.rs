//! One try at a connection to one endpoint, and what its failure says.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{
    Upstream,
    connect::{BACK_SOON, ConnectError},
    load::Load,
    member::Member,
    race::PATIENCE,
};
use crate::reject::{Reason, Rejection};

/// How many failures one connection that has not come is at most.
const MOST_MISSED: u32 = 1000;

/// A connection is on its way.
pub(super) type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

/// A try at a connection to one endpoint.
pub(super) struct Try<T> {
    /// Until it has ended.
    load: Option<Load>,
    begun: Instant,
    connecting: Connecting<T>,
}

pub(super) struct Come<T> {
    pub(super) load: Load,
    pub(super) got: T,
}

pub(super) struct Missed {
    pub(super) load: Load,
    pub(super) error: ConnectError,
}

impl<T> Future for Try<T> {
    type Output = Result<Come<T>, Missed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let got = ready!(self.connecting.as_mut().poll(cx));
        #[expect(clippy::expect_used, reason = "the contract of Future")]
        let load = self.load.take().expect("polled after completion");
        Poll::Ready(match got {
            Ok(got) => Ok(Come { load, got }),
            Err(error) => Err(Missed { load, error }),
        })
    }
}

impl<T: Send + 'static> Try<T> {
    pub(super) fn begin(load: Load, connecting: Connecting<T>) -> Self {
        Self { load: Some(load), begun: Instant::now(), connecting }
    }

    /// The request goes elsewhere. If it has waited here for as long as one waits, the endpoint comes last until the connection
    /// comes, which is for `keep` to keep, or does not, which is as many failures of the endpoint's as requests have gone
    /// elsewhere. One goes on for all who have waited for the same.
    pub(super) fn go_on(self, upstream: &Upstream, keep: impl FnOnce(&Arc<Member>, T) + Send + 'static) {
        let Self { load: Some(load), begun, connecting } = self else { return };
        let member = Arc::clone(load.member());
        drop(load);
        if begun.elapsed() < PATIENCE {
            return;
        }
        member.missed().fetch_add(1, Relaxed);
        if member.rests() {
            return;
        }
        member.rest(member.options().connect_timeout);
        let upstream = upstream.clone();
        tokio::spawn(async move {
            let came = connecting.await;
            let missed = member.missed().swap(0, Relaxed).clamp(1, MOST_MISSED);
            match came {
                Ok(got) => keep(&member, got),
                Err(error) => {
                    (0..missed)
                        .for_each(|_| blame(&mut upstream.begin(Arc::clone(&member), None, None), &error));
                }
            }
        });
    }
}

/// Tells that there is no connection. Handshakes that fail are for who looks after certificates.
pub(super) fn log(upstream: &Upstream, load: &Load, error: &ConnectError) {
    let (upstream, endpoint) = (upstream.name(), load.member().address());
    tracing::debug!(upstream, %endpoint, %error, "no connection");
    #[cfg(feature = "tls")]
    if let ConnectError::Tls(why) = error
        && let Some(left_out) = load.member().common.refusals.next()
    {
        tracing::info!(upstream, %endpoint, %why, left_out, "the handshake with a server failed");
    }
}

/// That we allow no more connections is no fault of the endpoint's.
pub(super) fn blame(load: &mut Load, error: &ConnectError) {
    if !matches!(error, ConnectError::Full) {
        load.fail(&Rejection::new(error.reason()));
    }
}

/// There is no endpoint for a request of this mark.
pub(super) fn nobody_in(upstream: &Upstream, subset: Option<u64>) -> Rejection {
    match upstream.group().roster.plan().is_open(subset) {
        true => Rejection::new(Reason::CircuitOpen).retry_after(BACK_SOON).unsent(),
        false => Rejection::new(Reason::NoEndpoint).unsent(),
    }
}
