use http::{HeaderName, HeaderValue};

use super::{AssertedHeaders, Principal};
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    reject::Answer,
};

/// What upstreams are told of who was authenticated, each in a header of its own.
///
/// Whatever a request brings along under these names is removed first, also where nobody was authenticated or where the
/// principal does not have what would be told. On rules where this gate does not stand somebody else has to remove it: see
/// [`names`](Self::names).
///
/// ```
/// use http::{HeaderName, Request};
/// use portcullis::{gate::Gate, head::Head, identity::{CallerFact, CallerHeaders, Principal}};
///
/// let tell = CallerHeaders::new()
///     .with(HeaderName::from_static("x-user"), CallerFact::Subject)
///     .with(HeaderName::from_static("x-plan"), CallerFact::Plan);
/// let mut request = Request::get("/").header("x-plan", "gold").body(())?;
/// request.extensions_mut().insert(Principal::new("partners", "", "acme"));
/// tell.check(&mut Head::of(&mut request)).unwrap();
/// assert_eq!(request.headers()["x-user"], "acme");
/// assert!(!request.headers().contains_key("x-plan")); // it has none
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CallerHeaders {
    told: Vec<(HeaderName, CallerFact)>,
    asserted: AssertedHeaders,
}

/// What can be told of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerFact {
    /// The provider that verified the credential.
    Provider,
    /// Who vouches for the subject.
    Issuer,
    /// Whom the credential was given to.
    Subject,
    /// The plan.
    Plan,
    /// The scopes, divided by spaces.
    Scopes,
}

impl CallerHeaders {
    /// Nothing is told.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells this in that header. What not every reader of a header field would see alike is not told: only visible ASCII
    /// is, and spaces inside.
    pub fn with(mut self, name: HeaderName, fact: CallerFact) -> Self {
        self.told.push((name, fact));
        self.asserted = self.names().cloned().collect();
        self
    }

    /// The names of these headers, which nobody else may use.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.told.iter().map(|(name, _)| name)
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl CallerFact {
    fn of(self, principal: &Principal) -> Option<HeaderValue> {
        match self {
            Self::Provider => header_value(principal.provider()),
            Self::Issuer => header_value(principal.issuer()),
            Self::Subject => header_value(principal.subject()),
            Self::Plan => header_value(principal.plan()?),
            Self::Scopes => header_value(&principal.scopes().collect::<Vec<_>>().join(" ")),
        }
    }
}

/// Visible ASCII, and spaces but not at an end: what every reader of a header field sees alike.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let inside = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    if text.is_empty() || text.trim_ascii() != text || !text.as_bytes().iter().all(inside) {
        return None;
    }
    HeaderValue::from_str(text).ok()
}

impl Gate for CallerHeaders {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.asserted.strip(head.headers_mut());
        let Some(principal) = head.extensions().get::<Principal>().cloned() else { return Ok(()) };
        for (name, fact) in &self.told {
            if let Some(value) = fact.of(&principal) {
                head.headers_mut().insert(name, value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn told(principal: Option<Principal>) -> Vec<String> {
        let facts = [
            CallerFact::Provider,
            CallerFact::Issuer,
            CallerFact::Subject,
            CallerFact::Plan,
            CallerFact::Scopes,
        ];
        let names =
            ["x-provider", "x-issuer", "x-subject", "x-plan", "x-scopes"].map(HeaderName::from_static);
        let gate = names
            .iter()
            .cloned()
            .zip(facts)
            .fold(CallerHeaders::new(), |gate, (name, fact)| gate.with(name, fact));
        let mut request = Request::get("/").header("x_subject", "root").body(()).unwrap();
        for name in &names {
            request.headers_mut().append(name, HeaderValue::from_static("root"));
        }
        principal.map(|principal| request.extensions_mut().insert(principal));
        gate.check(&mut Head::of(&mut request)).unwrap();
        request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    #[test]
    fn what_is_known_is_told_and_nobody_else_says_it() {
        let alice = Principal::new("customers", "https://id.example", "a da")
            .with_scopes(["a", "b c"])
            .with_plan("gold");
        assert_eq!(
            told(Some(alice)),
            [
                "x-provider: customers",
                "x-issuer: https://id.example",
                "x-subject: a da",
                "x-plan: gold",
                "x-scopes: a b c"
            ]
        );
        assert_eq!(told(Some(Principal::new("keys", "", "a\r\nx-admin: 1"))), ["x-provider: keys"]);
        // An upstream may read these as another name.
        for subject in ["admin ", " admin", "\tadmin", "ad\tmin", "ädmin"] {
            let told = told(Some(Principal::new("keys", "", subject)));
            assert_eq!(told, ["x-provider: keys"], "{subject:?}");
        }
        for nobody in [None, Some(Principal::anonymous())] {
            assert_eq!(told(nobody), Vec::<String>::new());
        }
    }
}
