//! From single answers to a state. Pure.
use super::policy::Policy;

/// How an endpoint is, by its own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Health {
    /// It was not asked, or not yet.
    #[default]
    Unknown,
    /// It answers well.
    Healthy,
    /// It answers badly, or not.
    Unhealthy,
}

impl Health {
    /// The word for it in logs and metrics: stable.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How an endpoint has answered of late.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    health: Health,
    /// Answers in a row that speak against it.
    against: u32,
}

impl Progress {
    pub(super) const fn health(self) -> Health {
        self.health
    }

    /// Takes one answer in. What is unknown is made healthy by the first good one; one bad one is enough only where an
    /// endpoint has to show first that it is well.
    pub(super) fn learn(&mut self, good: bool, policy: &Policy) {
        let (agrees, needed, next) = match self.health {
            Health::Healthy => (good, policy.unhealthy.get(), Health::Unhealthy),
            Health::Unhealthy => (!good, policy.healthy.get(), Health::Healthy),
            Health::Unknown if good => (false, 1, Health::Healthy),
            Health::Unknown if policy.wait_for_first => (false, 1, Health::Unhealthy),
            Health::Unknown => (false, policy.unhealthy.get(), Health::Unhealthy),
        };
        self.against = if agrees { 0 } else { self.against.saturating_add(1) };
        if self.against >= needed {
            *self = Self { health: next, against: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Healthy as H, Unhealthy as U, Unknown as N};

    fn states(policy: &Policy, answers: &str) -> Vec<Health> {
        let mut progress = Progress::default();
        let learn = |answer| {
            progress.learn(answer == '+', policy);
            progress.health()
        };
        answers.chars().map(learn).collect()
    }

    #[test]
    fn thresholds_are_of_answers_in_a_row() {
        let policy = Policy::tcp();
        assert_eq!(states(&policy, "+--+---+-++"), [H, H, H, H, H, H, U, U, U, U, H]);
        assert_eq!(states(&policy, "--+---"), [N, N, H, H, H, U]);
        assert_eq!(states(&policy, "---+-++"), [N, N, U, U, U, U, H]);
    }

    #[test]
    fn who_has_to_show_that_it_is_well_is_believed_at_once() {
        let policy = Policy::tcp().wait_for_first(true);
        assert_eq!(states(&policy, "-+++"), [U, U, H, H]);
        assert_eq!(states(&policy, "+--"), [H, H, H]);
    }
}
