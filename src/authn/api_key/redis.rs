use std::{collections::HashMap, sync::LazyLock, time::Duration};

use redis::{Script, cmd, pipe};

use super::{Asked, KeyChange, KeyEntry, KeyList, KeyStore, KeyStoreError, KeyUse, KeyVersion};
use crate::{
    chance::Chance,
    redis::{Redis, RedisError},
    time::date,
};

/// How long the question whether something has changed may take.
const SHORT: Duration = Duration::from_millis(500);
/// How long reading or writing everything may take.
const LONG: Duration = Duration::from_secs(10);
/// How many uses are told at once, so that the server is not held up.
const USES: usize = 1_000;

static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("write.lua")));
static USED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("used.lua")));

/// Keeps keys on a Redis server, for all instances that are told of it.
///
/// Under the connection's namespace there are three keys in one hash slot: `{keys.set}:version`, a random number that
/// each change replaces; `{keys.set}:entries`, a hash of the entries as JSON; `{keys.set}:used`, a hash of their last
/// uses. Each instance asks for the version once a second, and reads the rest if it is another. A server that has lost
/// its data is a fault, and not the end of all keys: running instances go on with those they have.
///
/// An ACL user needs `+get +set +hget +hset +hdel +hvals +hgetall +hexists +evalsha +script|load +multi +exec` on
/// `~namespace:{keys.set}:*`, and `+select` if the URL names a database other than 0.
///
/// ```
/// use portcullis::authn::api_key::{KeyAdmin, RedisKeyStore};
/// use portcullis::redis::Redis;
///
/// let redis = Redis::builder("redis://127.0.0.1:6379")?.build();
/// let admin = KeyAdmin::new(RedisKeyStore::new(redis, "partners"));
/// # let _ = admin;
/// # Ok::<(), portcullis::redis::InvalidAddress>(())
/// ```
#[derive(Debug, Clone)]
pub struct RedisKeyStore {
    redis: Redis,
    version: String,
    entries: String,
    used: String,
    chance: Chance,
}

impl RedisKeyStore {
    /// The keys of this name, over this connection. The name is yours to choose, and no stranger's.
    #[must_use]
    pub fn new(redis: Redis, set: &str) -> Self {
        let set = format!("keys.{set}");
        let [version, entries, used] = ["version", "entries", "used"].map(|name| redis.key(&set, name));
        Self { redis, version, entries, used, chance: Chance::new() }
    }

    async fn read_all(&self, known: Option<KeyVersion>) -> Result<Option<KeyList>, KeyStoreError> {
        let mut ask = cmd("GET");
        ask.arg(&self.version);
        let now: Option<u64> =
            self.redis.within(SHORT, async |mut redis| ask.query_async(&mut redis).await).await?;
        let seen = now.unwrap_or_default();
        if known == Some(KeyVersion(seen)) {
            return Ok(None);
        }
        if seen == 0 && known.is_some() {
            return Err(KeyStoreError::Lost);
        }
        let mut all = pipe();
        all.atomic().get(&self.version).hvals(&self.entries).hgetall(&self.used);
        let (version, entries, used): (Option<u64>, Vec<String>, HashMap<String, u64>) =
            self.redis.within(LONG, async |mut redis| all.query_async(&mut redis).await).await?;
        let version = still(seen, version)?;
        let count = entries.len();
        let read = entries.iter().filter_map(|entry| serde_json::from_str::<KeyEntry>(entry).ok());
        let mut entries: Vec<_> = read
            .map(|entry| match used.get(entry.id()) {
                Some(seconds) => entry.last_used(date::from_seconds(*seconds)),
                None => entry,
            })
            .collect();
        entries.sort_by(|a, b| (a.creation(), a.id()).cmp(&(b.creation(), b.id())));
        let unreadable = count - entries.len();
        Ok(Some(KeyList { version, entries, unreadable }))
    }

    async fn write_all(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Result<(), KeyStoreError> {
        let mut args = vec![at.0.to_string(), self.chance.next().max(1).to_string()];
        let mut uses = Vec::new();
        for change in changes {
            match change {
                KeyChange::Forget(id) => args.extend([id, String::new()]),
                KeyChange::Put(entry) => {
                    uses.extend(entry.last_use().map(|at| KeyUse { id: entry.id().to_owned(), at }));
                    let json = serde_json::to_string(&entry.without_use());
                    let json = json.map_err(|error| KeyStoreError::Malformed(error.to_string()))?;
                    args.extend([entry.id().to_owned(), json]);
                }
            };
        }
        let keys = [&self.version, &self.entries, &self.used];
        match self.redis.run::<u8>(LONG, &WRITE, &keys, args).await? {
            0 => Err(KeyStoreError::Conflict),
            _ => self.tell(uses).await,
        }
    }

    async fn tell(&self, uses: Vec<KeyUse>) -> Result<(), KeyStoreError> {
        for some in uses.chunks(USES) {
            let args: Vec<_> = some.iter().map(|KeyUse { id, at }| (id, date::seconds(*at))).collect();
            self.redis.run::<u8>(SHORT, &USED, &[&self.entries, &self.used], args).await?;
        }
        Ok(())
    }
}

/// The version of what was read, if nobody has emptied the server since the version `seen`; 0: there was none.
fn still(seen: u64, version: Option<u64>) -> Result<KeyVersion, KeyStoreError> {
    match version {
        None if seen != 0 => Err(KeyStoreError::Lost),
        version => Ok(KeyVersion(version.unwrap_or_default())),
    }
}

impl From<RedisError> for KeyStoreError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl KeyStore for RedisKeyStore {
    fn read(&self, known: Option<KeyVersion>) -> Asked<'_, Option<KeyList>> {
        Box::pin(self.read_all(known))
    }

    fn write(&self, at: KeyVersion, changes: Vec<KeyChange>) -> Asked<'_, ()> {
        Box::pin(self.write_all(at, changes))
    }

    fn used(&self, uses: Vec<KeyUse>) -> Asked<'_, ()> {
        Box::pin(self.tell(uses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_emptied_between_two_questions_has_lost_the_list() {
        assert!(matches!(still(7, None), Err(KeyStoreError::Lost)));
        assert_eq!(still(7, Some(8)).unwrap(), KeyVersion(8));
        assert_eq!(still(0, Some(8)).unwrap(), KeyVersion(8));
        assert_eq!(still(0, None).unwrap(), KeyVersion(0), "one that never had a list");
    }
}
