use super::Law;

/// What was found about one law.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The layer keeps it.
    Kept,
    /// The layer has nothing that it speaks of, or the kit cannot see it.
    NotApplicable(&'static str),
    /// The layer breaks it.
    Broken(String),
}

/// What was found about each law.
#[derive(Debug, Clone)]
pub struct Report {
    pub(super) name: &'static str,
    pub(super) found: Vec<(Law, Finding)>,
    pub(super) allowed: Option<u64>,
}

impl Report {
    /// The name of the layer.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many allocations a call was allowed to make, if that was bounded.
    #[must_use]
    pub fn allowed_allocations(&self) -> Option<u64> {
        self.allowed
    }

    /// What was found about `law`.
    #[must_use]
    pub fn finding(&self, law: Law) -> &Finding {
        &self.found[law as usize].1
    }

    /// Each law and what was found about it.
    pub fn findings(&self) -> impl Iterator<Item = (Law, &Finding)> {
        self.found.iter().map(|(law, finding)| (*law, finding))
    }

    /// The laws that the layer breaks.
    pub fn broken(&self) -> impl Iterator<Item = (Law, &str)> {
        self.findings().filter_map(|(law, finding)| match finding {
            Finding::Broken(how) => Some((law, how.as_str())),
            _ => None,
        })
    }

    /// Panics if a law is broken, and says how.
    ///
    /// # Panics
    ///
    /// If a law is broken.
    pub fn assert_kept(&self) {
        let broken: Vec<String> =
            self.broken().map(|(law, how)| format!("  law {}, {law}: {how}", law.number())).collect();
        assert!(broken.is_empty(), "the layer `{}` breaks:\n{}", self.name, broken.join("\n"));
    }
}
