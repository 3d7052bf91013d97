//! An upgraded connection: bytes both ways, until one side has closed or time is up.

use std::{future::pending, io};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::load::Load;
pub(super) use crate::tunnel::Limits;
use crate::tunnel::{End, Tunnel, TunnelCut, TunnelLimits, carry};

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
    tokio::spawn(async move {
        let _held = (load, guard);
        let sides = tokio::time::timeout(limits.age, async { (client.await, upstream.await) }).await;
        let (client, upstream) = match sides {
            Ok((Ok(client), Ok(upstream))) => (client, upstream),
            Ok((Err(error), _) | (_, Err(error))) => {
                tracing::debug!(%error, "a tunnel was not opened");
                return;
            }
            Err(_) => return,
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let cut = async move {
            match cut {
                Some(cut) => cut.wait().await,
                None => pending().await,
            }
        };
        let ended = carry(&mut client, &mut upstream, limits, cut, &mut ()).await;
        if let Some(error) = fault(ended) {
            tracing::debug!(%error, "a tunnel was cut");
        }
    });
    tunnel
}

fn fault(ended: End) -> Option<io::Error> {
    let timed_out = |what: &'static str| io::Error::new(io::ErrorKind::TimedOut, what);
    match ended {
        End::Closed => None,
        End::Idle => Some(timed_out("nothing was sent for too long")),
        End::Old => Some(timed_out("the tunnel is too old")),
        End::Cut => Some(io::ErrorKind::ConnectionAborted.into()),
        End::First(error) | End::Second(error) => Some(error),
    }
}
