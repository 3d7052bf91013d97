//! What is learnt about a request on its way in, told to those who watch from outside.
//!
//! An access log stands outside of the router and of authentication, for it must see every answer. What those
//! find out (the route, the principal, the endpoint) they write on the request that they pass on, which the log
//! has let go of by then. A [`Trail`] is the slate between them: the watcher puts one on the request, the rooms
//! inside write to it, and the watcher reads it when the request has ended, even if the caller went away before
//! there was an answer.
//!
//! ```
//! use http::Request;
//! use portcullis::{attempt::Variant, head::Head, trail::Trail};
//!
//! let mut request = Request::new(());
//! let trail = Trail::join(&mut Head::of(&mut request));
//!
//! // further inside, with the request alone in hand:
//! if let Some(trail) = request.extensions().get::<Trail>() {
//!     trail.set_variant(Variant::new("canary"));
//! }
//!
//! assert_eq!(trail.variant().map(Variant::as_str), Some("canary"));
//! ```
//!
//! The route, the variant, the principal, the decision, a fault and a fallback are written once: the first word stands. The
//! attempt is replaced by each later one. A layer that copies a request (a mirror, a hedge) removes the trail from the copy.

use crate::{
    attempt::{Attempt, RetryStop, Variant},
    head::Head,
    identity::Principal,
    key::RouteName,
    reject::{GrpcCode, Reason},
};
use http::StatusCode;
use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

/// A request's slate; see the module docs. Clones share it.
#[derive(Clone, Default)]
pub struct Trail(Arc<Marks>);

#[derive(Default)]
struct Marks {
    principal: OnceLock<Principal>,
    route: OnceLock<RouteName>,
    variant: OnceLock<Variant>,
    decision: OnceLock<Arc<str>>,
    attempt: Mutex<Option<Attempt>>,
    retry_stop: OnceLock<RetryStop>,
    fell_back: OnceLock<FellBack>,
    fault: OnceLock<Fault>,
}

/// What was done to a request on purpose, so that it fails or is late. It also rides in its response's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    delayed: bool,
    kind: Option<FaultKind>,
}

/// How a request was made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It was answered instead of served.
    Abort,
    /// It was broken off.
    Reset,
    /// The body of its response was given slowly.
    Throttle,
}

impl Fault {
    /// A delay, perhaps, and what came after it.
    #[must_use]
    pub const fn new(delayed: bool, kind: Option<FaultKind>) -> Self {
        Self { delayed, kind }
    }

    /// The words for what can be done, in metrics: stable.
    pub const KINDS: [&str; 4] = ["delay", "abort", "reset", "throttle"];

    /// Which of [`KINDS`](Self::KINDS) were done.
    #[must_use]
    pub const fn kinds(self) -> [bool; 4] {
        [
            self.delayed,
            matches!(self.kind, Some(FaultKind::Abort)),
            matches!(self.kind, Some(FaultKind::Reset)),
            matches!(self.kind, Some(FaultKind::Throttle)),
        ]
    }

    /// The word for it in logs: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match (self.delayed, self.kind) {
            (false, Some(FaultKind::Abort)) => "abort",
            (true, Some(FaultKind::Abort)) => "delay+abort",
            (false, Some(FaultKind::Reset)) => "reset",
            (true, Some(FaultKind::Reset)) => "delay+reset",
            (false, Some(FaultKind::Throttle)) => "throttle",
            (true, Some(FaultKind::Throttle)) => "delay+throttle",
            (_, None) => "delay",
        }
    }
}

/// What failed, and what was given in its place. It also rides in the extensions of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FellBack {
    /// What failed.
    pub failed: Failed,
    /// What was given.
    pub given: Given,
}

/// What was given in the place of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Given {
    /// An answer that is always there, or was made.
    Answer,
    /// Another server's.
    Server,
    /// An old one.
    Stale,
}

impl Given {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Answer, Self::Server, Self::Stale];

    /// The word for it in metrics and logs: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Server => "server",
            Self::Stale => "stale",
        }
    }
}

/// How a request failed, in whose answer's place something else may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// There was no answer: one of our own layers has refused it, or the server was lost.
    Reason(Reason),
    /// A server's answer has this status.
    Status(StatusCode),
    /// A server's answer has this gRPC status.
    Grpc(GrpcCode),
}

impl fmt::Display for Failed {
    /// The reason's label, `http_503`, or `grpc_14`: stable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => f.write_str(reason.label()),
            Self::Status(status) => write!(f, "http_{}", status.as_u16()),
            Self::Grpc(code) => write!(f, "grpc_{}", code.number()),
        }
    }
}

impl Trail {
    /// The trail of this request: the one it has, or a new one, which is put into its extensions.
    pub fn join(head: &mut Head<'_>) -> Self {
        if let Some(trail) = head.extensions().get::<Self>() {
            return trail.clone();
        }
        let trail = Self::default();
        head.extensions_mut().insert(trail.clone());
        trail
    }

    /// Who is calling, once that is known.
    pub fn principal(&self) -> Option<&Principal> {
        self.0.principal.get()
    }

    /// Tells who is calling. The first word stands.
    pub fn set_principal(&self, principal: Principal) {
        let _ = self.0.principal.set(principal);
    }

    /// The route that was matched, once that is known.
    pub fn route(&self) -> Option<&RouteName> {
        self.0.route.get()
    }

    /// Tells the route. The first word stands.
    pub fn set_route(&self, route: RouteName) {
        let _ = self.0.route.set(route);
    }

    /// The version that a split chose, once that is known.
    pub fn variant(&self) -> Option<&Variant> {
        self.0.variant.get()
    }

    /// Tells the variant. The first word stands.
    pub fn set_variant(&self, variant: Variant) {
        let _ = self.0.variant.set(variant);
    }

    /// The policy and rule by which the request was let pass or refused, as `policy/rule`; `_none` if none means it.
    pub fn decision(&self) -> Option<&str> {
        self.0.decision.get().map(AsRef::as_ref)
    }

    /// Tells by which policy and rule it was decided. The first word stands.
    pub fn set_decision(&self, decision: Arc<str>) {
        let _ = self.0.decision.set(decision);
    }

    /// The last try that was made.
    pub fn attempt(&self) -> Option<Attempt> {
        self.0.attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it was not tried again, if it failed in a way in which it might have been.
    pub fn retry_stop(&self) -> Option<RetryStop> {
        self.0.retry_stop.get().copied()
    }

    /// Tells why it was not tried again. The first word stands.
    pub fn set_retry_stop(&self, why: RetryStop) {
        let _ = self.0.retry_stop.set(why);
    }

    /// What was given in the place of a failure, and of which.
    pub fn fell_back(&self) -> Option<FellBack> {
        self.0.fell_back.get().copied()
    }

    /// Tells that something else is given in the place of a failure. The first word stands.
    pub fn set_fell_back(&self, fell_back: FellBack) {
        let _ = self.0.fell_back.set(fell_back);
    }

    /// What was done to it on purpose.
    pub fn fault(&self) -> Option<Fault> {
        self.0.fault.get().copied()
    }

    /// Tells what is done to it on purpose. The first word stands.
    pub fn set_fault(&self, fault: Fault) {
        let _ = self.0.fault.set(fault);
    }

    /// Tells of a try, in place of the one before.
    pub fn set_attempt(&self, attempt: Attempt) {
        *self.0.attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trail")
            .field("route", &self.route())
            .field("variant", &self.variant())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn watchers_share_one_trail() {
        let mut request = Request::new(());
        let outer = Trail::join(&mut Head::of(&mut request));
        let inner = Trail::join(&mut Head::of(&mut request));
        inner.set_variant(Variant::new("canary"));
        assert_eq!(outer.variant(), Some(&Variant::new("canary")));
    }

    #[test]
    fn the_first_variant_stands_and_the_last_attempt_counts() {
        let trail = Trail::default();
        trail.set_variant(Variant::new("a"));
        trail.set_variant(Variant::new("b"));
        trail.set_attempt(Attempt::new("orders"));
        trail.set_attempt(Attempt::new("orders").attempts(2));
        assert_eq!(trail.variant(), Some(&Variant::new("a")));
        assert_eq!(trail.attempt().map(|a| a.attempts), Some(2));
    }
}
