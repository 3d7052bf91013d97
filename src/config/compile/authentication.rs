//! `authentication`: from what the file says to providers.
use std::{collections::HashSet, path::Path, sync::Arc};

use http::HeaderName;

use super::Compiler;
use crate::{
    authn::{
        Authenticator, Location, Providers, Together,
        api_key::{self, KeyTableError},
    },
    config::{
        at::At,
        document::Document,
        schema::{ApiKey, Authenticate, AuthenticateBy, Credentials, KeyFile, Material, Provider, Public},
    },
    identity::Principal,
};

impl Compiler<'_> {
    /// One provider; `None` if something was reported.
    pub(super) fn provider(
        &self,
        at: At<'_>,
        name: &str,
        provider: &Provider,
    ) -> Option<Arc<dyn Authenticator>> {
        match (&provider.jwt, &provider.api_key) {
            (Some(jwt), None) => self.jwt(at.field("jwt"), name, jwt),
            (None, Some(key)) => self.api_key(at.field("apiKey"), name, key),
            // What of it was faulty has been told.
            (None, None) if at.is_broken() => None,
            _ => at.refuse("expected exactly one of `jwt` and `apiKey`"),
        }
    }

    fn api_key(&self, at: At<'_>, name: &str, key: &ApiKey) -> Option<Arc<dyn Authenticator>> {
        let file = self.material(at.field("keys").field("file"), &key.keys)?;
        let path = self.path(&key.keys.file);
        let document = Document::<KeyFile>::read(&path.to_string_lossy(), &file, self.key_schema());
        let Document { tree, typed, log } = match document {
            Ok(document) => document,
            Err(faults) => {
                at.log().extend(&faults);
                return None;
            }
        };
        let table = typed.and_then(|file| self.key_table(At::top(&tree, &log), name, &file));
        at.log().extend(&log.into_faults());
        let table = table?;
        let header = key.header.as_ref().map(|header| header.0.clone());
        let header = header.or_else(|| key.query.is_none().then(|| HeaderName::from_static("x-api-key")));
        let locations =
            header.map(Location::header).into_iter().chain(key.query.as_deref().map(Location::query));
        let gate = api_key::ApiKey::new(table).locations(locations);
        Some(Arc::new(if key.forward { gate.forward() } else { gate }))
    }

    /// The keys of a file, with what is wrong at its place there.
    fn key_table(&self, at: At<'_>, provider: &str, file: &KeyFile) -> Option<api_key::KeyTable> {
        let entries = file.keys.iter().map(|item| item.0.clone());
        let error = match api_key::KeyTable::new(provider, entries) {
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
            error => keys.refuse(error.to_string()),
        }
    }

    #[cfg(not(feature = "jwt"))]
    fn jwt(&self, at: At<'_>, _: &str, _: &crate::config::schema::Jwt) -> Option<Arc<dyn Authenticator>> {
        at.refuse("this build has no JWT: it was made without the feature `jwt`")
    }

    /// What `authenticate` of a rule says.
    pub(super) fn authenticate(&self, at: At<'_>, authenticate: &Authenticate) -> Option<Providers> {
        let (list, said, told) = match authenticate {
            Authenticate::None(Public::None) => return None,
            Authenticate::By(said) => (at, said, None),
            Authenticate::Told(told) => (at.field("providers"), &told.providers, Some(told)),
        };
        if said.is_empty() {
            list.error("expected at least one provider, or `none`");
        }
        let mut seen = HashSet::new();
        let mut providers = Providers::new();
        for (at, credentials) in list.items(said) {
            match credentials {
                Credentials::One(name) if !seen.insert(name) => at.error("is in this list twice"),
                Credentials::One(name) => {
                    providers = self.named(at, name).into_iter().fold(providers, Providers::with);
                }
                Credentials::All(all) => {
                    providers =
                        self.together(at.field("all"), &all.all).into_iter().fold(providers, Providers::with);
                }
            }
        }
        Some(match told {
            Some(AuthenticateBy { anonymous: Some(name), .. }) => {
                providers.optional_as(Principal::new("anonymous", "", name.as_str()))
            }
            Some(AuthenticateBy { optional: true, .. }) => providers.optional(),
            _ => providers,
        })
    }

    fn together(&self, at: At<'_>, names: &[String]) -> Option<Together> {
        if names.len() < 2 {
            at.error("expected two providers or more");
        }
        let mut members = self.distinct(at, names).into_iter().filter_map(|(at, name)| self.named(at, name));
        let first = Together::new(members.next()?);
        Some(members.fold(first, Together::and))
    }

    fn named(&self, at: At<'_>, name: &str) -> Option<Arc<dyn Authenticator>> {
        self.find(at, name, "provider", "authentication", &self.providers).cloned()
    }

    /// The bytes of a file that a field names.
    pub(super) fn material(&self, at: At<'_>, material: &Material) -> Option<Vec<u8>> {
        self.file(at, &material.file)
    }

    pub(super) fn file(&self, at: At<'_>, path: &Path) -> Option<Vec<u8>> {
        at.accept(self.files.borrow_mut().read(&self.path(path)))
    }
}
