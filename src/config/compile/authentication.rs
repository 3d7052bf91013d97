//! `authentication`: from what the file says to providers.
use std::{path::Path, sync::Arc};

use super::Compiler;
use crate::{
    authn::{Authenticator, Providers},
    config::{
        at::At,
        files::is_open_to_others,
        schema::{Authenticate, Material, Provider, Public},
    },
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

    #[cfg(not(feature = "jwt"))]
    fn jwt(&self, at: At<'_>, _: &str, _: &crate::config::schema::Jwt) -> Option<Arc<dyn Authenticator>> {
        at.refuse("this build has no JWT: it was made without the feature `jwt`")
    }

    /// What `authenticate` of a rule says.
    pub(super) fn authenticate(&self, at: At<'_>, authenticate: &Authenticate) -> Option<Providers> {
        let (list, names, optional) = match authenticate {
            Authenticate::None(Public::None) => return None,
            Authenticate::By(names) => (at, names, false),
            Authenticate::Told(told) => (at.field("providers"), &told.providers, told.optional),
        };
        let mut providers = Providers::new();
        if names.is_empty() {
            list.error("expected at least one provider, or `none`");
        }
        for (at, name) in self.distinct(list, names) {
            if let Some(provider) = self.find(at, name, "provider", "authentication", &self.providers) {
                providers = providers.with(Arc::clone(provider));
            }
        }
        Some(if optional { providers.optional() } else { providers })
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
