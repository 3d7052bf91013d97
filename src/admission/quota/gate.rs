use std::{fmt, fmt::Write as _, future::Future, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, response};

use super::{
    Quota, QuotaOutage,
    bill::{self, Bill, State},
    definition::Counts,
};
use crate::{
    admission::rate_limit::Fields,
    gate::{AsyncGate, AsyncGateLayer, Check, Pass},
    head::Head,
    outcome::Outcome,
    reject::{Answer, Reason, Rejection},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// When those who were refused in an outage may come again.
const OUTAGE: Duration = Duration::from_secs(1);

/// A gate that lets a request pass if all its quotas do. See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct Quotas {
    quotas: Arc<[Quota]>,
    fields: Fields,
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
        Self { quotas: distinct.into(), fields: Fields::default() }
    }
}

impl Quotas {
    /// When clients are told where they stand, in `RateLimit` and `RateLimit-Policy`; on refusal unless told.
    pub fn fields(mut self, fields: Fields) -> Self {
        self.fields = fields;
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
        let mut detail = String::from("used up:");
        let mut longest = Some(Duration::ZERO);
        for (quota, bill) in self.quotas.iter().zip(bills) {
            longest = match bill.state {
                _ if bill.in_shadow => continue,
                State::Never => None,
                State::Short => {
                    let rest = bill.span.remaining(quota.counters.clock.now());
                    longest.map(|longest| longest.max(rest))
                }
                _ => continue,
            };
            Counts::add(&quota.counters.counts.refused, 1);
            detail.push(' ');
            detail.push_str(quota.name());
        }
        let mut rejection = Rejection::new(Reason::QuotaExhausted).detail(detail);
        if let Some(rest) = longest {
            rejection = rejection.retry_after(rest);
        }
        if self.fields != Fields::Never {
            for (name, value) in &self.tell(bills) {
                rejection = rejection.header(name.clone(), value.clone());
            }
        }
        rejection
    }

    /// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers) of what is limited and was asked.
    fn tell(&self, bills: &[Bill]) -> HeaderMap {
        let (mut policies, mut lines) = (String::new(), String::new());
        for (quota, bill) in self.quotas.iter().zip(bills) {
            let (Some(most), Some(left), false) = (bill.most, bill.remaining(), bill.in_shadow) else {
                continue;
            };
            let rest = bill.span.remaining(quota.counters.clock.now());
            let rest = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
            let comma = if lines.is_empty() { "" } else { ", " };
            // A String takes everything.
            let window = bill.span.length().as_secs();
            let _ = write!(policies, "{comma}\"{}\";q={most};w={window}", quota.name());
            let _ = write!(lines, "{comma}\"{}\";r={left};t={rest}", quota.name());
        }
        let fields = [(RATE_LIMIT_POLICY, policies), (RATE_LIMIT, lines)];
        let told = fields.into_iter().filter(|(_, text)| !text.is_empty());
        told.filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
    }
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
        let quotas = Arc::clone(&self.quotas);
        Check::Wait(QuotaWait(Box::pin(async move {
            let paid = bill::pay(&quotas, &mut bills).await;
            QuotaTold(paid.map(|_| bills))
        })))
    }

    fn resume(&self, _: &mut Head<'_>, told: QuotaTold) -> Check<Spending, QuotaWait> {
        let bills = told.0.map_err(|outage| {
            let refusal = Rejection::new(Reason::LimitUnavailable).retry_after(OUTAGE);
            Answer::from(refusal.source(outage))
        });
        bills.and_then(|bills| self.decide(bills)).into()
    }
}

/// The wait for counters that are kept elsewhere.
pub struct QuotaWait(Pin<Box<dyn Future<Output = QuotaTold> + Send>>);

/// What counters that are kept elsewhere have told.
#[derive(Debug)]
pub struct QuotaTold(Result<Vec<Bill>, QuotaOutage>);

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
        for (name, value) in spent.headers.iter().flat_map(|headers| headers.iter()) {
            head.headers.append(name, value.clone());
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
