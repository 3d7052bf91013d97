use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::{Limit, LimitBuilder, LimitError, limit::Inner};

/// Limits by name, so that a limit defined again, by a reload say, is the same limit with the same accounts.
///
/// It is the same if its name, key, algorithm, quota, plans and bounds are. A definition that differs in one of them begins
/// with fresh accounts, and leaves those of the other alone while that is in use. A limit that nobody uses any more is
/// forgotten. Cheap to clone: clones are the same registry.
///
/// ```
/// use portcullis::admission::rate_limit::{Limit, RateLimits};
///
/// let limits = RateLimits::new();
/// let first = limits.define(Limit::builder("per-address", "10/s".parse()?))?;
/// let again = limits.define(Limit::builder("per-address", "10/s".parse()?))?;
/// let other = limits.define(Limit::builder("per-address", "20/s".parse()?))?;
/// assert!(first.is_same(&again) && !first.is_same(&other));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct RateLimits(Arc<Mutex<ByName>>);

type ByName = HashMap<Arc<str>, Vec<Weak<Inner>>>;

impl RateLimits {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limit of this definition: the one that is in use, if it is the same, or a new one.
    ///
    /// # Errors
    ///
    /// As [`LimitBuilder::build`].
    pub fn define(&self, limit: LimitBuilder) -> Result<Limit, LimitError> {
        let mut limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = limits.get(&limit.name).into_iter().flatten().filter_map(Weak::upgrade);
        if let Some(same) = in_use.into_iter().find(|other| other.terms == limit.terms) {
            return Ok(Limit(same));
        }
        let limit = limit.build()?;
        if limits.len() == limits.capacity() {
            limits.retain(|_, of_name| of_name.iter().any(|limit| limit.strong_count() > 0));
        }
        let of_name = limits.entry(limit.0.name.clone()).or_default();
        of_name.retain(|limit| limit.strong_count() > 0);
        of_name.push(Arc::downgrade(&limit.0));
        Ok(limit)
    }
}

impl Limit {
    /// Whether both are the same limit, with the same accounts.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(limits.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(name: &str, rate: &str) -> LimitBuilder {
        Limit::builder(name, rate.parse().unwrap())
    }

    #[test]
    fn a_reload_that_failed_changes_nothing() {
        let limits = RateLimits::new();
        let in_use = limits.define(builder("a", "1/s")).unwrap();
        let of_bad_file = limits.define(builder("a", "2/s")).unwrap();
        assert!(!in_use.is_same(&of_bad_file));
        drop(of_bad_file);
        assert!(in_use.is_same(&limits.define(builder("a", "1/s")).unwrap()));
    }

    #[test]
    fn what_nobody_uses_is_forgotten() {
        let limits = RateLimits::new();
        let kept = limits.define(builder("kept", "1/s")).unwrap();
        for name in 0..1000 {
            limits.define(builder(&name.to_string(), "1/s")).unwrap();
        }
        assert!(limits.0.lock().unwrap().len() < 100);
        assert!(kept.is_same(&limits.define(builder("kept", "1/s")).unwrap()));
    }

    #[test]
    fn a_bad_definition_is_told() {
        let limits = RateLimits::new();
        assert!(limits.define(builder("", "1/s")).is_err());
        assert_eq!(format!("{limits:?}"), "{}");
    }
}
