use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, HeaderValue};

#[cfg(feature = "redis")]
use super::distributed::DistributedRateLimit;
use super::{
    Charge, Limit, Notice,
    charge::{self, Bill, Patience},
    policy,
    turns::Turns,
};
use crate::{
    admission::fields::Fields,
    gate::{AsyncGate, AsyncGateLayer, Check, Gate, GateLayer},
    head::Head,
    reject::{Answer, Rejection},
};

/// Charges of this number are judged without an allocation.
pub(super) const FEW: usize = 4;

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
    /// Whether some limit is kept on Redis.
    #[cfg(feature = "redis")]
    pub(super) is_distributed: bool,
    /// Who asks Redis, in that case.
    #[cfg(feature = "redis")]
    distributed: Option<Arc<DistributedRateLimit>>,
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
        Self { fields: self.fields, legacy: self.legacy, ..limits }.wired()
    }

    /// When clients are told where they stand; on refusal unless told.
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self.wired()
    }

    /// Whether the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds) are told too, of the limit
    /// that is nearest to refusing. There is no standard for them, and every gateway means something else.
    pub fn legacy_fields(mut self, legacy: bool) -> Self {
        self.legacy = legacy;
        self.wired()
    }

    /// The limits.
    pub fn limits(&self) -> impl Iterator<Item = &Limit> {
        self.charges.iter().map(|charge| &charge.limit)
    }

    /// The layer. Its clones, and all services that they make, share the limits. Requests wait where a
    /// [leaky bucket](super::Algorithm::LeakyBucket) holds them, and where Redis has to be asked; else it decides at once.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
    }

    /// A gate that decides at once, for services that are no `Clone` and for lists of gates that do not wait.
    ///
    /// # Errors
    ///
    /// [`SyncError`], if it cannot: requests would have to wait, or Redis would have to be asked.
    pub fn sync(self) -> Result<SyncRateLimit, SyncError> {
        for limit in self.limits() {
            if limit.algorithm().waits() {
                return Err(SyncError::Waits(limit.name().into()));
            }
            if limit.is_distributed() {
                return Err(SyncError::Distributed(limit.name().into()));
            }
        }
        Ok(SyncRateLimit(self))
    }

    /// With whoever asks Redis.
    fn wired(mut self) -> Self {
        #[cfg(feature = "redis")]
        if self.is_distributed {
            self.distributed = Some(Arc::new(Self { distributed: None, ..self.clone() }.distributed()));
        }
        #[cfg(not(feature = "redis"))]
        let _ = &mut self;
        self
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
        let mut address = None;
        for (charge, bill) in self.charges.iter().zip(&mut *bills) {
            charge.make_out(bill, head, &mut address);
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
            return Notice::default();
        }
        let told = (self.fields == Fields::Always).then(|| {
            let mut headers = HeaderMap::with_capacity(if self.legacy { 5 } else { 2 });
            self.tell(bills, &mut headers);
            headers
        });
        let settled = self.charges.iter().zip(bills).filter(|(charge, bill)| charge.settles(bill));
        let open = settled.map(|(charge, bill)| (charge.clone(), *bill)).collect();
        Notice::of(told, open)
    }

    fn tell(&self, bills: &[Bill], headers: &mut HeaderMap) {
        let told = self.charges.iter().zip(bills).filter(|(charge, _)| !charge.in_shadow);
        let lines = told.map(|(charge, bill)| charge.line(bill));
        policy::tell(headers, &self.policies, lines, self.legacy);
    }

    #[cold]
    fn refuse(&self, bills: &[Bill]) -> Rejection {
        let told = self.charges.iter().zip(bills).filter(|(charge, _)| !charge.in_shadow);
        let told = told.map(|(charge, bill)| policy::Told {
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
            match charges.binary_search_by_key(&charge.limit.0.ledger.id, |other| other.limit.0.ledger.id) {
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
            #[cfg(feature = "redis")]
            distributed: None,
        }
        .wired()
    }
}

/// Limits that are asked by a gate that neither waits nor asks anybody. See [`RateLimit::sync`].
#[derive(Debug, Clone)]
#[must_use]
pub struct SyncRateLimit(RateLimit);

/// Why limits cannot decide at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The limit of this name has requests wait.
    #[error("requests wait before the limit `{0}`, which needs `RateLimit::layer`")]
    Waits(Arc<str>),
    /// The limit of this name is kept on Redis.
    #[error("the limit `{0}` is kept on Redis, which is asked by `RateLimit::layer`")]
    Distributed(Arc<str>),
}

impl SyncRateLimit {
    /// The layer. Its clones, and all services that they make, share the limits.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for SyncRateLimit {
    type Pass = Notice;

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Result<Notice, Answer> {
        self.0.decide(head, Patience::None, RateLimit::notice)
    }
}

impl AsyncGate for RateLimit {
    type Pass = Notice;
    type Wait = RateLimitWait;
    type Told = RateLimitTold;

    #[inline]
    fn check(&self, head: &mut Head<'_>) -> Check<Notice, RateLimitWait> {
        #[cfg(feature = "redis")]
        if let Some(distributed) = &self.distributed {
            return asked(distributed.check(head));
        }
        let passes = self.decide(head, Patience::Some, |limits, bills| {
            (limits.notice(bills), Turns::of(&limits.charges, bills))
        });
        match passes {
            Ok((notice, turns)) if turns.have_come() => Ok(notice).into(),
            Ok((notice, turns)) => Check::Wait(RateLimitWait(Wait::Turn(turns, notice))),
            Err(answer) => Err(answer).into(),
        }
    }

    #[cfg_attr(
        not(feature = "redis"),
        expect(unused_variables, reason = "only what Redis says is about a head")
    )]
    fn resume(&self, head: &mut Head<'_>, told: RateLimitTold) -> Check<Notice, RateLimitWait> {
        match told.0 {
            Told::Turn(notice) => Ok(notice).into(),
            #[cfg(feature = "redis")]
            Told::Redis(told) => match &self.distributed {
                Some(distributed) => asked(distributed.resume(head, told)),
                None => Ok(Notice::default()).into(), // nobody else has asked
            },
        }
    }
}

#[cfg(feature = "redis")]
fn asked(check: Check<Notice, <DistributedRateLimit as AsyncGate>::Wait>) -> Check<Notice, RateLimitWait> {
    match check {
        Check::Now(decision) => Check::Now(decision),
        Check::Wait(wait) => Check::Wait(RateLimitWait(Wait::Redis(wait))),
    }
}

/// The wait for a turn, or for Redis. Whoever drops it gives back what it was charged.
pub struct RateLimitWait(Wait);

enum Wait {
    Turn(Turns, Notice),
    #[cfg(feature = "redis")]
    Redis(<DistributedRateLimit as AsyncGate>::Wait),
}

/// What the wait for a turn, or for Redis, has told.
#[derive(Debug)]
pub struct RateLimitTold(Told);

#[derive(Debug)]
enum Told {
    Turn(Notice),
    #[cfg(feature = "redis")]
    Redis(<DistributedRateLimit as AsyncGate>::Told),
}

impl Future for RateLimitWait {
    type Output = RateLimitTold;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RateLimitTold> {
        match &mut self.0 {
            Wait::Turn(turns, notice) => {
                ready!(turns.poll(cx));
                turns.serve();
                Poll::Ready(RateLimitTold(Told::Turn(mem::take(notice))))
            }
            #[cfg(feature = "redis")]
            Wait::Redis(wait) => wait.as_mut().poll(cx).map(|told| RateLimitTold(Told::Redis(told))),
        }
    }
}

impl fmt::Debug for RateLimitWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitWait").finish_non_exhaustive()
    }
}
