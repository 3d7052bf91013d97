//! Gates made of gates, and passes made of passes.

use std::sync::Arc;

use http::response;
use tracing::Span;

use super::{Gate, Pass, Stopped};
use crate::{head::Head, outcome::Outcome, reject::Answer};

impl Pass for () {
    fn watches(&self) -> bool {
        false
    }
}

impl<P: Pass> Pass for Option<P> {
    fn watches(&self) -> bool {
        self.as_ref().is_some_and(P::watches)
    }
    fn holds(&self) -> bool {
        self.as_ref().is_some_and(P::holds)
    }
    fn span(&self) -> Option<&Span> {
        self.as_ref()?.span()
    }
    fn on_head(&mut self, head: &mut response::Parts) {
        if let Some(pass) = self {
            pass.on_head(head);
        }
    }
    fn on_end(&mut self, outcome: &Outcome) {
        if let Some(pass) = self {
            pass.on_end(outcome);
        }
    }
}

impl<P: Pass + ?Sized> Pass for Box<P> {
    fn watches(&self) -> bool {
        (**self).watches()
    }
    fn holds(&self) -> bool {
        (**self).holds()
    }
    fn span(&self) -> Option<&Span> {
        (**self).span()
    }
    fn on_head(&mut self, head: &mut response::Parts) {
        (**self).on_head(head);
    }
    fn on_end(&mut self, outcome: &Outcome) {
        (**self).on_end(outcome);
    }
}

/// As if nested: the last given is the innermost and sees the response first.
impl<P: Pass> Pass for Vec<P> {
    fn watches(&self) -> bool {
        self.iter().any(P::watches)
    }
    fn holds(&self) -> bool {
        self.iter().any(P::holds)
    }
    fn span(&self) -> Option<&Span> {
        self.iter().rev().find_map(P::span)
    }
    fn on_head(&mut self, head: &mut response::Parts) {
        each(self, |pass| pass.on_head(head));
    }
    fn on_end(&mut self, outcome: &Outcome) {
        each(self, |pass| pass.on_end(outcome));
    }
}

/// The innermost first, each inside of the span around it.
fn each<P: Pass>(passes: &mut [P], mut see: impl FnMut(&mut P)) {
    let mut left = passes;
    while let Some((pass, outer)) = left.split_last_mut() {
        match outer.iter().rev().find_map(P::span) {
            Some(span) => span.in_scope(|| see(pass)),
            None => see(pass),
        }
        left = outer;
    }
}

impl<G: Gate> Gate for Option<G> {
    type Pass = Option<G::Pass>;
    const SHAREABLE: bool = G::SHAREABLE;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        self.as_ref().map(|gate| gate.check(head)).transpose()
    }

    fn admit(&self, head: &mut Head<'_>) -> Result<Self::Pass, Stopped<Self::Pass>> {
        let Some(gate) = self else { return Ok(None) };
        match gate.admit(head) {
            Ok(pass) => Ok(Some(pass)),
            Err(Stopped { answer, given }) => Err(Stopped { answer, given: Some(given) }),
        }
    }
}

impl<G: Gate> Gate for Arc<G> {
    type Pass = G::Pass;
    const SHAREABLE: bool = G::SHAREABLE;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        (**self).check(head)
    }

    fn admit(&self, head: &mut Head<'_>) -> Result<Self::Pass, Stopped<Self::Pass>> {
        (**self).admit(head)
    }
}

/// What two gates gave, the outer first. The inner one is missing if it refused.
#[derive(Debug)]
pub struct Both<A, B>(Option<A>, Option<B>);

impl<A: Pass, B: Pass> Pass for Both<A, B> {
    fn watches(&self) -> bool {
        self.0.watches() || self.1.watches()
    }
    fn holds(&self) -> bool {
        self.0.holds() || self.1.holds()
    }
    fn span(&self) -> Option<&Span> {
        self.1.span().or_else(|| self.0.span())
    }
    fn on_head(&mut self, head: &mut response::Parts) {
        self.0.in_scope(|| self.1.on_head(head));
        self.0.on_head(head);
    }
    fn on_end(&mut self, outcome: &Outcome) {
        self.0.in_scope(|| self.1.on_end(outcome));
        self.0.on_end(outcome);
    }
}

/// Asks what stands inside of a pass that no [`Completion`](crate::outcome::Completion) keeps yet. A panic there is how
/// the call ended.
pub(super) fn inside<P: Pass, T>(pass: &mut P, ask: impl FnOnce() -> T) -> T {
    struct Fuse<'p, P: Pass>(&'p mut P);
    impl<P: Pass> Drop for Fuse<'_, P> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.on_end(&Outcome::PANICKED);
            }
        }
    }
    let fuse = Fuse(pass);
    fuse.0.in_scope(ask)
}

/// The first is the outer one. Tuples nest: `(a, (b, c))`.
impl<A: Gate, B: Gate> Gate for (A, B) {
    type Pass = Both<A::Pass, B::Pass>;
    const SHAREABLE: bool = A::SHAREABLE && B::SHAREABLE;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        self.admit(head).map_err(|stopped| stopped.answer)
    }

    fn admit(&self, head: &mut Head<'_>) -> Result<Self::Pass, Stopped<Self::Pass>> {
        let mut outer = self.0.admit(head).map_err(|Stopped { answer, given }| Stopped {
            answer,
            given: given.map(|given| Both(Some(given), None)),
        })?;
        match inside(&mut outer, || self.1.admit(head)) {
            Ok(inner) => Ok(Both(Some(outer), Some(inner))),
            Err(Stopped { answer, given }) => Err(Stopped { answer, given: Some(Both(Some(outer), given)) }),
        }
    }
}
