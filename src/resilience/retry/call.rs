//! One call, and whether it is tried again: decisions only.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, Method, Request, Uri, Version, response};
use tokio::time::Instant;

use super::{
    Policy,
    on::Lost,
    told::{Told, told},
};
use crate::{
    attempt::{Attempt, Earlier, RetryStop},
    body::{Body, Replay},
    context::Deadline,
    outcome::{Failure, is_connect, rejection_in},
    reject::{GrpcCode, Reason, Rejection},
    resilience::timeout::head_deadline,
    trail::Trail,
    upload::Upload,
};

/// A call that may be tried again.
pub(super) struct Call {
    policy: Arc<Policy>,
    head: Head,
    /// `None`: the body is too long to be kept.
    body: Option<Replay>,
    is_safe: bool,
    deadline: Option<Deadline>,
    retries: u32,
    /// The one that attempts are told to if the request has none.
    trail: Option<Trail>,
}

/// A request's head, to be sent again.
struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
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
    pub(super) request: Request<Body>,
}

impl Call {
    /// Keeps what is needed to send `request` again, and gives it back for the first attempt.
    pub(super) fn begin(policy: Arc<Policy>, request: Request<Body>) -> (Self, Request<Body>) {
        policy.budget.call();
        let is_safe = policy.is_safe(&request);
        let (parts, body) = request.into_parts();
        let replayed = Replay::new(body, policy.most_body)
            .and_then(|replay| replay.body().map(|first| (Some(replay), first)).ok_or_else(Body::empty));
        let (replay, first) = replayed.unwrap_or_else(|body| (None, body));
        let head = Head {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: parts.headers.clone(),
            extensions: parts.extensions.clone(),
        };
        let deadline = head_deadline(&parts.extensions);
        let mut request = Request::from_parts(parts, first);
        let call = Self { policy, head, body: replay, is_safe, deadline, retries: 0, trail: None };
        call.number(&mut request);
        (call, request)
    }

    /// Tells the server which attempt it is, if it is to know.
    fn number(&self, request: &mut Request<Body>) {
        if let Some(name) = &self.policy.attempt_header {
            request.headers_mut().insert(name.clone(), (self.retries + 1).into());
        }
    }

    /// Whether a response with this head is a failure to be mended.
    pub(super) fn of_head(&self, head: &response::Parts) -> Option<Failed> {
        let policy = &self.policy;
        let rejection = head.extensions.get::<Rejection>();
        let lost = rejection.map(|rejection| how_lost(rejection.reason(), rejection.is_unsent()));
        let failed = match lost {
            // We have refused it ourselves, and would again.
            Some(None) => false,
            Some(Some(how)) => {
                policy.conditions.lost(how) || policy.conditions.head(head.status, &head.headers)
            }
            None => policy.conditions.head(head.status, &head.headers),
        };
        failed.then(|| Failed {
            unsent: rejection.is_some_and(Rejection::is_unsent),
            told: told(&head.headers, || policy.clock.now()),
        })
    }

    /// The same of trailers.
    pub(super) fn of_trailers(&self, trailers: &HeaderMap) -> Option<Failed> {
        let policy = &self.policy;
        let failed = GrpcCode::of(trailers).is_some_and(|code| policy.conditions.grpc(code));
        failed.then(|| Failed { unsent: false, told: told(trailers, || policy.clock.now()) })
    }

    /// The same of an error.
    pub(super) fn of_error<E: 'static>(&self, error: &E) -> Option<Failed> {
        let (how, unsent) = match rejection_in(error) {
            Some(rejection) => {
                let unsent = rejection.is_unsent();
                (how_lost(rejection.reason(), unsent)?, unsent)
            }
            // Only who connects knows that nothing was sent: a socket in use can say "no route to host" as well.
            None if is_connect(error) => (Lost::Connect, true),
            None => match Failure::of(error) {
                Failure::CallerDeadline => return None,
                Failure::Connect => (Lost::Connect, false),
                Failure::Refused => (Lost::Refused, false),
                _ => (Lost::Other, false),
            },
        };
        self.policy.conditions.lost(how).then_some(Failed { unsent, told: Told::Nothing })
    }

    /// The same of an error in the place of a response's body: whoever has sent a head has looked at the request.
    pub(super) fn of_body_error<E: 'static>(&self, error: &E) -> Option<Failed> {
        self.of_error(error).map(|failed| Failed { unsent: false, ..failed })
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
                if let Some(trail) = self.head.extensions.get::<Trail>() {
                    trail.set_retry_stop(*why);
                }
            }
        }
        next.ok()
    }

    fn next(&mut self, failed: Failed, attempt: Option<&Attempt>, now: Instant) -> Result<Next, RetryStop> {
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
        let needed = wait.saturating_add(policy.least_left);
        if self.deadline.is_some_and(|deadline| deadline.left(now) < needed) {
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
        if let Some(upload) = self.head.extensions.get::<Upload>() {
            // The failed attempt may have waited for the caller; the next has not asked it for anything yet.
            upload.set_awaited(false);
        }
        self.retries += 1;
        self.remember(attempt);
        let mut request = self.head.request(body);
        self.number(&mut request);
        Ok(Next { wait, request })
    }

    /// Notes where the failed attempt went, for whoever picks endpoints.
    fn remember(&mut self, attempt: Option<&Attempt>) {
        let extensions = &mut self.head.extensions;
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

    /// It has ended, with something that is no failure to be mended.
    pub(super) fn ended_well(&self) {
        if self.retries > 0 {
            self.policy.counts.recover();
        }
    }
}

impl Head {
    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

/// How a response was lost that one of our layers speaks of. `None`: it was not sent because we refused it.
fn how_lost(reason: Reason, unsent: bool) -> Option<Lost> {
    match reason {
        Reason::ConnectFailed => Some(Lost::Connect),
        Reason::UpstreamTimeout if unsent => Some(Lost::Connect),
        Reason::UpstreamProtocol | Reason::UpstreamReset if unsent => Some(Lost::Refused),
        Reason::UpstreamProtocol | Reason::UpstreamReset | Reason::UpstreamTimeout => Some(Lost::Other),
        _ => None,
    }
}
