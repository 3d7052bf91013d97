use std::{fmt, sync::Arc};

use super::Rule;

/// Rules by name, and what is done with the requests that they mean.
///
/// A policy without rules means no request: one that allows then lets nobody in, unless another does.
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) rules: Vec<Rule>,
    pub(super) shadow: bool,
}

/// What a policy does with the requests that it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Somebody else is asked, before all others: see [`ext_authz`](crate::admission::ext_authz).
    Custom,
    /// They are refused, whatever else allows them.
    Deny,
    /// They pass; and where there is such a policy, others do not.
    Allow,
}

impl Policy {
    /// Lets pass what its rules mean.
    pub fn allow(name: impl Into<Arc<str>>) -> Self {
        Self::new(name, Action::Allow)
    }

    /// Refuses what its rules mean.
    pub fn deny(name: impl Into<Arc<str>>) -> Self {
        Self::new(name, Action::Deny)
    }

    /// Has an external authorizer asked about what its rules mean.
    pub fn custom(name: impl Into<Arc<str>>) -> Self {
        Self::new(name, Action::Custom)
    }

    /// A policy that does so with no request yet.
    pub fn new(name: impl Into<Arc<str>>, action: Action) -> Self {
        Self { name: name.into(), action, rules: Vec::new(), shadow: false }
    }

    /// Adds a rule behind the others.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Decides beside those in force: what would change is counted and logged, and nothing is changed.
    pub fn shadow(self) -> Self {
        Self { shadow: true, ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Its rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether it only looks on.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }
}

impl Action {
    /// `custom`, `deny` or `allow`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }

    /// What cannot be known is decided against the caller.
    pub(super) const fn doubt(self) -> bool {
        !matches!(self, Self::Allow)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("action", &self.action)
            .field("rules", &self.rules)
            .field("shadow", &self.shadow)
            .finish()
    }
}
