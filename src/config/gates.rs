use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::{
    at::At,
    schema::{CustomGate, CustomGateWith},
    suggest::suggestion,
};
use crate::{
    body::BoxError,
    gate::{DynGate, Gate},
};

type Make = Box<dyn Fn(&Json) -> Result<Arc<dyn DynGate>, BoxError> + Send + Sync>;

/// Gates of your own, by the names under which the file uses them.
///
/// ```
/// use portcullis::{config::CustomGates, gate::Gate, head::Head, reject::{Answer, Reason}};
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
/// let gates = CustomGates::new().register("at-most", |bytes: u64| Ok(AtMost(bytes)));
/// # let _ = gates;
/// ```
#[derive(Default)]
#[must_use]
pub struct CustomGates(BTreeMap<String, Make>);

impl CustomGates {
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
        self.0.insert(name.into(), Box::new(make));
        self
    }

    /// The gate that a rule names, or what is wrong is reported.
    pub(super) fn make(&self, at: At<'_>, said: &CustomGate) -> Option<Arc<dyn DynGate>> {
        let (at_name, name, with) = match said {
            CustomGate::Named(name) => (at, name, &Json::Null),
            CustomGate::Told(CustomGateWith { name, with }) => (at.field("name"), name, with),
        };
        match self.0.get(name) {
            Some(make) => at.accept(make(with)),
            None => {
                let hint = suggestion(name, self.0.keys().map(String::as_str));
                at_name.refuse(format!("no gate is registered under this name{hint}"))
            }
        }
    }
}

impl fmt::Debug for CustomGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
