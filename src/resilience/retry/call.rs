//! One call, and whether it is tried again: decisions only.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, Method, Request, response};
use tokio::time::Instant;

use super::{
    Policy,
    handle::Counts,
    on::Lost,
    told::{Told, told},
};
use crate::{
    attempt::{Attempt, Earlier, RetryStop},
    body::{Body, Replay},
    gate::Pass,
    outcome::{Completion, Failure, Outcome, is_connect, is_refused, rejection_in},
    reject::{GrpcCode, Reason, Rejection},
    resilience::{
        again::{Numbering, is_refusal},
        kept::KeptHead,
        timeout::head_deadline,
    },
    trail::Trail,
    upload::Upload,
};

/// A call that may be tried again.
pub(super) struct Call {
    policy: Arc<Policy>,
    head: KeptHead,
    /// `None`: the body is too long to be kept, or there is no further attempt for which it would be.
    body: Option<Replay>,
    is_safe: bool,
    retries: u32,
    /// The one that attempts are told to if the request has none.
    trail: Option<Trail>,
}

/// How an attempt ended.
pub(super) enum Ended {
    /// With something that is given: an answer, or an error that is nothing to be mended.
    Done,
    /// We have refused it ourselves, and would again.
    Refused,
    Failed(Failed),
}

/// How an attempt ended that another may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failed {
    /// Nobody has looked at it.
    unsent: bool,
    told: Told,
}

/// The next attempt.
pub(super) struct Next {
    pub(super) wait: Duration,
    pub(super) request: Box<Request<Body>>,
}

impl Call {
    /// Keeps what is needed to send `request` again, and makes it the first attempt.
    #[inline]
    pub(super) fn begin(policy: &Arc<Policy>, request: &mut Request<Body>) -> Self {
        if let Some(name) = policy.attempt_header.clone() {
            request.extensions_mut().insert(Numbering::new(name));
        }
        let call = Self {
            policy: Arc::clone(policy),
            head: KeptHead::of(request),
            body: Replay::of(request.body_mut(), policy.most_body),
            is_safe: policy.is_safe(request),
            retries: 0,
            trail: None,
        };
        Numbering::number(request);
        call
    }

    /// How an attempt ended that has a response with this head.
    pub(super) fn of_head(&self, head: &response::Parts) -> Ended {
        let policy = &self.policy;
        let rejection = head.extensions.get::<Rejection>();
        let failed = match rejection.map(fate) {
            Some(Fate::Refused) => return Ended::Refused,
            Some(Fate::Given) => false,
            Some(Fate::Lost(how)) => {
                policy.conditions.lost(how) || policy.conditions.head(head.status, &head.headers)
            }
            None => policy.conditions.head(head.status, &head.headers),
        };
        if !failed {
            return Ended::Done;
        }
        let told = told(&head.headers, || policy.clock.now());
        Ended::Failed(Failed { unsent: rejection.is_some_and(Rejection::is_unsent), told })
    }

    /// Whether trailers tell of a failure to be mended.
    pub(super) fn of_trailers(&self, trailers: &HeaderMap) -> Option<Failed> {
        let policy = &self.policy;
        let failed = GrpcCode::of(trailers).is_some_and(|code| policy.conditions.grpc(code));
        failed.then(|| Failed { unsent: false, told: told(trailers, || policy.clock.now()) })
    }

    /// How an attempt ended that has this error in the place of a response.
    pub(super) fn of_error<E: 'static>(&self, error: &E) -> Ended {
        let (how, unsent, told) = match rejection_in(error) {
            Some(rejection) => {
                let told = rejection.retry_delay().map_or(Told::Nothing, Told::After);
                match fate(rejection) {
                    Fate::Refused => return Ended::Refused,
                    Fate::Given => return Ended::Done,
                    Fate::Lost(how) => (how, rejection.is_unsent(), told),
                }
            }
            // Only who connects knows that nothing was sent: a socket in use can say "no route to host" as well.
            None if is_connect(error) => (Lost::Connect, true, Told::Nothing),
            None => match Failure::of(error) {
                Failure::CallerDeadline => return Ended::Done,
                Failure::Connect => (Lost::Connect, false, Told::Nothing),
                Failure::Refused => (Lost::Refused, is_refused(error), Told::Nothing),
                _ => (Lost::Other, false, Told::Nothing),
            },
        };
        if self.policy.conditions.lost(how) { Ended::Failed(Failed { unsent, told }) } else { Ended::Done }
    }

    /// Whether an error in the place of a response's body is a failure to be mended: whoever has sent a head has looked at
    /// the request.
    pub(super) fn of_body_error<E: 'static>(&self, error: &E) -> Option<Failed> {
        match self.of_error(error) {
            Ended::Failed(failed) => Some(Failed { unsent: false, ..failed }),
            Ended::Done | Ended::Refused => None,
        }
    }

    /// The budget grows with what reaches the server: not with what our own layers refuse before that.
    pub(super) fn count(&self, ended: &Ended) {
        if self.retries == 0 && !matches!(ended, Ended::Refused) {
            self.policy.budget.call();
        }
    }

    /// Whether trailers that have come already are to be looked at.
    pub(super) fn asks_trailers(&self) -> bool {
        self.policy.conditions.ask_trailers()
    }

    /// The next attempt after this failure, unless there must be none. `attempt`: where the failed one went, if that
    /// stands in its response.
    pub(super) fn again(&mut self, failed: Failed, attempt: Option<&Attempt>) -> Option<Next> {
        let next = self.next(failed, attempt, Instant::now());
        match &next {
            Ok(_) => self.policy.counts.retry(),
            Err(why) => {
                self.policy.counts.stop(*why);
                if let Some(trail) = self.told().get::<Trail>() {
                    trail.set_retry_stop(*why);
                }
            }
        }
        next.ok()
    }

    /// What the request was told.
    fn told(&mut self) -> &mut Extensions {
        self.head.extensions_mut()
    }

    fn next(&mut self, failed: Failed, attempt: Option<&Attempt>, now: Instant) -> Result<Next, RetryStop> {
        let deadline = head_deadline(self.told());
        let policy = &self.policy;
        if self.retries >= policy.retries {
            return Err(RetryStop::Attempts);
        }
        if !(failed.unsent || self.is_safe) {
            return Err(RetryStop::Unsafe);
        }
        let asked = match failed.told {
            Told::Nothing => None,
            Told::After(time) => Some(time),
            Told::Never => return Err(RetryStop::Told),
        };
        let wait = policy.wait(self.retries + 1, asked).ok_or(RetryStop::Told)?;
        let needed = wait.saturating_add(policy.time_needed());
        if deadline.is_some_and(|deadline| deadline.left(now) < needed) {
            return Err(RetryStop::Deadline);
        }
        let replay = self.body.as_ref().ok_or(RetryStop::Body)?;
        let body = replay.body().ok_or(RetryStop::Body)?;
        if !policy.budget.spend(now) {
            return Err(RetryStop::Budget);
        }
        if !replay.give_up_older() {
            return Err(RetryStop::Body);
        }
        if let Some(upload) = self.told().get::<Upload>() {
            // The failed attempt may have waited for the caller; the next has not asked it for anything yet.
            upload.set_awaited(false);
        }
        self.retries += 1;
        if self.retries == self.policy.retries {
            // Nobody will read it again: what the last attempt reads is not recorded.
            self.body = None;
        }
        self.remember(attempt);
        let mut request = self.head.again().map(|()| body);
        Numbering::number(&mut request);
        Ok(Next { wait, request: Box::new(request) })
    }

    /// Notes where the failed attempt went, for whoever picks endpoints.
    fn remember(&mut self, attempt: Option<&Attempt>) {
        let extensions = self.head.extensions_mut();
        let told = extensions.get::<Trail>().map(Trail::attempt);
        if told.is_none() {
            // So that the next one is known even if it has no response.
            extensions.insert(self.trail.insert(Trail::default()).clone());
        }
        if let Some(attempt) = told.flatten().as_ref().or(attempt) {
            extensions.get_or_insert_default::<Earlier>().add(attempt);
        }
    }

    /// Tells in a response that is given where it came from, as it was told to a trail of ours.
    pub(super) fn tell(&self, head: &mut response::Parts) {
        if let Some(attempt) = self.trail.as_ref().and_then(Trail::attempt) {
            head.extensions.insert(attempt);
        }
    }

    /// Looks to the end of a response that is given, to see whether what failed at first ends well.
    pub(super) fn watch(&self, head: &mut response::Parts) -> Completion<Recovery> {
        if self.retries == 0 {
            return Completion::spent();
        }
        let mut watch = Completion::new(Recovery(Arc::clone(&self.policy.counts)));
        watch.head(head, self.head.method() == Method::HEAD);
        watch
    }
}

/// Counts a call that failed at first, if it ends well.
pub(super) struct Recovery(Arc<Counts>);

impl Pass for Recovery {
    fn on_end(&mut self, outcome: &Outcome) {
        if outcome.is_success() {
            self.0.recover();
        }
    }
}

/// What became of an attempt of which one of our layers speaks.
enum Fate {
    Lost(Lost),
    /// It was sent, and this is what is given.
    Given,
    /// It was not sent, because we refused it.
    Refused,
}

fn fate(rejection: &Rejection) -> Fate {
    if is_refusal(rejection) {
        return Fate::Refused;
    }
    match (rejection.reason(), rejection.is_unsent()) {
        (Reason::ConnectFailed, _) | (Reason::UpstreamTimeout, true) => Fate::Lost(Lost::Connect),
        (Reason::UpstreamProtocol | Reason::UpstreamReset | Reason::UpstreamTimeout, false) => {
            Fate::Lost(Lost::Other)
        }
        // The endpoint has not looked at it, or there was no room for it.
        (Reason::Overloaded | Reason::UpstreamProtocol | Reason::UpstreamReset, true) => {
            Fate::Lost(Lost::Refused)
        }
        _ => Fate::Given,
    }
}
