use std::sync::Arc;

use super::{
    limit::Concurrency,
    permit::{Held, Told, Wait},
};
use crate::{
    gate::{AsyncGate, AsyncGateLayer, Check, Gate, GateLayer},
    head::Head,
    reject::Answer,
};

impl Concurrency {
    /// The layer. Its clones, and all services that they make, share the limit.
    #[must_use]
    pub fn layer(&self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::shared(Arc::new(self.clone()))
    }

    /// A layer in which nobody waits, whether there is a queue or not: for services that are no `Clone`.
    #[must_use]
    pub fn sync_layer(&self) -> GateLayer<Self> {
        GateLayer::shared(Arc::new(self.clone()))
    }
}

impl AsyncGate for Concurrency {
    type Pass = Held;
    type Wait = Wait;
    type Told = Told;

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Check<Held, Wait> {
        if self.0.skips(head) {
            return Ok(Held::SKIPPED).into();
        }
        let caller = self.0.caller(head);
        match self.0.enter(head, caller) {
            Some(held) => Ok(held).into(),
            None => match self.0.join(head, caller) {
                Some(Ok(held)) => Ok(held).into(),
                Some(Err(wait)) => Check::Wait(wait),
                None => Err(self.0.refuse(None).into()).into(),
            },
        }
    }

    fn resume(&self, _: &mut Head<'_>, Told(told): Told) -> Check<Held, Wait> {
        told.map_err(|why| self.0.refuse(Some(why)).into()).into()
    }
}

/// As an [`AsyncGate`], without the queue.
impl Gate for Concurrency {
    type Pass = Held;

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Result<Held, Answer> {
        if self.0.skips(head) {
            return Ok(Held::SKIPPED);
        }
        let caller = self.0.caller(head);
        self.0.enter(head, caller).ok_or_else(|| self.0.refuse(None).into())
    }
}
