//! Which endpoint, and a connection to it. Nothing has been sent by then, so that all of this may be done again.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Upstream,
    balance::{Ask, Tried},
    connect::ConnectError,
    lease::{Connection, Lease},
    load::Load,
    member::Member,
    race::{PATIENCE, race},
    request::Call,
    tries::{Come, Missed, Try, blame, log, nobody_in},
};
use crate::{
    attempt::{Attempt, Earlier},
    reject::Rejection,
    trail::Trail,
};

/// An endpoint, and a connection to it.
pub(super) struct Reached {
    pub(super) load: Load,
    pub(super) lease: Lease,
    /// For the response, where the request has no trail to tell it to.
    pub(super) untold: Option<Attempt>,
}

/// What is to be known of a call to pick for it.
fn ask(call: &Call, tried: Tried, now: Option<Instant>) -> Ask<'_> {
    let earlier = call.earlier.as_ref().map_or(&[][..], Earlier::endpoints);
    let session = call.session.as_ref().and_then(|session| session.named());
    Ask { tried, earlier, hash: call.hash, subset: call.subset, session, now }
}

/// Chooses an endpoint, and takes a connection to it that is there.
pub(super) fn reach_now(upstream: &Upstream, call: &Call) -> Result<Reached, Option<Arc<Member>>> {
    let (plan, now) = (upstream.plan_now().ok_or(None)?, upstream.now());
    let member = upstream.next(&plan, &ask(call, Tried::default(), now)).ok_or(None)?;
    let Some(lease) = member.pooled(call.http2) else { return Err(Some(member)) };
    let mut attempt = Attempt::new(Arc::clone(&upstream.group().name)).endpoint(member.address());
    attempt.attempts = made(call.earlier.as_ref()).saturating_add(1);
    let untold = tell(attempt, call.trail.as_ref());
    Ok(Reached { load: upstream.begin(member, call.until, now), lease, untold })
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
            let (plan, ask) = (upstream.plan().await?, ask(call, Tried::default(), None));
            match upstream.next(&plan, &ask) {
                Some(member) => Some(member),
                // One that takes longer to be made is waited for.
                None => {
                    let renewed = upstream.group().roster.renewed(&plan).await;
                    renewed.and_then(|plan| upstream.next(&plan, &ask))
                }
            }
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
    let Some((Come { load, got: lease }, late)) = come.await else {
        return Err(tries.failed.map_or_else(|| nobody(upstream, call), Rejection::from));
    };
    late.into_iter().for_each(|late| late.go_on(upstream, keep));
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
    fn begin(&mut self, picked: Option<Arc<Member>>) -> Option<Try<Lease>> {
        if self.tried.is_full() {
            return None;
        }
        // By the plan of this moment: the set may have changed while we waited.
        let now = self.upstream.now();
        let another = || self.upstream.next(&*self.upstream.plan_now()?, &ask(self.call, self.tried, now));
        let member = picked.or_else(another)?;
        self.tried.add(&member);
        let (http2, of) = (self.call.http2, Arc::clone(&member));
        let connecting = Box::pin(async move { of.lease(http2).await });
        Some(Try::begin(self.upstream.begin(member, self.call.until, now), connecting))
    }

    fn failed(&mut self, mut load: Load, error: ConnectError) {
        log(self.upstream, &load, &error);
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

/// A connection that comes late is for a later request.
fn keep(member: &Arc<Member>, lease: Lease) {
    match lease.connection {
        Connection::Http1(connection) => member.park(connection, member.options().idle_timeout),
        Connection::Http2(_) => {} // it is shared already
    }
}

/// There is no endpoint for a call.
fn nobody(upstream: &Upstream, call: &Call) -> Rejection {
    let of_session = call.session.as_ref().and_then(|session| {
        let plan = upstream.group().roster.plan();
        session.refusal(plan.named(session.named()?.name, call.subset).is_none())
    });
    of_session.unwrap_or_else(|| nobody_in(upstream, call.subset))
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
