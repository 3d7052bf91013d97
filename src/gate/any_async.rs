use std::{
    any::Any,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{AsyncGate, BoxPass, Check, DynGate, Gate, Stopped, any::boxed, combine::inside};
use crate::{
    head::Head,
    outcome::Completion,
    reject::{Reason, Rejection},
};

/// What a wait of any type tells.
pub type BoxTold = Box<dyn Any + Send>;

/// The wait of an [`AsyncGate`] of any type. It is boxed only where a request has to wait.
pub type BoxWait = Pin<Box<dyn Future<Output = BoxTold> + Send>>;

/// An [`AsyncGate`] of any type. Every one is.
pub trait DynAsyncGate: Send + Sync + 'static {
    /// As [`AsyncGate::check`].
    fn check_any(&self, head: &mut Head<'_>) -> Check<Option<BoxPass>, BoxWait>;

    /// As [`AsyncGate::resume`], with what a wait of this gate told.
    fn resume_any(&self, head: &mut Head<'_>, told: BoxTold) -> Check<Option<BoxPass>, BoxWait>;
}

impl<G: AsyncGate> DynAsyncGate for G {
    fn check_any(&self, head: &mut Head<'_>) -> Check<Option<BoxPass>, BoxWait> {
        erase::<G>(self.check(head))
    }

    fn resume_any(&self, head: &mut Head<'_>, told: BoxTold) -> Check<Option<BoxPass>, BoxWait> {
        match told.downcast() {
            Ok(told) => erase::<G>(self.resume(head, *told)),
            Err(_) => {
                let mixed_up = Rejection::new(Reason::Internal).detail("a gate was told what another asked");
                Err(mixed_up.into()).into()
            }
        }
    }
}

fn erase<G: AsyncGate>(check: Check<G::Pass, G::Wait>) -> Check<Option<BoxPass>, BoxWait> {
    match check {
        Check::Now(decision) => Check::Now(decision.map(boxed).map_err(|stopped| stopped.map(boxed))),
        Check::Wait(wait) => Check::Wait(Box::pin(async move { Box::new(wait.await) as BoxTold })),
    }
}

/// Gates of different types as one, the outermost first, of which some may wait: [`Gates`](super::Gates) with room for
/// [`AsyncGate`]s. What need not wait does not.
///
/// ```
/// use portcullis::gate::{AsyncGateLayer, AsyncGates, Check, Gate, AsyncGate};
/// # use portcullis::{head::Head, reject::Answer};
/// # struct A; struct B;
/// # impl Gate for A { type Pass = (); fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> { Ok(()) } }
/// # impl AsyncGate for B {
/// #     type Pass = (); type Told = (); type Wait = std::future::Ready<()>;
/// #     fn check(&self, _: &mut Head<'_>) -> Check<(), Self::Wait> { Check::Wait(std::future::ready(())) }
/// #     fn resume(&self, _: &mut Head<'_>, (): ()) -> Check<(), Self::Wait> { Check::Now(Ok(())) }
/// # }
/// let layer = AsyncGateLayer::new(AsyncGates::new().with(A).with_async(B));
/// ```
#[derive(Clone, Default)]
pub struct AsyncGates(Vec<Member>);

#[derive(Clone)]
enum Member {
    Sync(Arc<dyn DynGate>),
    Async(Arc<dyn DynAsyncGate>),
}

impl AsyncGates {
    /// No gate: everything passes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate inside the others.
    #[must_use]
    pub fn with(self, gate: impl Gate) -> Self {
        self.with_shared(Arc::new(gate))
    }

    /// Adds a gate that others use too.
    #[must_use]
    pub fn with_shared(mut self, gate: Arc<dyn DynGate>) -> Self {
        self.0.push(Member::Sync(gate));
        self
    }

    /// Adds a gate that may wait inside the others.
    #[must_use]
    pub fn with_async(self, gate: impl AsyncGate) -> Self {
        self.with_shared_async(Arc::new(gate))
    }

    /// Adds a gate that may wait and that others use too.
    #[must_use]
    pub fn with_shared_async(mut self, gate: Arc<dyn DynAsyncGate>) -> Self {
        self.0.push(Member::Async(gate));
        self
    }

    /// Adds all of these inside the others.
    #[must_use]
    pub fn with_all(mut self, inner: Self) -> Self {
        self.0.extend(inner.0);
        self
    }

    /// How many gates there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no gate.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks the gates from `next` on.
    fn ask(
        &self,
        head: &mut Head<'_>,
        next: usize,
        mut passes: Vec<BoxPass>,
    ) -> Check<Vec<BoxPass>, AsyncGatesWait> {
        for (at, member) in self.0.iter().enumerate().skip(next) {
            let check = inside(&mut passes, || match member {
                Member::Sync(gate) => Check::Now(gate.admit_any(head).map_err(|stopped| stopped.map(Some))),
                Member::Async(gate) => gate.check_any(head),
            });
            match check {
                Check::Now(Ok(pass)) => passes.extend(pass),
                Check::Now(Err(stopped)) => return stop(passes, stopped),
                Check::Wait(wait) => return Check::Wait(AsyncGatesWait { wait, at, passes }),
            }
        }
        Check::Now(Ok(passes))
    }
}

fn stop(
    mut passes: Vec<BoxPass>,
    Stopped { answer, given }: Stopped<Option<BoxPass>>,
) -> Check<Vec<BoxPass>, AsyncGatesWait> {
    passes.extend(given.flatten());
    Check::Now(Err(Stopped { answer, given: Some(passes) }))
}

impl AsyncGate for AsyncGates {
    type Pass = Vec<BoxPass>;
    type Wait = AsyncGatesWait;
    type Told = (usize, Vec<BoxPass>, BoxTold);

    /// What stands in a slice is not known by type, so it is not enforced for a share as a whole.
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Check<Self::Pass, Self::Wait> {
        self.ask(head, 0, Vec::new())
    }

    fn resume(&self, head: &mut Head<'_>, told: Self::Told) -> Check<Self::Pass, Self::Wait> {
        let (at, mut passes, told) = told;
        // Only one of these waits.
        let Some(Member::Async(gate)) = self.0.get(at) else { return self.ask(head, at, passes) };
        match inside(&mut passes, || gate.resume_any(head, told)) {
            Check::Now(Ok(pass)) => {
                passes.extend(pass);
                self.ask(head, at + 1, passes)
            }
            Check::Now(Err(stopped)) => stop(passes, stopped),
            Check::Wait(wait) => Check::Wait(AsyncGatesWait { wait, at, passes }),
        }
    }
}

impl fmt::Debug for AsyncGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncGates").field("len", &self.0.len()).finish()
    }
}

/// The wait of [`AsyncGates`]. If it is dropped, the gates that had let pass are told that the call was cancelled.
pub struct AsyncGatesWait {
    wait: BoxWait,
    at: usize,
    passes: Vec<BoxPass>,
}

impl Future for AsyncGatesWait {
    type Output = (usize, Vec<BoxPass>, BoxTold);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let told = ready!(self.wait.as_mut().poll(cx));
        Poll::Ready((self.at, mem::take(&mut self.passes), told))
    }
}

impl Drop for AsyncGatesWait {
    fn drop(&mut self) {
        drop(Completion::new(mem::take(&mut self.passes)));
    }
}

impl fmt::Debug for AsyncGatesWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncGatesWait").field("at", &self.at).finish_non_exhaustive()
    }
}
