use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    at::At,
    schema::{CustomGate, CustomGateWith},
    suggest::suggestion,
};
use crate::{
    admission::authz::Facts,
    body::BoxError,
    gate::{DynGate, Gate},
};

type Make<T> = Box<dyn Fn(&Json) -> Result<T, BoxError> + Send + Sync>;
/// A predicate of a policy's rule.
type Says = Arc<dyn Fn(&Facts<'_>) -> bool + Send + Sync>;

/// Gates of your own, and predicates for policies, by the names under which the file uses them.
///
/// ```
/// use portcullis::{config::Registry, gate::Gate, head::Head, reject::{Answer, Reason}};
///
/// /// Takes requests with a body of at most so many bytes, by their Content-Length.
/// struct AtMost(u64);
///
/// impl Gate for AtMost {
///     type Pass = ();
///     fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
///         let length = head.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
///         if length.unwrap_or(0) > self.0 { Err(Reason::BodyTooLarge.into()) } else { Ok(()) }
///     }
/// }
///
/// // In the file: `policies: { gates: [{ name: at-most, with: 65536 }] }`
/// let gates = Registry::new().register("at-most", |bytes: u64| Ok(AtMost(bytes)));
/// # let _ = gates;
/// ```
#[derive(Default)]
#[must_use]
pub struct Registry {
    gates: BTreeMap<String, Make<Arc<dyn DynGate>>>,
    predicates: BTreeMap<String, Make<Says>>,
}

impl Registry {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate. It is made anew for each rule that names it, and at each reload, from what the rule says under
    /// `with` (nothing said is `null`: take an `Option` or `()`).
    pub fn register<C, G, F>(mut self, name: impl Into<String>, make: F) -> Self
    where
        C: DeserializeOwned,
        G: Gate,
        F: Fn(C) -> Result<G, BoxError> + Send + Sync + 'static,
    {
        let make = move |with: &Json| -> Result<Arc<dyn DynGate>, BoxError> {
            let with = C::deserialize(with).map_err(|_| "`with` is not what this gate understands")?;
            Ok(Arc::new(make(with)?))
        };
        self.gates.insert(name.into(), Box::new(make));
        self
    }

    /// Adds a predicate for the rules of [policies](crate::admission::authz). As a gate it is made anew for each rule
    /// that names it, from what the rule says under `with`.
    ///
    /// ```
    /// use portcullis::{admission::authz::Facts, config::Registry};
    ///
    /// // In the file: `authorization: { large: { action: deny, rules: [{ when: [{ name: larger-than, with: 65536 }] }] } }`
    /// let gates = Registry::new().predicate("larger-than", |bytes: u64| {
    ///     Ok(move |facts: &Facts<'_>| {
    ///         let length = facts.headers().and_then(|headers| headers.get("content-length")?.to_str().ok()?.parse().ok());
    ///         length.is_some_and(|length: u64| length > bytes)
    ///     })
    /// });
    /// # let _ = gates;
    /// ```
    pub fn predicate<C, P, F>(mut self, name: impl Into<String>, make: F) -> Self
    where
        C: DeserializeOwned,
        P: Fn(&Facts<'_>) -> bool + Send + Sync + 'static,
        F: Fn(C) -> Result<P, BoxError> + Send + Sync + 'static,
    {
        let make = move |with: &Json| -> Result<Says, BoxError> {
            let with = C::deserialize(with).map_err(|_| "`with` is not what this predicate understands")?;
            Ok(Arc::new(make(with)?))
        };
        self.predicates.insert(name.into(), Box::new(make));
        self
    }

    /// The gate that a rule names, or what is wrong is reported.
    pub(super) fn make(&self, at: At<'_>, said: &CustomGate) -> Option<Arc<dyn DynGate>> {
        made(&self.gates, "gate", at, said)
    }

    /// The predicate that a policy's rule names, or what is wrong is reported.
    pub(super) fn predicate_of(&self, at: At<'_>, said: &CustomGate) -> Option<Says> {
        made(&self.predicates, "predicate", at, said)
    }
}

fn made<T>(known: &BTreeMap<String, Make<T>>, what: &str, at: At<'_>, said: &CustomGate) -> Option<T> {
    let (at_name, name, with) = match said {
        CustomGate::Named(name) => (at, name, &Json::Null),
        CustomGate::Told(CustomGateWith { name, with }) => (at.field("name"), name, with),
    };
    match known.get(name) {
        Some(make) => at.accept(make(with)),
        None => {
            let hint = suggestion(name, known.keys().map(String::as_str));
            at_name.refuse(format!("no {what} is registered under this name{hint}"))
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.gates.keys().chain(self.predicates.keys())).finish()
    }
}
