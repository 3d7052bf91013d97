use http::{HeaderMap, HeaderValue, response};

use super::{
    Charge, Limit,
    charge::{self, Bill},
    gcra::Verdict,
    policy,
};
use crate::{
    gate::{Gate, GateLayer, Pass},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

/// Charges of this number are judged without an allocation.
const FEW: usize = 4;

/// A gate that lets a request pass if all its limits do. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct RateLimit {
    /// In the order in which their tables are locked, and no limit twice.
    charges: Vec<Charge>,
    policies: HeaderValue,
    fields: Fields,
    legacy: bool,
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

    /// The layer. Its clones, and all services that they make, share the limits.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn decide(&self, head: &mut Head<'_>, bills: &mut [Bill]) -> Result<Notice, Answer> {
        for (charge, bill) in self.charges.iter().zip(&mut *bills) {
            *bill = charge.bill(head);
        }
        if !charge::pay(&self.charges, bills) {
            return Err(self.refuse(bills).into());
        }
        let told = (self.fields == Fields::Always).then(|| {
            let mut headers = HeaderMap::with_capacity(if self.legacy { 5 } else { 2 });
            self.tell(bills, &mut headers);
            Box::new(headers)
        });
        Ok(Notice(told))
    }

    fn tell(&self, bills: &[Bill], headers: &mut HeaderMap) {
        let lines = self.charges.iter().zip(bills).map(|(charge, bill)| charge.line(bill));
        policy::tell(headers, &self.policies, lines, self.legacy);
    }

    #[cold]
    fn refuse(&self, bills: &[Bill]) -> Rejection {
        let mut longest = Some(0);
        let mut detail = String::from("reached:");
        for (charge, bill) in self.charges.iter().zip(bills) {
            longest = match bill.verdict {
                Verdict::Spend(_) => continue,
                Verdict::Wait(time) => longest.map(|longest| time.max(longest)),
                Verdict::Never => None,
            };
            detail.push(' ');
            detail.push_str(charge.limit.name());
        }
        let mut rejection = Rejection::new(Reason::RateLimited).detail(detail);
        if let Some(time) = longest {
            rejection = rejection.retry_after(std::time::Duration::from_nanos(time));
        }
        if self.fields != Fields::Never {
            let mut headers = HeaderMap::new();
            self.tell(bills, &mut headers);
            for (name, value) in &headers {
                rejection = rejection.header(name.clone(), value.clone());
            }
        }
        rejection
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
        let policies = policy::policies(charges.iter().map(|charge| &charge.limit.0.policy));
        Self { charges, policies, fields: Fields::default(), legacy: false }
    }
}

impl Gate for RateLimit {
    type Pass = Notice;

    fn check(&self, head: &mut Head<'_>) -> Result<Notice, Answer> {
        match self.charges.len() {
            1 => self.decide(head, &mut [Bill::NONE]),
            count @ 0..=FEW => self.decide(head, &mut [Bill::NONE; FEW][..count]),
            count => self.decide(head, &mut vec![Bill::NONE; count]),
        }
    }
}

/// What a response will tell of the limits that let its request pass.
#[derive(Debug)]
pub struct Notice(Option<Box<HeaderMap>>);

impl Pass for Notice {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.watches()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        let Some(told) = self.0.take() else { return };
        for (name, value) in *told {
            let Some(name) = name else { continue };
            if name.as_str().starts_with("x-") {
                head.headers.insert(name, value);
            } else {
                head.headers.append(name, value);
            }
        }
    }
}
