//! `authentication`: from what the file says to providers.
use std::{collections::HashSet, path::Path, sync::Arc};

use super::Compiler;
use crate::{
    authn::{Authenticator, Providers, Together, certificate::Certificate},
    config::{
        at::At,
        schema::{Authenticate, AuthenticateBy, ClientCertificate, Material, OneOrAll, Provider, Public},
    },
    file::is_open_to_others,
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
        let Provider { jwt, api_key, introspection, client_certificate } = provider;
        match (jwt, api_key, introspection, client_certificate) {
            (Some(jwt), None, None, None) => self.jwt(at.field("jwt"), name, jwt),
            (None, Some(key), None, None) => self.api_key(at.field("apiKey"), name, key),
            (None, None, Some(asked), None) => self.introspection(at.field("introspection"), name, asked),
            (None, None, None, Some(ClientCertificate {})) => {
                self.warn_of_no_certificates(at.field("clientCertificate"), "nobody has one");
                Some(Arc::new(Certificate::new().named(name)))
            }
            // What of it was faulty has been told.
            (None, None, None, None) if at.is_broken() => None,
            _ => {
                at.refuse("expected exactly one of `jwt`, `apiKey`, `introspection` and `clientCertificate`")
            }
        }
    }

    #[cfg(not(feature = "jwt"))]
    fn jwt(&self, at: At<'_>, _: &str, _: &crate::config::schema::Jwt) -> Option<Arc<dyn Authenticator>> {
        at.refuse("this build has no JWT: it was made without the feature `jwt`")
    }

    #[cfg(not(feature = "jwt"))]
    fn introspection(
        &self,
        at: At<'_>,
        _: &str,
        _: &crate::config::schema::Introspection,
    ) -> Option<Arc<dyn Authenticator>> {
        at.refuse("this build has no tokens: it was made without the feature `jwt`")
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
                OneOrAll::One(name) if !seen.insert(name) => at.error("is in this list twice"),
                OneOrAll::One(name) => {
                    providers = self.named(at, name).into_iter().fold(providers, Providers::with);
                }
                OneOrAll::All(all) => {
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

/// Warns of a secret that others can read.
pub(super) fn warn_if_open(at: At<'_>, path: &Path) {
    if is_open_to_others(path) {
        at.warn("this secret can be read by everybody on this machine");
    }
}
