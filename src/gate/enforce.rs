use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::response;
use pin_project_lite::pin_project;
use tracing::Span;

use super::{AsyncGate, AsyncGateLayer, Check, Gate, GateLayer, Pass};
use crate::{chance::Chance, head::Head, outcome::Outcome, ratio::Ratio, reject::Answer};

/// A gate that decides for all requests and refuses only a share of those it would refuse.
///
/// For the others it is in shadow: it decides on a copy of the head, is counted and logged (target
/// `portcullis::shadow`), and lets pass.
pub struct Enforce<G> {
    gate: G,
    name: Arc<str>,
    share: Ratio,
    chance: Chance,
    spared: Arc<AtomicU64>,
}

/// How often an [`Enforce`] would have refused and did not.
#[derive(Debug, Clone)]
pub struct EnforceHandle {
    spared: Arc<AtomicU64>,
}

impl EnforceHandle {
    /// The requests that were let pass although the gate would have answered them.
    #[must_use]
    pub fn spared(&self) -> u64 {
        self.spared.load(Ordering::Relaxed)
    }
}

impl<G> Enforce<G> {
    /// `gate` decides, is counted and logged under `name`, and lets everything pass.
    #[must_use]
    pub fn shadow(name: impl Into<Arc<str>>, gate: G) -> Self {
        Self { gate, name: name.into(), share: Ratio::NEVER, chance: Chance::new(), spared: Arc::default() }
    }

    /// A layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self>
    where
        Self: Gate,
    {
        GateLayer::new(self)
    }

    /// A layer with this gate, which may wait.
    #[must_use]
    pub fn async_layer(self) -> AsyncGateLayer<Self>
    where
        Self: AsyncGate,
    {
        AsyncGateLayer::new(self)
    }

    /// Where the chance comes from that says whom the share strikes.
    #[must_use]
    pub fn chance(mut self, chance: Chance) -> Self {
        self.chance = chance;
        self
    }

    /// What it counts.
    #[must_use]
    pub fn handle(&self) -> EnforceHandle {
        EnforceHandle { spared: Arc::clone(&self.spared) }
    }

    fn spare<P>(&self, decision: Result<P, Answer>) -> Option<P> {
        match decision {
            Ok(pass) => Some(pass),
            Err(answer) => {
                self.spared.fetch_add(1, Ordering::Relaxed);
                let reason = match &answer {
                    Answer::Refuse(rejection) => rejection.reason().label(),
                    Answer::Respond(_) => "respond",
                };
                tracing::info!(target: "portcullis::shadow", gate = &*self.name, reason, "would have answered");
                None
            }
        }
    }
}

impl<G: AsyncGate> Enforce<G> {
    fn enforce(
        &self,
        check: Check<G::Pass, G::Wait>,
        in_shadow: bool,
    ) -> Check<Enforced<G::Pass>, EnforcedWait<G::Wait>> {
        let enforced = |pass| Enforced { pass, in_shadow };
        match check {
            Check::Wait(wait) => Check::Wait(EnforcedWait { wait, in_shadow }),
            Check::Now(decision) if in_shadow => {
                Check::Now(Ok(enforced(self.spare(decision.map_err(|stopped| stopped.answer)))))
            }
            Check::Now(decision) => {
                let enforced = |pass| enforced(Some(pass));
                Check::Now(decision.map(enforced).map_err(|stopped| stopped.map(enforced)))
            }
        }
    }
}

impl<G: Gate> Enforce<G> {
    /// `gate` is enforced for `share` of the requests, by chance.
    ///
    /// It does not compile for authentication and authorization, whose [`Gate::SHAREABLE`] is `false`.
    #[must_use]
    pub fn share(name: impl Into<Arc<str>>, share: Ratio, gate: G) -> Self {
        const { assert!(G::SHAREABLE, "this gate is enforced for all requests or for none") }
        Self { share, ..Self::shadow(name, gate) }
    }
}

impl<G: AsyncGate> Enforce<G> {
    /// As [`share`](Self::share), for a gate that may wait.
    #[must_use]
    pub fn async_share(name: impl Into<Arc<str>>, share: Ratio, gate: G) -> Self {
        const { assert!(G::SHAREABLE, "this gate is enforced for all requests or for none") }
        Self { share, ..Self::shadow(name, gate) }
    }
}

impl<G> fmt::Debug for Enforce<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enforce")
            .field("name", &self.name)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

/// The pass of an [`Enforce`]. In shadow it holds and hears, and changes nothing.
#[derive(Debug)]
pub struct Enforced<P> {
    pass: Option<P>,
    in_shadow: bool,
}

impl<P: Pass> Pass for Enforced<P> {
    fn watches(&self) -> bool {
        self.pass.watches()
    }
    fn holds(&self) -> bool {
        self.pass.holds()
    }
    fn span(&self) -> Option<&Span> {
        self.pass.span()
    }
    fn on_head(&mut self, head: &mut response::Parts) {
        if !self.in_shadow {
            self.pass.on_head(head);
        }
    }
    fn on_end(&mut self, outcome: &Outcome) {
        self.pass.on_end(outcome);
    }
}

impl<G: Gate> Gate for Enforce<G> {
    type Pass = Enforced<G::Pass>;
    const SHAREABLE: bool = G::SHAREABLE;

    fn check(&self, head: &mut Head<'_>) -> Result<Self::Pass, Answer> {
        if self.chance.ratio(self.share) {
            let pass = Some(self.gate.check(head)?);
            return Ok(Enforced { pass, in_shadow: false });
        }
        let mut scratch = head.to_scratch();
        let pass = self.spare(self.gate.check(&mut Head::of(&mut scratch)));
        Ok(Enforced { pass, in_shadow: true })
    }
}

impl<G: AsyncGate> AsyncGate for Enforce<G> {
    type Pass = Enforced<G::Pass>;
    type Wait = EnforcedWait<G::Wait>;
    type Told = (bool, G::Told);
    const SHAREABLE: bool = G::SHAREABLE;

    fn check(&self, head: &mut Head<'_>) -> Check<Self::Pass, Self::Wait> {
        let in_shadow = !self.chance.ratio(self.share);
        let check = if in_shadow {
            self.gate.check(&mut Head::of(&mut head.to_scratch()))
        } else {
            self.gate.check(head)
        };
        self.enforce(check, in_shadow)
    }

    fn resume(
        &self,
        head: &mut Head<'_>,
        (in_shadow, told): Self::Told,
    ) -> Check<Self::Pass, EnforcedWait<G::Wait>> {
        let check = if in_shadow {
            self.gate.resume(&mut Head::of(&mut head.to_scratch()), told)
        } else {
            self.gate.resume(head, told)
        };
        self.enforce(check, in_shadow)
    }
}

pin_project! {
    /// The wait of an [`Enforce`].
    #[derive(Debug)]
    pub struct EnforcedWait<W> {
        #[pin]
        wait: W,
        in_shadow: bool,
    }
}

impl<W: Future> Future for EnforcedWait<W> {
    type Output = (bool, W::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let told = ready!(this.wait.poll(cx));
        Poll::Ready((*this.in_shadow, told))
    }
}
