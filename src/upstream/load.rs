//! One request in flight at a member, and the one place where that learns what became of it.

use std::sync::Arc;

use http::{HeaderMap, response};
use tokio::time::Instant;

use super::{
    guard::{Watched, admit},
    member::Member,
};
use crate::{
    context::Deadline,
    outcome::{Course, End, Failure, Outcome},
    reject::Rejection,
};

/// One request in flight at a member, until its response's body has ended or its tunnel has closed. What is dropped before
/// it was ended is told as [`Completion`](crate::outcome::Completion) says: as cancelled, unless it had failed or was complete
/// already.
pub(super) struct Load {
    member: Arc<Member>,
    /// Until it has ended: as long as that it is counted at the member.
    call: Option<Call>,
}

struct Call {
    course: Course,
    /// `None`: nobody wants to know what becomes of it, and the clock is not read.
    begun: Option<Instant>,
    head: Option<Instant>,
    counted: bool,
    until: Option<Deadline>,
    watched: Option<Watched>,
}

/// Who wants to know of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Interest {
    /// Somebody wants to be told what became of it, and when.
    pub(super) listens: bool,
    /// Somebody wants to know how many are in flight at all members together.
    pub(super) counts: bool,
}

impl Load {
    /// A request begins, which is of use `until` then. `now`: if the clock was read just before.
    pub(super) fn begin(
        member: Arc<Member>,
        Interest { listens, counts }: Interest,
        until: Option<Deadline>,
        now: Option<Instant>,
    ) -> Self {
        member.enter(counts);
        let watched = admit(&member, until);
        let begun = listens.then(|| now.unwrap_or_else(Instant::now));
        let course = Course::unheard();
        let call = Call { course, begun, head: None, counted: counts, until, watched };
        Self { member, call: Some(call) }
    }

    pub(super) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// The head of the response has come. `bodiless`: no body follows it.
    pub(super) fn head(&mut self, head: &response::Parts, bodiless: bool) {
        let Some(call) = self.call.as_mut().filter(|call| call.is_looked_at()) else { return };
        call.course.head(head, bodiless);
        if let Some(watched) = &mut call.watched {
            watched.answered(head);
        }
        call.head = call.begun.map(|_| Instant::now());
    }

    pub(super) fn data(&mut self, bytes: usize) {
        if let Some(call) = &mut self.call {
            call.course.data(bytes);
        }
    }

    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        self.end(|course| course.trailers(trailers));
    }

    /// The body has said that it ended.
    pub(super) fn complete(&mut self) {
        self.end(|course| course.complete());
    }

    /// There is an error instead of a response, or instead of the rest of its body.
    pub(super) fn fail(&mut self, why: &Rejection) {
        self.end(|course| course.fail(why));
    }

    fn end(&mut self, how: impl FnOnce(&mut Course) -> End) {
        let Some(mut call) = self.call.take() else { return };
        // First of all: whatever becomes of telling.
        self.member.leave(call.counted);
        let end = how(&mut call.course);
        let outcome = *call.course.end(end);
        call.tell(&self.member, &outcome);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end(|course| course.dropped());
    }
}

impl Call {
    /// Whether anybody wants to know what becomes of it.
    const fn is_looked_at(&self) -> bool {
        self.begun.is_some() || self.watched.is_some()
    }

    fn tell(&mut self, member: &Member, outcome: &Outcome) {
        if let Some(watched) = self.watched.take() {
            watched.ended(member, outcome);
        }
        let Some(begun) = self.begun else { return };
        let now = Instant::now();
        let latency = self.head.unwrap_or(now).saturating_duration_since(begun);
        member.ended(&self.by_whose_time(outcome, now), latency, now);
    }

    /// Whoever stops waiting when the time is over drops the call: this says whose time it was. A server that says so itself
    /// has been told the time.
    fn by_whose_time(&self, outcome: &Outcome, now: Instant) -> Outcome {
        let Some(until) = self.until else { return *outcome };
        let is_over = outcome.end == End::Cancelled && until.instant() <= now;
        let is_kept_to = outcome.is_told_late() && until.is_callers_and_due(now);
        let end = match until.is_imposed() {
            true if is_over => End::Failed(Failure::Deadline),
            false if is_over || is_kept_to => End::Failed(Failure::CallerDeadline),
            _ => outcome.end,
        };
        Outcome { end, ..*outcome }
    }
}
