use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, response};

use crate::{head::Head, outcome::Outcome};

/// What a request costs, in units of a limit. Nothing is always paid; what is above the burst never.
#[derive(Clone)]
pub struct Cost(Kind);

#[derive(Clone)]
enum Kind {
    Fixed(u32),
    Header(HeaderCost),
    Told(Arc<dyn Fn(&Head<'_>) -> u32 + Send + Sync>),
}

/// A cost that a header field says, in decimal digits.
///
/// What it says counts within bounds. A field that says something else, that is there twice, or that is missing, counts
/// as the cost that is set for that. Whoever can send the header chooses what to pay: take it from those you trust.
///
/// ```
/// use portcullis::admission::{HeaderCost, rate_limit::Limit};
/// use http::HeaderName;
///
/// let tokens = HeaderCost::new(HeaderName::from_static("x-tokens")).otherwise(10).at_most(1000);
/// let charge = Limit::builder("tokens", "100000/h".parse()?).build()?.costing(tokens);
/// # let _ = charge;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct HeaderCost {
    name: HeaderName,
    least: u32,
    most: u32,
    otherwise: u32,
}

/// What a request cost in the end, which takes the place of what was charged when it came: the difference is charged,
/// or given back.
///
/// What is charged may leave an account in debt, as far as
/// [`max_debt`](super::rate_limit::LimitBuilder::max_debt) lets it. What is given back after the window in which it was charged, has
/// no use any more.
#[derive(Clone)]
pub struct Settle(pub(super) Settlement);

#[derive(Clone)]
pub(super) enum Settlement {
    Head(Arc<Told<response::Parts>>),
    End(Arc<Told<Outcome>>),
}

type Told<T> = dyn Fn(&T) -> Option<u32> + Send + Sync;

impl Cost {
    /// One for each request.
    pub const ONE: Self = Self(Kind::Fixed(1));

    /// A cost that depends on the request.
    #[must_use]
    pub fn told_by(cost: impl Fn(&Head<'_>) -> u32 + Send + Sync + 'static) -> Self {
        Self(Kind::Told(Arc::new(cost)))
    }

    #[inline]
    pub(in crate::admission) fn of(&self, head: &Head<'_>) -> u32 {
        match &self.0 {
            Kind::Fixed(cost) => *cost,
            Kind::Header(cost) => cost.of(head.headers()).unwrap_or(cost.otherwise),
            Kind::Told(cost) => cost(head),
        }
    }
}

impl HeaderCost {
    /// What this field says, and one where it says nothing of use.
    pub const fn new(name: HeaderName) -> Self {
        Self { name, least: 1, most: u32::MAX, otherwise: 1 }
    }

    /// The least that is charged; one unless told.
    pub const fn at_least(mut self, cost: u32) -> Self {
        self.least = cost;
        self
    }

    /// The most that is charged.
    pub const fn at_most(mut self, cost: u32) -> Self {
        self.most = cost;
        self
    }

    /// What is charged where the field says nothing of use; one unless told. A [`Settle`] then leaves what was charged.
    pub const fn otherwise(mut self, cost: u32) -> Self {
        self.otherwise = cost;
        self
    }

    /// What the field says, within the bounds.
    fn of(&self, headers: &HeaderMap) -> Option<u32> {
        let mut values = headers.get_all(&self.name).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let digits = value.as_bytes().trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let add = |cost: u32, digit: &u8| cost.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        Some(digits.iter().fold(0, add).min(self.most).max(self.least))
    }
}

impl Settle {
    /// What this field of the response says. Where it says nothing of use, what was charged stays.
    #[must_use]
    pub fn by_header(cost: HeaderCost) -> Self {
        Self::by_head(move |head| cost.of(&head.headers))
    }

    /// What this makes of the response's head; `None` leaves what was charged.
    #[must_use]
    pub fn by_head(cost: impl Fn(&response::Parts) -> Option<u32> + Send + Sync + 'static) -> Self {
        Self(Settlement::Head(Arc::new(cost)))
    }

    /// What this makes of the outcome, when the response has ended; `None` leaves what was charged.
    #[must_use]
    pub fn by_outcome(cost: impl Fn(&Outcome) -> Option<u32> + Send + Sync + 'static) -> Self {
        Self(Settlement::End(Arc::new(cost)))
    }

    /// What this response's head tells, if it is for it to tell.
    pub(in crate::admission) fn of_head(&self, head: &response::Parts) -> Option<u32> {
        match &self.0 {
            Settlement::Head(told) => told(head),
            Settlement::End(_) => None,
        }
    }

    /// What this outcome tells, if it is for it to tell.
    pub(in crate::admission) fn of_outcome(&self, outcome: &Outcome) -> Option<u32> {
        match &self.0 {
            Settlement::Head(_) => None,
            Settlement::End(told) => told(outcome),
        }
    }
}

impl From<u32> for Cost {
    fn from(cost: u32) -> Self {
        Self(Kind::Fixed(cost))
    }
}

impl From<HeaderCost> for Cost {
    fn from(cost: HeaderCost) -> Self {
        Self(Kind::Header(cost))
    }
}

impl fmt::Debug for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Fixed(cost) => write!(f, "Cost({cost})"),
            Kind::Header(cost) => cost.fmt(f),
            Kind::Told(_) => f.write_str("Cost(..)"),
        }
    }
}

impl fmt::Debug for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Settlement::Head(_) => "Settle(head)",
            Settlement::End(_) => "Settle(end)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn a_header_counts_within_bounds() {
        let cost = HeaderCost::new(HeaderName::from_static("x-cost")).at_least(2).at_most(100).otherwise(7);
        let cost = Cost::from(cost);
        let of = |values: &[&[u8]]| {
            let mut request = Request::new(());
            for value in values {
                request.headers_mut().append("x-cost", http::HeaderValue::from_bytes(value).unwrap());
            }
            cost.of(&Head::of(&mut request))
        };
        for (value, expected) in [
            (&b"50"[..], 50),
            (b" 50 ", 50),
            (b"0050", 50),
            (b"0", 2),
            (b"100", 100),
            (b"101", 100),
            (b"99999999999999999999999999999999999999", 100),
        ] {
            assert_eq!(of(&[value]), expected, "{value:?}");
        }
        for bad in [&b""[..], b" ", b"-1", b"+1", b"1.5", b"1e3", b"0x10", b"ten", b"1 1", b"\xff"] {
            assert_eq!(of(&[bad]), 7, "{bad:?}");
        }
        assert_eq!(of(&[b"50", b"50"]), 7, "two fields are none");
        assert_eq!(of(&[]), 7);
    }
}
