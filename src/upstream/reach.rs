//! Which endpoint, and a connection to it. Nothing has been sent by then, so that all of this may be done again.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Upstream,
    balance::{Ask, Tried},
    connect::{BACK_SOON, ConnectError},
    lease::{Connection, Lease},
    load::Load,
    member::Member,
    race::{PATIENCE, race},
    request::Call,
};
use crate::{
    attempt::{Attempt, Earlier},
    reject::{Reason, Rejection},
    trail::Trail,
};

/// How many failures one connection that has not come is at most.
const MOST_MISSED: u32 = 1000;

/// An endpoint, and a connection to it.
pub(super) struct Reached {
    pub(super) load: Load,
    pub(super) lease: Lease,
    /// For the response, where the request has no trail to tell it to.
    pub(super) untold: Option<Attempt>,
}

/// What is to be known of a call to pick for it.
fn ask(call: &Call, tried: Tried) -> Ask<'_> {
    let earlier = call.earlier.as_ref().map_or(&[][..], Earlier::endpoints);
    let session = call.session.as_ref().and_then(|session| session.named());
    Ask { tried, earlier, hash: call.hash, subset: call.subset, session }
}

/// Chooses an endpoint, and takes a connection to it that is there.
pub(super) fn reach_now(upstream: &Upstream, call: &Call) -> Result<Reached, Option<Arc<Member>>> {
    let plan = upstream.plan_now().ok_or(None)?;
    let member = upstream.next(&plan, &ask(call, Tried::default())).ok_or(None)?;
    let Some(lease) = member.pooled(call.http2) else { return Err(Some(member)) };
    let mut attempt = Attempt::new(Arc::clone(&upstream.group().name)).endpoint(member.address());
    attempt.attempts = made(call.earlier.as_ref()).saturating_add(1);
    let untold = tell(attempt, call.trail.as_ref());
    Ok(Reached { load: upstream.begin(member, call.until), lease, untold })
}

/// Gets a connection to the endpoint that was chosen. If that fails, or takes its time, to others beside it: the first one
/// that comes is taken.
pub(super) async fn reach(
    upstream: &Upstream,
    picked: Option<Arc<Member>>,
    call: &Call,
) -> Result<Reached, Rejection> {
    let mut first = match picked {
        None => {
            let (plan, ask) = (upstream.plan().await?, ask(call, Tried::default()));
            // A plan that knows nobody for this request may be of before.
            let renewed = || upstream.next(&*upstream.group().roster.renewed(&plan)?, &ask);
            upstream.next(&plan, &ask).or_else(renewed)
        }
        picked => picked,
    };
    // A session is worth the wait: elsewhere it would begin anew.
    let keeps = call.session.as_ref().is_some_and(|session| session.named().is_some());
    let patience = if keeps { Duration::MAX } else { PATIENCE };
    let mut tries = Tries { upstream, call, tried: Tried::default(), failed: None };
    let come = race(patience, |missed| {
        if let Some(Missed { load, error }) = missed {
            tries.failed(load, error);
        }
        tries.begin(first.take())
    });
    let Some((Come { load, lease }, late)) = come.await else {
        return Err(tries.failed.map_or_else(|| nobody(upstream, call), Rejection::from));
    };
    late.into_iter().for_each(|late| late.go_on(upstream));
    let untold = tries.tell(&load, lease.connect);
    Ok(Reached { load, lease, untold })
}

/// The endpoints to which a connection is tried for one call.
struct Tries<'c> {
    upstream: &'c Upstream,
    call: &'c Call,
    tried: Tried,
    /// The last one.
    failed: Option<ConnectError>,
}

impl Tries<'_> {
    /// Begins the next try, at `picked` or else at another, if there is one.
    fn begin(&mut self, picked: Option<Arc<Member>>) -> Option<Try> {
        if self.tried.is_full() {
            return None;
        }
        // By the plan of this moment: the set may have changed while we waited.
        let another = || self.upstream.next(&*self.upstream.plan_now()?, &ask(self.call, self.tried));
        let member = picked.or_else(another)?;
        self.tried.add(&member);
        let (http2, of) = (self.call.http2, Arc::clone(&member));
        let connecting = Box::pin(async move { of.lease(http2).await });
        let load = self.upstream.begin(member, self.call.until);
        Some(Try { load: Some(load), begun: Instant::now(), connecting })
    }

    fn failed(&mut self, mut load: Load, error: ConnectError) {
        let endpoint = load.member().address();
        tracing::debug!(upstream = self.upstream.name(), %endpoint, %error, "no connection");
        #[cfg(feature = "tls")]
        if let ConnectError::Tls(why) = &error
            && let Some(left_out) = load.member().common.refusals.next()
        {
            let upstream = self.upstream.name();
            tracing::info!(upstream, %endpoint, %why, left_out, "the handshake with a server failed");
        }
        self.tell(&load, None);
        blame(&mut load, &error);
        self.failed = Some(error);
    }

    fn tell(&self, load: &Load, connect: Option<Duration>) -> Option<Attempt> {
        let name = Arc::clone(&self.upstream.group().name);
        let mut attempt = Attempt::new(name).endpoint(load.member().address());
        attempt.attempts = self.tried.count().saturating_add(made(self.call.earlier.as_ref()));
        attempt.connect = connect;
        tell(attempt, self.call.trail.as_ref())
    }
}

/// That we allow no more connections is no fault of the endpoint's.
fn blame(load: &mut Load, error: &ConnectError) {
    if !matches!(error, ConnectError::Full) {
        load.fail(&Rejection::new(error.reason()));
    }
}

/// A try at a connection to one endpoint.
struct Try {
    /// Until it has ended.
    load: Option<Load>,
    begun: Instant,
    connecting: Pin<Box<dyn Future<Output = Result<Lease, ConnectError>> + Send>>,
}

struct Come {
    load: Load,
    lease: Lease,
}

struct Missed {
    load: Load,
    error: ConnectError,
}

impl Future for Try {
    type Output = Result<Come, Missed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let lease = ready!(self.connecting.as_mut().poll(cx));
        #[expect(clippy::expect_used, reason = "the contract of Future")]
        let load = self.load.take().expect("polled after completion");
        Poll::Ready(match lease {
            Ok(lease) => Ok(Come { load, lease }),
            Err(error) => Err(Missed { load, error }),
        })
    }
}

impl Try {
    /// The request goes elsewhere. If it has waited here for as long as one waits, the endpoint comes last until the connection
    /// comes, which is for a later request, or does not, which is as many failures of the endpoint's as requests have gone
    /// elsewhere. One goes on for all who have waited for the same.
    fn go_on(self, upstream: &Upstream) {
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
                Ok(Lease { connection: Connection::Http1(connection), .. }) => {
                    member.park(connection, member.options().idle_timeout);
                }
                Ok(_) => {} // HTTP/2: it is shared already
                Err(error) => {
                    (0..missed).for_each(|_| blame(&mut upstream.begin(Arc::clone(&member), None), &error));
                }
            }
        });
    }
}

/// There is no endpoint for a call.
fn nobody(upstream: &Upstream, call: &Call) -> Rejection {
    let of_session = call.session.as_ref().and_then(|session| {
        let plan = upstream.group().roster.plan();
        session.refusal(plan.named(session.named()?.name, call.subset).is_none())
    });
    of_session.unwrap_or_else(|| match upstream.group().roster.plan().is_open(call.subset) {
        true => Rejection::new(Reason::CircuitOpen).retry_after(BACK_SOON).unsent(),
        false => Rejection::new(Reason::NoEndpoint).unsent(),
    })
}

/// How many attempts were made before at the same call.
fn made(earlier: Option<&Earlier>) -> u8 {
    earlier.map_or(0, Earlier::attempts)
}

/// Gives the attempt back where there is no trail.
fn tell(attempt: Attempt, trail: Option<&Trail>) -> Option<Attempt> {
    let Some(trail) = trail else { return Some(attempt) };
    trail.set_attempt(attempt);
    None
}
