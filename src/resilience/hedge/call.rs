//! One call, and when another attempt is sent for it: decisions only.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::time::Instant;

use super::{HedgeBody, Policy, handle::HedgeStop};
use crate::{
    attempt::Earlier,
    body::{Body, Replay},
    context::Deadline,
    outcome::rejection_in,
    reject::{GrpcCode, Rejection},
    resilience::{
        again::{Numbering, is_refusal},
        kept::KeptHead,
        looked::{Looked, Peeked, is_undecided},
        timeout::head_deadline,
    },
    time::after,
    trail::Trail,
};

/// How soon it is looked again whether the caller has sent the rest of the request, at the least.
const SHORTEST: Duration = Duration::from_millis(1);

/// A call for which other attempts may be sent.
pub(super) struct Call {
    policy: Arc<Policy>,
    head: KeptHead,
    /// `None`: the body is too long to be kept.
    body: Option<Replay>,
    deadline: Option<Deadline>,
    /// To which the first attempt is told, and whether somebody outside reads it.
    trail: Trail,
    is_watched: bool,
    delay: Duration,
    sent: u32,
}

/// What comes next if no attempt has ended until then.
#[expect(clippy::large_enum_variant, reason = "it is taken apart as soon as it is there")]
pub(super) enum Next {
    /// This attempt, which is told to a trail of its own.
    Send(Request<Body>, Trail),
    /// Another look at this time.
    Look(Instant),
    /// No further attempt.
    Wait,
}

impl Call {
    /// Keeps what is needed to send `request` again when an attempt is so late, and makes it the first.
    pub(super) fn begin(policy: Arc<Policy>, delay: Duration, request: &mut Request<Body>) -> Self {
        let deadline = head_deadline(request.extensions());
        let watched = request.extensions().get::<Trail>().cloned();
        let is_watched = watched.is_some();
        // So that it is known which endpoint is late.
        let trail = watched.unwrap_or_else(|| {
            let own = Trail::default();
            request.extensions_mut().insert(own.clone());
            own
        });
        let head = KeptHead::of(request);
        let body = Replay::of(request.body_mut(), policy.most_body);
        Self { policy, head, body, deadline, trail, is_watched, delay, sent: 0 }
    }

    /// How late the last attempt must be for another, and how long a failure waits for those that are sent.
    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    /// The attempt before is late.
    pub(super) fn late(&mut self, now: Instant) -> Next {
        match self.next(now) {
            Ok(next) => next,
            Err(why) => {
                self.policy.counts.stop(why);
                Next::Wait
            }
        }
    }

    fn next(&mut self, now: Instant) -> Result<Next, HedgeStop> {
        let policy = &self.policy;
        if self.sent >= policy.hedges {
            return Ok(Next::Wait);
        }
        if self.deadline.is_some_and(|deadline| deadline.left(now) < policy.time_needed()) {
            return Err(HedgeStop::Deadline);
        }
        let replay = self.body.as_ref().filter(|replay| replay.is_whole()).ok_or(HedgeStop::Body)?;
        if !replay.has_come() {
            // It is the caller who is late.
            self.delay = self.delay.max(SHORTEST).saturating_mul(2);
            return Ok(Next::Look(after(now, self.delay)));
        }
        let body = replay.body().ok_or(HedgeStop::Body)?;
        if !policy.budget.spend(now) {
            return Err(HedgeStop::Budget);
        }
        self.sent += 1;
        policy.counts.sent.fetch_add(1, Relaxed);
        if let Some(attempt) = self.trail.attempt() {
            self.head.extensions_mut().get_or_insert_default::<Earlier>().add(&attempt);
        }
        let (mut request, trail) = (self.head.again().map(|()| body), Trail::default());
        request.extensions_mut().insert(trail.clone());
        Numbering::number(&mut request);
        Ok(Next::Send(request, trail))
    }

    /// Tells where a response comes from that is given: from a rival of the first attempt, if that has a trail.
    pub(super) fn tell<B>(&self, response: &mut Response<B>, rival: Option<&Trail>) {
        let attempt = rival.unwrap_or(&self.trail).attempt();
        let Some(attempt) = attempt else { return };
        if !self.is_watched {
            response.extensions_mut().insert(attempt);
        } else if rival.is_some() {
            self.trail.set_attempt(attempt);
        }
    }

    /// What came is given, and so many attempts are not waited for any more.
    pub(super) fn ended(&self, has_won: bool, cancelled: usize) {
        let counts = &self.policy.counts;
        counts.won.fetch_add(u64::from(has_won), Relaxed);
        counts.cancelled.fetch_add(cancelled as u64, Relaxed);
    }
}

/// How good the end of an attempt is: the best of those that came is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// One of our own layers has refused it: nothing was sent.
    Refused,
    /// There is no response.
    Lost,
    /// The server's answer is a failure of its own.
    Failed,
    Good,
}

/// How good it is, and what is given of it. Of an answer `among` several that in gRPC is to have its status yet it is looked at
/// what has come: a server that fails fast would win else.
pub(super) fn graded<B, E>(
    ended: Result<Response<B>, E>,
    among: bool,
    cx: &mut Context<'_>,
) -> (Grade, Result<Response<HedgeBody<B>>, E>)
where
    B: HttpBody<Data = Bytes>,
    E: 'static,
{
    let grade = Grade::of(&ended);
    let (head, body) = match ended {
        Ok(response) => response.into_parts(),
        Err(error) => return (grade, Err(error)),
    };
    let (grade, body) = match among && grade == Grade::Good && is_undecided(&head) {
        true => {
            let peeked = Peeked::new(body, cx);
            (Grade::of_peeked(&peeked), Looked::Peeked { peeked })
        }
        false => (grade, Looked::Whole { body }),
    };
    (grade, Ok(Response::from_parts(head, HedgeBody::new(body))))
}

impl Grade {
    fn of_peeked<B: HttpBody<Data = Bytes>>(peeked: &Peeked<B>) -> Self {
        let fails = |trailers| GrpcCode::of(trailers).is_some_and(GrpcCode::is_server_fault);
        match peeked.error() {
            Some(_) => Self::Lost,
            None if peeked.trailers().is_some_and(fails) => Self::Failed,
            None => Self::Good,
        }
    }

    fn of<B, E: 'static>(ended: &Result<Response<B>, E>) -> Self {
        let response = match ended {
            Ok(response) => response,
            Err(error) if rejection_in(error).is_some_and(is_refusal) => return Self::Refused,
            Err(_) => return Self::Lost,
        };
        match response.extensions().get::<Rejection>() {
            Some(rejection) if is_refusal(rejection) => return Self::Refused,
            Some(_) => return Self::Lost,
            None => {}
        }
        let grpc_fails = GrpcCode::of(response.headers()).is_some_and(GrpcCode::is_server_fault);
        if response.status().is_server_error() || grpc_fails { Self::Failed } else { Self::Good }
    }
}
