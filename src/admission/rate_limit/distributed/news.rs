//! What instances tell each other: of which limits units have come back, so that nobody is refused for longer than he has to be.
//!
//! A refusal is remembered until its time has come. What Redis told with it is wrong as soon as an account is made whole, a request
//! turns out to have cost less, or units that were taken ahead are given back. Whoever does that says of which limit, and whoever
//! hears it asks again. One that Redis does not know any more asks again about all: Redis may have lost more than that.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::Script;

use super::{fleet::Fleet, params::told, shared::Shared};
use crate::redis::RedisError;

static RETURNED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("returned.lua")));

#[derive(Default)]
pub(super) struct News {
    /// What was heard last: limits, and when units of them have come back, by Redis' clock. `None` until something was heard.
    heard: Mutex<Option<HashMap<u64, u64>>>,
    /// The limits of which others are not told yet; some of them may be gone here.
    untold: Mutex<HashSet<u64>>,
}

impl News {
    /// Units of this limit have come back.
    pub(super) fn is_to_be_told(&self, limit: u64) {
        lock(&self.untold).insert(limit);
    }

    /// The limits of which it is told for the first time, or all (`None`) if Redis does not know any more who listens. Numbers are
    /// compared as they came.
    fn hear(&self, is_new: bool, returned: &[u8]) -> Option<Vec<u64>> {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let told = returned.chunks_exact(16).map(|one| (number(&one[..8]), number(&one[8..])));
        let all: HashMap<_, _> = told.collect();
        let before = lock(&self.heard).replace(all.clone());
        if is_new && before.is_some() {
            return None;
        }
        let before = before.unwrap_or_default();
        Some(
            all.into_iter().filter(|(name, at)| before.get(name) != Some(at)).map(|(name, _)| name).collect(),
        )
    }
}

impl Fleet {
    /// Says of which limits units have come back since it was said last.
    pub(super) async fn tell_news(&self, patience: Duration) -> Result<(), RedisError> {
        let untold = mem::take(&mut *lock(&self.news.untold));
        let said = self.say(&untold, patience).await;
        if said.is_err() {
            lock(&self.news.untold).extend(untold);
        }
        said
    }

    /// Says that units of this limit have come back.
    pub(super) async fn tell_of(&self, limit: &Shared, patience: Duration) -> Result<(), RedisError> {
        self.say(&[limit.name()].into(), patience).await
    }

    async fn say(&self, limits: &HashSet<u64>, patience: Duration) -> Result<(), RedisError> {
        if limits.is_empty() {
            return Ok(());
        }
        let names: Vec<u8> = limits.iter().copied().flat_map(word).collect();
        let lives = self.lives().as_micros() as u64;
        self.redis.run::<u64>(patience, &RETURNED, &[&self.returned], (lives, names)).await.map(drop)
    }

    /// Nobody is refused any more by what was heard before this.
    pub(super) fn hear_news(&self, is_new: bool, returned: &[u8]) {
        let names = self.news.hear(is_new, returned);
        let is_of = |limit: &Shared| {
            names.as_ref().is_none_or(|names| names.contains(&u64::from_le_bytes(word(limit.name()))))
        };
        for limit in self.limits() {
            if is_of(&limit) {
                limit.forgive();
            }
        }
    }
}

/// A limit's name, as the script is told it.
fn word(name: u64) -> [u8; 8] {
    told([name as f64])
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_again_is_no_news() {
        let (news, one) = (News::default(), |name: f64, at: f64| told::<2, 16>([name, at]));
        let name = |name: f64| name.to_bits();
        let hear = |is_new, returned: &[u8]| news.hear(is_new, returned);
        assert_eq!(hear(true, &one(7.0, 1.0)), Some(vec![name(7.0)]), "it has just come");
        assert_eq!(hear(false, &one(7.0, 1.0)), Some(vec![]));
        assert_eq!(hear(false, &[one(8.0, 2.0), one(7.0, 1.0)].concat()), Some(vec![name(8.0)]));
        let set_back = [one(8.0, 2.0), one(7.0, 0.5)].concat();
        assert_eq!(hear(false, &set_back), Some(vec![name(7.0)]), "also by a clock that was set back");
        assert_eq!(hear(false, &one(7.0, 0.5)), Some(vec![]));
        assert_eq!(hear(false, &one(8.0, 2.0)), Some(vec![name(8.0)]));
        assert_eq!(hear(true, &one(8.0, 2.0)), None, "it was forgotten, and who knows what else");
        assert_eq!(hear(false, &one(8.0, 2.0)), Some(vec![]));
    }
}
