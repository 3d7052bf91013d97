use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, response};
use tokio::time::Instant;

use super::{
    Quota, QuotaOutage,
    bill::{self, Bill, Payment, State},
    definition::Counts,
};
use crate::{
    admission::{
        fields::{self, Fields, Line, Policy},
        rate_limit::Verdict,
        waited::{wait, waited},
    },
    gate::{AsyncGate, AsyncGateLayer, Check, Pass},
    head::Head,
    outcome::Outcome,
    reject::{Answer, Reason, Rejection},
};

/// When those who were refused in an outage may come again.
const OUTAGE: Duration = Duration::from_secs(1);

/// A gate that lets a request pass if all its quotas do. See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct Quotas {
    quotas: Arc<[Quota]>,
    fields: Fields,
    legacy: bool,
}

impl FromIterator<Quota> for Quotas {
    /// A gate with these quotas. Without any, everything passes. Counters that are named twice are charged once.
    fn from_iter<I: IntoIterator<Item = Quota>>(quotas: I) -> Self {
        let mut distinct = Vec::<Quota>::new();
        for quota in quotas {
            if !distinct.iter().any(|known| Arc::ptr_eq(&known.counters, &quota.counters)) {
                distinct.push(quota);
            }
        }
        Self { quotas: distinct.into(), fields: Fields::default(), legacy: false }
    }
}

impl Quotas {
    /// When clients are told where they stand, in `RateLimit` and `RateLimit-Policy`; on refusal unless told.
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
        self
    }

    /// Whether the older `X-RateLimit-Limit`, `-Remaining` and `-Reset` are told too, of the quota that is nearest to
    /// refusing. `false` unless told.
    pub fn legacy_fields(mut self, legacy: bool) -> Self {
        self.legacy = legacy;
        self
    }

    /// The quotas.
    pub fn iter(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.iter()
    }

    /// Whether one of them can only be decided once the caller is authenticated.
    #[must_use]
    pub fn need_identity(&self) -> bool {
        self.quotas.iter().any(Quota::needs_identity)
    }

    /// The layer. Its clones, and all services that they make, share the quotas.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Self> {
        AsyncGateLayer::new(self)
    }

    fn decide(&self, bills: Vec<Bill>) -> Result<Spending, Answer> {
        if bills.iter().any(Bill::refuses) {
            return Err(self.refuse(&bills).into());
        }
        for (quota, _) in self.quotas.iter().zip(&bills).filter(|(_, bill)| bill.is_short()) {
            Counts::add(&quota.counters.counts.spared, 1);
            tracing::info!(target: "portcullis::shadow", quota = quota.name(), "would have refused");
        }
        for (quota, bill) in self.quotas.iter().zip(&bills).filter(|(_, bill)| bill.state == State::Paid) {
            Counts::add(&quota.counters.counts.spent, bill.cost);
        }
        let headers = (self.fields == Fields::Always).then(|| self.tell(&bills));
        let is_paid = |bill: &Bill| bill.state == State::Paid && bill.cost > 0;
        let can_be_settled =
            bills.iter().any(is_paid) || self.quotas.iter().any(|quota| quota.terms.settle.is_some());
        if headers.is_none() && !can_be_settled {
            return Ok(Spending(None));
        }
        let headers = headers.map(Box::new);
        Ok(Spending(Some(Spent { quotas: Arc::clone(&self.quotas), bills, headers })))
    }

    #[cold]
    fn refuse(&self, bills: &[Bill]) -> Rejection {
        let refusing = self.quotas.iter().zip(bills).filter(|(_, bill)| bill.refuses());
        let said = refusing.map(|(quota, bill)| {
            Counts::add(&quota.counters.counts.refused, 1);
            let later = bill.state == State::Short;
            (quota.name(), if later { Verdict::Wait(rest(quota, bill)) } else { Verdict::Never })
        });
        let known = self.known(bills);
        let policies = fields::policies(known.iter().map(|known| &known.policy));
        let lines = known.iter().map(Known::line);
        fields::refusal(
            (Reason::QuotaExhausted, "used up"),
            said,
            lines,
            &policies,
            (self.fields, self.legacy),
        )
    }

    /// Where the accounts stand that are limited and were asked.
    fn known(&self, bills: &[Bill]) -> Vec<Known> {
        let told = self.quotas.iter().zip(bills).filter(|(_, bill)| !bill.in_shadow);
        let known = |(quota, bill): (&Quota, &Bill)| {
            let policy = Policy::new(quota.name(), bill.most?, bill.span.length().as_secs());
            Some(Known { policy, remaining: bill.remaining()?, rest: rest(quota, bill) })
        };
        told.filter_map(known).collect()
    }

    fn tell(&self, bills: &[Bill]) -> HeaderMap {
        let (known, mut headers) = (self.known(bills), HeaderMap::new());
        let policies = fields::policies(known.iter().map(|known| &known.policy));
        fields::tell(&mut headers, &policies, known.iter().map(Known::line), self.legacy);
        headers
    }
}

/// What is known of an account.
struct Known {
    policy: Policy,
    remaining: u64,
    rest: u64,
}

impl Known {
    fn line(&self) -> Line<'_> {
        Line { policy: &self.policy, remaining: self.remaining, more: self.rest, whole: self.rest }
    }
}

/// The nanoseconds that are left of the period.
fn rest(quota: &Quota, bill: &Bill) -> u64 {
    let rest = bill.span.remaining(quota.counters.clock.now());
    u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX)
}

impl AsyncGate for Quotas {
    type Pass = Spending;
    type Wait = QuotaWait;
    type Told = QuotaTold;

    fn check(&self, head: &mut Head<'_>) -> Check<Spending, QuotaWait> {
        let mut bills: Vec<_> = self.quotas.iter().map(|quota| Bill::of(quota, head)).collect();
        if bills.iter().all(|bill| bill.state != State::Open) || bills.iter().any(Bill::refuses) {
            return self.decide(bills).into();
        }
        if bill::is_local(&self.quotas) {
            bill::pay_here(&self.quotas, &mut bills);
            return self.decide(bills).into();
        }
        let paid = bill::pay(Payment { quotas: Arc::clone(&self.quotas), bills }, waited(head));
        Check::Wait(QuotaWait(Box::pin(async {
            let began = Instant::now();
            QuotaTold { paid: paid.await, waited: began.elapsed() }
        })))
    }

    fn resume(&self, head: &mut Head<'_>, told: QuotaTold) -> Check<Spending, QuotaWait> {
        wait(head, told.waited);
        let paid = told.paid.map_err(|outage| {
            let refusal = Rejection::new(Reason::LimitUnavailable).retry_after(OUTAGE);
            Answer::from(refusal.source(outage))
        });
        paid.and_then(|payment| self.decide(payment.take())).into()
    }
}

/// The wait for counters that are kept elsewhere.
pub struct QuotaWait(Pin<Box<dyn Future<Output = QuotaTold> + Send>>);

/// What counters that are kept elsewhere have told. Dropped, it gives back what was paid.
#[derive(Debug)]
pub struct QuotaTold {
    paid: Result<Payment, QuotaOutage>,
    waited: Duration,
}

impl Future for QuotaWait {
    type Output = QuotaTold;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<QuotaTold> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for QuotaWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaWait").finish_non_exhaustive()
    }
}

/// What was charged for a request, until it is known what it has cost.
#[derive(Debug)]
pub struct Spending(Option<Spent>);

#[derive(Debug)]
struct Spent {
    quotas: Arc<[Quota]>,
    bills: Vec<Bill>,
    headers: Option<Box<HeaderMap>>,
}

impl Pass for Spending {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.watches()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        let Some(spent) = &mut self.0 else { return };
        for (quota, bill) in spent.quotas.iter().zip(&mut spent.bills) {
            bill.told = quota.terms.settle.as_ref().and_then(|settle| settle.of_head(head));
        }
        if let Some(told) = spent.headers.take() {
            fields::put(*told, &mut head.headers);
        }
    }

    fn on_end(&mut self, outcome: &Outcome) {
        let Some(spent) = self.0.take() else { return };
        for (quota, bill) in spent.quotas.iter().zip(&spent.bills) {
            let cost = bill.told.or_else(|| quota.terms.settle.as_ref()?.of_outcome(outcome));
            let cost = cost.or_else(|| outcome.reason.is_some_and(is_ours).then_some(0));
            if let (State::Paid, Some(cost)) = (bill.state, cost) {
                let by = i64::from(cost) - bill.cost.cast_signed();
                quota.counters.adjust(bill.account, bill.span, by);
            }
        }
    }
}

/// Whether it was us who could not serve a request, and no upstream has seen it.
const fn is_ours(reason: Reason) -> bool {
    use Reason::*;
    matches!(
        reason,
        AuthorizerUnavailable
            | CircuitOpen
            | ConnectFailed
            | KeysUnavailable
            | NoEndpoint
            | Overloaded
            | ProviderUnavailable
            | LimitUnavailable
            | TokenUnavailable
            | Unavailable
    )
}
