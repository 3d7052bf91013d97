//! API key providers, and the stores that keep their keys.
use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    path::Path,
    sync::Arc,
};

use http::HeaderName;

use super::{Compiler, authentication::warn_if_open};
use crate::{
    authn::{
        Authenticator, Location,
        api_key::{self, ApiKeys, FailureLimit, KeyFollower, KeyStore, KeyTableError, Pepper, Peppers},
    },
    config::{
        FileKeyStore,
        at::At,
        document::Document,
        kept::KeysAt,
        schema::{ApiKey, KeyFile, Material},
    },
    file::is_writable_by_others,
};

impl Compiler<'_> {
    pub(super) fn api_key(&self, at: At<'_>, name: &str, key: &ApiKey) -> Option<Arc<dyn Authenticator>> {
        let peppers = self.peppers(at.field("peppers"), &key.peppers);
        let source = at.field("keys");
        let keys = match (&key.keys.file, &key.keys.redis) {
            (Some(_), None) if key.keys.set.is_some() => {
                source.field("set").refuse("a file holds the keys of one provider")
            }
            (Some(file), None) => self.keys_of_file(source.field("file"), name, file, peppers?),
            (None, Some(server)) => {
                let set = key.keys.set.as_ref().map_or(name, |set| &set.0.0);
                self.keys_of_redis(source.field("redis"), name, server, set, peppers?)
            }
            (None, None) if source.is_broken() => None,
            _ => source.refuse("expected exactly one of `file` and `redis`"),
        };
        let header = key.header.as_ref().map(|header| header.0.clone());
        let header = header.or_else(|| key.query.is_none().then(|| HeaderName::from_static("x-api-key")));
        let locations =
            header.map(Location::header).into_iter().chain(key.query.as_deref().map(Location::query));
        let gate = api_key::ApiKey::new(keys?).locations(locations).failure_limit(self.failures(name, key));
        Some(Arc::new(if key.forward { gate.forward() } else { gate }))
    }

    /// The limit of the snapshot before, if the file says the same of it.
    fn failures(&self, name: &str, key: &ApiKey) -> Arc<FailureLimit> {
        let said = key.failure_limit.clone();
        let kept = self.kept.stores.failures.again(name, &said).cloned();
        let limit = kept.unwrap_or_else(|| {
            let rate = said.as_ref().map(|rate| rate.0);
            rate.map_or_else(FailureLimit::default, |rate| FailureLimit::new(rate.count(), rate.period()))
                .into()
        });
        self.stores.borrow_mut().failures.insert(name, said, Arc::clone(&limit));
        limit
    }

    /// The peppers, and what tells them from others.
    fn peppers(&self, at: At<'_>, said: &BTreeMap<String, Material>) -> Option<(Peppers, u64)> {
        let mut print = DefaultHasher::new();
        let mut peppers = Vec::new();
        for (at, name, material) in at.entries(said) {
            let at = at.field("file");
            let secret = self.material(at, material)?;
            warn_if_open(at, &self.path(&material.file));
            (name, &secret).hash(&mut print);
            peppers.push(at.accept(Pepper::new(name, &secret))?);
        }
        // What is missing here has been reported.
        (peppers.len() == at.names().count()).then(|| (peppers.into_iter().collect(), print.finish()))
    }

    fn keys_of_file(
        &self,
        at: At<'_>,
        name: &str,
        file: &Path,
        (peppers, print): (Peppers, u64),
    ) -> Option<ApiKeys> {
        let text = self.file(at, file)?;
        let path = self.path(file);
        if is_writable_by_others(&path) {
            at.warn("this file can be written by everybody on this machine");
        }
        let document = Document::<KeyFile>::read(&path.to_string_lossy(), &text, self.key_schema());
        let Document { tree, typed, log } = match document {
            Ok(document) => document,
            Err(faults) => {
                at.log().extend(&faults);
                return None;
            }
        };
        let table = typed.and_then(|file| key_table(At::top(&tree, &log), name, &peppers, &file));
        at.log().extend(&log.into_faults());
        let keys = ApiKeys::from(table?);
        let said = KeysAt::File(path.clone(), print);
        Some(self.followed(name, said, || (Arc::new(FileKeyStore::new(path)), peppers, keys)))
    }

    #[cfg(feature = "redis")]
    fn keys_of_redis(
        &self,
        at: At<'_>,
        name: &str,
        server: &str,
        set: &str,
        (peppers, print): (Peppers, u64),
    ) -> Option<ApiKeys> {
        let (there, redis) = {
            let stores = self.stores.borrow();
            self.find(at, server, "server", "redis", stores.redis.all())?.clone()
        };
        let said = KeysAt::Redis(Box::new(there), set.to_owned(), print);
        let store = || Arc::new(api_key::RedisKeyStore::new(redis, set));
        Some(self.followed(name, said, || (store(), peppers, ApiKeys::pending())))
    }

    #[cfg(not(feature = "redis"))]
    pub(super) fn servers(&self) {
        for (at, ..) in self.top.field("redis").entries(&self.file.redis) {
            at.error("this build has no Redis: it was made without the feature `redis`");
        }
    }

    #[cfg(not(feature = "redis"))]
    fn keys_of_redis(&self, _: At<'_>, _: &str, _: &str, _: &str, _: (Peppers, u64)) -> Option<ApiKeys> {
        // This was reported where the server is defined, or it is not.
        None
    }

    /// The keys of the snapshot before, if the file says the same of them; else others, which are to be followed.
    fn followed<S: KeyStore>(
        &self,
        name: &str,
        said: KeysAt,
        make: impl FnOnce() -> (Arc<S>, Peppers, ApiKeys),
    ) -> ApiKeys {
        let keys = self.kept.stores.keys.again(name, &said).cloned().unwrap_or_else(|| {
            let (store, peppers, keys) = make();
            let follower = KeyFollower::new(name, store).peppers(peppers).beginning_with(keys.clone());
            self.followers.borrow_mut().push(follower);
            keys
        });
        self.stores.borrow_mut().keys.insert(name, said, keys.clone());
        keys
    }
}

/// The keys of a file, with what is wrong at its place there.
fn key_table(at: At<'_>, provider: &str, peppers: &Peppers, file: &KeyFile) -> Option<api_key::KeyTable> {
    let entries = file.keys.iter().map(|item| item.0.clone());
    let error = match api_key::KeyTable::peppered(provider, peppers.clone(), entries) {
        Ok(table) => return Some(table),
        Err(error) => error,
    };
    let keys = at.field("keys");
    let item = |id: &str| {
        keys.items(&file.keys).filter(|(_, item)| item.0.id() == id).last().map_or(keys, |(at, _)| at)
    };
    match error {
        KeyTableError::Duplicate(id) => item(&id).field("id").refuse("another key has this id"),
        KeyTableError::Id(id) => {
            item(&id).field("id").refuse("expected the id of a key: 12 letters and digits")
        }
        KeyTableError::Owner(id) => item(&id).field("owner").refuse("expected an owner"),
        KeyTableError::Pepper(id) => item(&id).field("hash").refuse("there is no pepper of this name"),
        error => keys.refuse(error.to_string()),
    }
}
