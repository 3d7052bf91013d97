use std::{fmt, sync::Arc};

use super::{Gate, Pass, Stopped, combine::inside};
use crate::{head::Head, reject::Answer};

/// A pass of any type.
pub type BoxPass = Box<dyn Pass>;

/// A [`Gate`] of any type. Every gate is one.
pub trait DynGate: Send + Sync + 'static {
    /// As [`Gate::admit`]. `None`: nothing is held and nothing watches, so nothing was boxed.
    ///
    /// # Errors
    ///
    /// The answer, and what was given before it.
    fn admit_any(&self, head: &mut Head<'_>) -> Result<Option<BoxPass>, Stopped<BoxPass>>;
}

impl<G: Gate> DynGate for G {
    fn admit_any(&self, head: &mut Head<'_>) -> Result<Option<BoxPass>, Stopped<BoxPass>> {
        match self.admit(head) {
            Ok(pass) => Ok(boxed(pass)),
            Err(Stopped { answer, given }) => Err(Stopped { answer, given: given.and_then(boxed) }),
        }
    }
}

pub(super) fn boxed<P: Pass>(pass: P) -> Option<BoxPass> {
    pass.holds().then(|| Box::new(pass) as BoxPass)
}

/// Gates of different types as one, the outermost first.
///
/// ```
/// use portcullis::gate::{Gate, GateLayer, Gates};
/// # use portcullis::{head::Head, reject::Answer};
/// # struct A; struct B;
/// # impl Gate for A { type Pass = (); fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> { Ok(()) } }
/// # impl Gate for B { type Pass = (); fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> { Ok(()) } }
/// let layer = GateLayer::new(Gates::new().with(A).with(B));
/// ```
#[derive(Clone, Default)]
pub struct Gates(Vec<Arc<dyn DynGate>>);

impl Gates {
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
        self.0.push(gate);
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
}

impl Gate for Gates {
    type Pass = Vec<BoxPass>;

    /// What stands in a slice is not known by type, so it is not enforced for a share as a whole.
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        self.admit(head).map_err(|stopped| stopped.answer)
    }

    fn admit(&self, head: &mut Head<'_>) -> Result<Self::Pass, Stopped<Self::Pass>> {
        let mut passes: Self::Pass = Vec::new();
        for gate in &self.0 {
            match inside(&mut passes, || gate.admit_any(head)) {
                Ok(pass) => passes.extend(pass),
                Err(Stopped { answer, given }) => {
                    passes.extend(given);
                    return Err(Stopped { answer, given: Some(passes) });
                }
            }
        }
        Ok(passes)
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates").field("len", &self.0.len()).finish()
    }
}
