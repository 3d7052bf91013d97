use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, response};

#[cfg(feature = "redis")]
use super::distributed::Open;
use super::{
    Charge, Limit,
    charge::{self, Bill, Patience},
    policy::{self, Told},
    queue::Place,
};
use crate::{
    gate::{AsyncGate, AsyncGateLayer, Check, Gate, GateLayer, Pass},
    head::Head,
    outcome::Outcome,
    reject::{Answer, Rejection},
};

/// Charges of this number are judged without an allocation.
const FEW: usize = 4;

/// A gate that lets a request pass if all its limits do. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct RateLimit {
    /// In the order in which their tables are locked, and no limit twice.
    pub(super) charges: Vec<Charge>,
    policies: HeaderValue,
    pub(super) fields: Fields,
    pub(super) legacy: bool,
    /// Whether some cost is known at the end only.
    settles: bool,
    /// Whether some limit is kept on Redis, which only [`distributed`](Self::distributed) asks.
    #[cfg(feature = "redis")]
    pub(super) is_distributed: bool,
}

/// When clients are told where they stand, in `RateLimit` and `RateLimit-Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fields {
    /// In every response. Costs two allocations a request.
    Always,
    /// In no response; `Retry-After` stays.
    Never,
    /// Where a limit refused.
    #[default]
    OnRefusal,
}

impl RateLimit {
    /// A gate with one limit.
    pub fn new(limit: impl Into<Charge>) -> Self {
        Self::from_iter([limit.into()])
    }

    /// Adds a limit: a request passes if all limits let it, and one that does not pass spends nothing of any. A
    /// limit that is named again is still charged once, with the cost named last.
    pub fn and(self, limit: impl Into<Charge>) -> Self {
        let limits = self.charges.into_iter().chain([limit.into()]).collect();
        Self { fields: self.fields, legacy: self.legacy, ..limits }
    }

    /// When clients are told where they stand; on refusal unless told.
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }

    /// Whether the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds) are told too, of the limit
    /// that is nearest to refusing. There is no standard for them, and every gateway means something else.
    pub fn legacy_fields(mut self, legacy: bool) -> Self {
        self.legacy = legacy;
        self
    }

    /// The limits.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.charges.iter().map(|charge| &charge.limit)
    }

    /// The layer. Its clones, and all services that they make, share the limits. Where a limit is kept on Redis it refuses
    /// everything, with 500: see [`distributed`](Self::distributed).
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// A gate that has requests wait where a [leaky bucket](super::Algorithm::LeakyBucket) holds them.
    pub fn shaping(self) -> Shaping {
        Shaping(self)
    }

    /// Whether one of the limits can only be asked once the caller is authenticated.
    #[must_use]
    pub fn needs_identity(&self) -> bool {
        self.charges.iter().any(Charge::needs_identity)
    }

    /// Judges a request, and has `then` make something of its bills if it passes.
    #[inline]
    pub(super) fn decide<T>(
        &self,
        head: &mut Head<'_>,
        patience: Patience,
        then: impl FnOnce(&Self, &[Bill]) -> T,
    ) -> Result<T, Answer> {
        #[cfg(feature = "redis")]
        if self.is_distributed {
            return Err(self.misplaced().into());
        }
        match self.charges.len() {
            1 => self.decide_in(&mut [Bill::NONE], head, patience, then),
            count @ 0..=FEW => self.decide_in(&mut [Bill::NONE; FEW][..count], head, patience, then),
            count => self.decide_in(&mut vec![Bill::NONE; count], head, patience, then),
        }
    }

    #[inline]
    fn decide_in<T>(
        &self,
        bills: &mut [Bill],
        head: &mut Head<'_>,
        patience: Patience,
        then: impl FnOnce(&Self, &[Bill]) -> T,
    ) -> Result<T, Answer> {
        for (charge, bill) in self.charges.iter().zip(&mut *bills) {
            *bill = charge.bill(head);
        }
        let paid = charge::pay(&self.charges, bills, patience);
        for (charge, bill) in self.charges.iter().zip(&*bills) {
            charge.count(bill, paid);
        }
        if paid { Ok(then(self, bills)) } else { Err(self.refuse(bills).into()) }
    }

    /// What is to be done when the response comes.
    #[inline]
    pub(super) fn notice(&self, bills: &[Bill]) -> Notice {
        if self.fields != Fields::Always && !self.settles {
            return Notice(None);
        }
        let told = (self.fields == Fields::Always).then(|| {
            let mut headers = HeaderMap::with_capacity(if self.legacy { 5 } else { 2 });
            self.tell(bills, &mut headers);
            headers
        });
        let settled = self.charges.iter().zip(bills).filter(|(charge, bill)| charge.settles(bill));
        let open = settled.map(|(charge, bill)| (charge.clone(), *bill)).collect();
        Notice(Some(Box::new(After { told, open, ..After::default() })))
    }

    fn tell(&self, bills: &[Bill], headers: &mut HeaderMap) {
        let told = self.charges.iter().zip(bills).filter(|(charge, _)| !charge.in_shadow);
        let lines = told.map(|(charge, bill)| charge.line(bill));
        policy::tell(headers, &self.policies, lines, self.legacy);
    }

    /// To count a limit of all instances in this one would let pass many times as much, and nobody would see it.
    #[cold]
    #[cfg(feature = "redis")]
    fn misplaced(&self) -> Rejection {
        let limits: Vec<_> = self.limits().filter(|limit| limit.is_distributed()).map(Limit::name).collect();
        tracing::error!(?limits, "limits on Redis need RateLimit::distributed(): everything is refused");
        Rejection::new(crate::reject::Reason::Internal)
            .detail("limits on Redis need `RateLimit::distributed()`")
    }

    #[cold]
    fn refuse(&self, bills: &[Bill]) -> Rejection {
        let told = self.charges.iter().zip(bills).filter(|(charge, _)| !charge.in_shadow);
        let told = told.map(|(charge, bill)| Told {
            name: charge.limit.name(),
            verdict: bill.verdict,
            line: charge.line(bill),
        });
        policy::refusal(&told.collect::<Vec<_>>(), &self.policies, self.fields, self.legacy)
    }
}

impl<C: Into<Charge>> FromIterator<C> for RateLimit {
    /// A gate with these limits. Without any, everything passes.
    fn from_iter<I: IntoIterator<Item = C>>(limits: I) -> Self {
        let mut charges: Vec<Charge> = Vec::new();
        for charge in limits {
            let charge = charge.into();
            match charges.binary_search_by_key(&charge.limit.0.id, |other| other.limit.0.id) {
                Ok(at) => charges[at] = charge,
                Err(at) => charges.insert(at, charge),
            }
        }
        let told = charges.iter().filter(|charge| !charge.in_shadow);
        let policies = policy::policies(told.map(|charge| &charge.limit.0.policy));
        let settles = charges.iter().any(|charge| charge.settle.is_some());
        #[cfg(feature = "redis")]
        let is_distributed = charges.iter().any(|charge| charge.limit.is_distributed());
        Self {
            charges,
            policies,
            fields: Fields::default(),
            legacy: false,
            settles,
            #[cfg(feature = "redis")]
            is_distributed,
        }
    }
}

impl Gate for RateLimit {
    type Pass = Notice;

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Result<Notice, Answer> {
        self.decide(head, Patience::None, Self::notice)
    }
}

/// A [`RateLimit`] that can have requests wait.
#[derive(Debug, Clone)]
#[must_use]
pub struct Shaping(RateLimit);

impl Shaping {
    /// The layer. Its clones, and all services that they make, share the limits.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
    }
}

impl AsyncGate for Shaping {
    type Pass = Notice;
    type Wait = Waiting;
    type Told = Notice;

    fn check(&self, head: &mut Head<'_>) -> Check<Notice, Waiting> {
        let passes = self.0.decide(head, Patience::Some, |limits, bills| {
            let charges = limits.charges.iter().zip(bills);
            let place =
                |(charge, bill): (&Charge, &Bill)| Some(Place::new(charge.limit.clone(), *bill, bill.place?));
            (limits.notice(bills), charges.filter_map(place).collect::<Vec<_>>())
        });
        match passes {
            Ok((notice, places)) if places.is_empty() => Ok(notice).into(),
            Ok((notice, places)) => Check::Wait(Waiting { places, notice: Some(notice) }),
            Err(answer) => Err(answer).into(),
        }
    }

    fn resume(&self, _: &mut Head<'_>, told: Notice) -> Check<Notice, Waiting> {
        Ok(told).into()
    }
}

/// The wait of a [`Shaping`]. Whoever drops it gives back what it was charged where it waited.
#[derive(Debug)]
pub struct Waiting {
    places: Vec<Place>,
    notice: Option<Notice>,
}

impl Future for Waiting {
    type Output = Notice;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Notice> {
        self.places.retain_mut(|place| Pin::new(place).poll(cx).is_pending());
        match self.notice.take() {
            Some(notice) if self.places.is_empty() => Poll::Ready(notice),
            notice => {
                self.notice = notice;
                Poll::Pending
            }
        }
    }
}

/// What is to be done with the response of a request that the limits let pass.
#[derive(Debug, Default)]
pub struct Notice(Option<Box<After>>);

#[derive(Debug, Default)]
struct After {
    /// What the response will tell.
    told: Option<HeaderMap>,
    /// What is charged when the cost is known.
    open: Vec<(Charge, Bill)>,
    /// And on Redis.
    #[cfg(feature = "redis")]
    there: Vec<Open>,
}

impl Notice {
    /// Tells this too, if it is anything, and settles these too.
    #[cfg(feature = "redis")]
    pub(super) fn also(
        mut self,
        told: Option<HeaderMap>,
        (here, there): (Vec<(Charge, Bill)>, Vec<Open>),
    ) -> Self {
        if told.is_none() && here.is_empty() && there.is_empty() {
            return self;
        }
        let after = self.0.get_or_insert_default();
        after.told = match (after.told.take(), told) {
            (Some(mut before), Some(told)) => {
                before.extend(told);
                Some(before)
            }
            (before, told) => before.or(told),
        };
        after.open.extend(here);
        after.there = there;
        self
    }
}

impl Pass for Notice {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.watches()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        let Some(after) = &mut self.0 else { return };
        for (charge, bill) in &after.open {
            charge.see_head(bill, head);
        }
        #[cfg(feature = "redis")]
        after.there.iter().for_each(|open| open.see_head(head));
        for (name, value) in after.told.take().into_iter().flatten() {
            let Some(name) = name else { continue };
            if name.as_str().starts_with("x-") {
                head.headers.insert(name, value);
            } else {
                head.headers.append(name, value);
            }
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let Some(after) = &self.0 else { return };
        for (charge, bill) in &after.open {
            charge.see_end(bill, outcome);
        }
        #[cfg(feature = "redis")]
        after.there.iter().for_each(|open| open.see_end(outcome));
    }
}
