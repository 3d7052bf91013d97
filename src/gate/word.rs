use http::response;
use tracing::Span;

use crate::{head::Head, outcome::Outcome, reject::Answer};

/// A policy that looks at a request's head and lets it pass, or answers it.
pub trait Gate: Send + Sync + 'static {
    /// What is held while the request is served.
    type Pass: Pass;

    /// Whether the gate may be enforced for a share of the traffic only. Authentication and authorization may not:
    /// a door that is open one time in two is open.
    const SHAREABLE: bool = true;

    /// Decides. It must not block; letting pass should allocate nothing.
    ///
    /// # Errors
    ///
    /// The answer that the caller gets instead.
    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer>;

    /// As [`check`](Self::check), for gates made of gates: what those before the refusal gave must see the answer.
    ///
    /// # Errors
    ///
    /// The answer, and what was given before it.
    fn admit(&self, head: &mut Head<'_>) -> Result<Self::Pass, Stopped<Self::Pass>> {
        self.check(head).map_err(Stopped::from)
    }
}

/// The answer of a gate that did not let pass.
#[derive(Debug)]
pub struct Stopped<P> {
    /// What the caller gets.
    pub answer: Answer,
    /// What gates before the refusing one have given; it sees the answer.
    pub given: Option<P>,
}

impl<P> Stopped<P> {
    pub(super) fn map<Q>(self, given: impl FnOnce(P) -> Q) -> Stopped<Q> {
        Stopped { answer: self.answer, given: self.given.map(given) }
    }
}

impl<P> From<Answer> for Stopped<P> {
    fn from(answer: Answer) -> Self {
        Self { answer, given: None }
    }
}

/// What a [`Gate`] holds while the request it let pass is served, until the response's body has ended or its tunnel
/// has closed.
///
/// `()` is held by gates that only look.
pub trait Pass: Send + 'static {
    /// `false`: it is only held and dropped, and the response is not looked at.
    fn watches(&self) -> bool {
        true
    }

    /// `false`: it holds nothing and does not watch, and may be dropped before the response has come.
    fn holds(&self) -> bool {
        std::mem::needs_drop::<Self>() || self.watches()
    }

    /// The span that everything inside runs in: the gates, the service, the body of its response.
    fn span(&self) -> Option<&Span> {
        None
    }

    /// Does something inside of the [span](Self::span).
    fn in_scope<T>(&self, inside: impl FnOnce() -> T) -> T
    where
        Self: Sized,
    {
        match self.span() {
            Some(span) => span.in_scope(inside),
            None => inside(),
        }
    }

    /// The response's head has come and can be changed.
    fn on_head(&mut self, head: &mut response::Parts) {
        let _ = head;
    }

    /// The exchange has ended. Called exactly once.
    fn on_end(&mut self, outcome: &Outcome) {
        let _ = outcome;
    }
}

/// The word of an [`AsyncGate`].
#[derive(Debug)]
pub enum Check<P, W> {
    /// Decided.
    Now(Result<P, Stopped<P>>),
    /// To be decided when this future has told what it learned.
    Wait(W),
}

impl<P, W> From<Result<P, Answer>> for Check<P, W> {
    fn from(decision: Result<P, Answer>) -> Self {
        Self::Now(decision.map_err(Stopped::from))
    }
}

/// A [`Gate`] that may have to wait: for a store, an introspection endpoint, a key set that was never fetched.
///
/// It has two phases, so that nothing is borrowed across the wait, and nothing is boxed where there is none.
pub trait AsyncGate: Send + Sync + 'static {
    /// What is held while the request is served.
    type Pass: Pass;
    /// What is waited for; it owns what it needs. Dropped if the caller goes away.
    type Wait: Future<Output = Self::Told> + Send + 'static;
    /// What the wait tells.
    type Told: Send + 'static;

    /// As [`Gate::SHAREABLE`].
    const SHAREABLE: bool = true;

    /// Decides at once if it can, else says what to wait for.
    fn check(&self, head: &mut Head<'_>) -> Check<Self::Pass, Self::Wait>;

    /// Goes on, after the wait, with the same head. It may have to wait again.
    fn resume(&self, head: &mut Head<'_>, told: Self::Told) -> Check<Self::Pass, Self::Wait>;
}
