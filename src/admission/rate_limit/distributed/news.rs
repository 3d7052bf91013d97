//! What instances tell each other: of which limits units have come back, so that nobody is refused for longer than he has to be.
//!
//! A refusal is remembered until its time has come. What Redis told with it is wrong as soon as an account is made whole, a request
//! turns out to have cost less, or units that were taken ahead are given back. Whoever does that says of which limit, and whoever
//! hears it asks again. One that Redis does not know any more asks again about all: Redis may have lost more than that.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use redis::Script;

use super::{fleet::Fleet, params::told, shared::Shared};
use crate::redis::RedisError;

static RETURNED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("returned.lua")));

/// What was heard last: limits, and when units of them have come back, by Redis' clock. `None` until something was heard.
#[derive(Default)]
pub(super) struct News(Mutex<Option<HashMap<u64, u64>>>);

impl News {
    /// The limits of which it is told for the first time, or all (`None`) if Redis does not know any more who listens. Numbers are
    /// compared as they came.
    fn hear(&self, is_new: bool, returned: &[u8]) -> Option<Vec<u64>> {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let told = returned.chunks_exact(16).map(|one| (number(&one[..8]), number(&one[8..])));
        let all: HashMap<_, _> = told.collect();
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(all.clone());
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
        let limits = self.limits();
        let returned: Vec<_> = limits.iter().filter(|limit| limit.take_returned()).collect();
        let names: Vec<_> = returned.iter().flat_map(|limit| name(limit)).collect();
        let said = self.say(names, patience).await;
        if said.is_err() {
            returned.iter().for_each(|limit| limit.returned());
        }
        said
    }

    /// Says that units of this limit have come back.
    pub(super) async fn tell_of(&self, limit: &Shared, patience: Duration) -> Result<(), RedisError> {
        self.say(name(limit).into(), patience).await
    }

    async fn say(&self, names: Vec<u8>, patience: Duration) -> Result<(), RedisError> {
        if names.is_empty() {
            return Ok(());
        }
        let lives = self.lives().as_micros() as u64;
        self.redis.run::<u64>(patience, &RETURNED, &[&self.returned], (lives, names)).await.map(drop)
    }

    /// Nobody is refused any more by what was heard before this.
    pub(super) fn hear_news(&self, is_new: bool, returned: &[u8]) {
        let names = self.news.hear(is_new, returned);
        let is_of = |limit: &Shared| {
            names.as_ref().is_none_or(|names| names.contains(&u64::from_le_bytes(name(limit))))
        };
        for limit in self.limits() {
            if is_of(&limit) {
                limit.forgive();
            }
        }
    }
}

fn name(limit: &Shared) -> [u8; 8] {
    told([limit.name() as f64])
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
