use std::{fmt, str::FromStr, sync::Arc};

use http::HeaderName;

use crate::{admission::Plans, gate::Gate, head::Head, identity::TrustedProxies, reject::Answer};

/// How important a request is. The most important sorts first.
///
/// As a request extension it is the last word, whatever [`Priorities`] say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Priority {
    /// Refused only when nothing can be served any more: health checks.
    Critical,
    /// Refused late: the paid plan.
    High,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// Refused first: crawlers, batches, prefetching.
    Low,
}

/// A word that is no [`Priority`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `critical`, `high`, `normal` or `low`")]
pub struct UnknownPriority;

impl Priority {
    /// All, the most important first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The word for it in headers, files and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The share that is refused at a pressure from 0 to 1.
    pub(super) fn share(self, pressure: f64) -> f64 {
        let begins = match self {
            Self::Critical => return if pressure >= 1.0 { 1.0 } else { 0.0 },
            Self::High => 2.0,
            Self::Normal => 1.0,
            Self::Low => 0.0,
        };
        (pressure * 3.0 - begins).clamp(0.0, 1.0)
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        let is = |one: &Self| one.label().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(is).ok_or(UnknownPriority)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What tells how important a request is: the first that says something of a [`Priority`] in its extensions, a header of
/// a trusted peer, the principal's plan; and if none does, a word for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Priorities {
    base: Priority,
    header: Option<(HeaderName, TrustedProxies)>,
    plans: Plans<Priority>,
}

impl Priorities {
    /// All requests are as important as this.
    pub fn new(base: Priority) -> Self {
        Self { base, ..Self::default() }
    }

    /// Believes this header of these peers. What it says and is no word for a priority is not heard.
    pub fn header(mut self, name: HeaderName, of: TrustedProxies) -> Self {
        self.header = Some((name, of));
        self
    }

    /// Requests of this plan are as important as that.
    pub fn plan(mut self, name: impl Into<Arc<str>>, priority: Priority) -> Self {
        self.plans = self.plans.with(name, priority);
        self
    }

    /// The same, with another word for all of which nothing else is said.
    pub fn base(self, base: Priority) -> Self {
        Self { base, ..self }
    }

    /// The same, with other peers whose header is believed.
    pub fn believing(mut self, of: TrustedProxies) -> Self {
        if let Some((_, trusted)) = &mut self.header {
            *trusted = of;
        }
        self
    }

    /// The header that is believed, if one is.
    #[must_use]
    pub fn header_name(&self) -> Option<&HeaderName> {
        self.header.as_ref().map(|(name, _)| name)
    }

    /// Whether they look at what is only known once the caller is authenticated.
    #[must_use]
    pub fn need_identity(&self) -> bool {
        !self.plans.is_empty()
    }

    /// How important this request is.
    #[must_use]
    pub fn of(&self, head: &Head<'_>) -> Priority {
        if let Some(told) = head.extensions().get() {
            return *told;
        }
        self.by_header(head).or_else(|| self.plans.of(head).copied()).unwrap_or(self.base)
    }

    fn by_header(&self, head: &Head<'_>) -> Option<Priority> {
        let (name, trusted) = self.header.as_ref()?;
        let said = head.headers().get(name)?.to_str().ok()?.parse().ok()?;
        trusted.trusts(head.extensions()).then_some(said)
    }
}

/// It lets everything pass, and tells whoever stands inside how important it is, the queue of a limit for example.
impl Gate for Priorities {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let priority = self.of(head);
        head.extensions_mut().insert(priority);
        Ok(())
    }
}
