use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Whose word on an endpoint counts: while one upstream takes another's place both have it.
#[derive(Debug, Default)]
pub(super) struct Owner(Mutex<Weak<()>>);

impl Owner {
    /// From now on it is this one's. Whether it was another's who lives.
    pub(super) fn becomes(&self, owner: &Arc<()>) -> bool {
        let mut of = self.of();
        let before = std::mem::replace(&mut *of, Arc::downgrade(owner));
        before.strong_count() > 0 && !before.ptr_eq(&of)
    }

    /// Whether it is this one's, as it is if the last one is gone.
    pub(super) fn is(&self, owner: &Arc<()>) -> bool {
        let mut of = self.of();
        if of.strong_count() == 0 {
            *of = Arc::downgrade(owner);
        }
        std::ptr::eq(of.as_ptr(), Arc::as_ptr(owner))
    }

    fn of(&self) -> MutexGuard<'_, Weak<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_who_takes_it_has_it_as_long_as_it_lives() {
        let (of, [old, new]) = (Owner::default(), [Arc::new(()), Arc::new(())]);
        assert!(of.is(&old), "nobody's is the first one's who asks");
        assert!(!of.becomes(&old) && !of.is(&new));
        assert!(of.becomes(&new) && of.is(&new) && !of.is(&old));
        drop(new);
        assert!(of.is(&old));
    }
}
