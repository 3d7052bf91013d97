//! What is asked of one route: scopes and roles.

use http::HeaderValue;

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::Principal,
    reject::{Answer, Reason, Rejection, challenge},
};

/// Lets pass who has the scopes and roles that are asked for.
///
/// Without any it lets pass whoever is authenticated; a [guest](Principal::is_guest) is not. See the [module docs](super).
#[derive(Debug, Clone)]
#[must_use]
pub struct Authorize {
    scopes: Needs,
    roles: Needs,
    realm: Box<str>,
    missing: Vec<HeaderValue>,
    insufficient: Option<HeaderValue>,
}

/// What is needed of a kind. An empty `any` is satisfied by nobody.
#[derive(Debug, Clone, Default)]
struct Needs {
    all: Vec<Box<str>>,
    any: Option<Vec<Box<str>>>,
}

impl Needs {
    fn are_met(&self, has: impl Fn(&str) -> bool) -> bool {
        self.all.iter().all(|need| has(need))
            && self.any.as_ref().is_none_or(|any| any.iter().any(|need| has(need)))
    }

    fn is_nothing(&self) -> bool {
        self.all.is_empty() && self.any.is_none()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().chain(self.any.iter().flatten()).map(AsRef::as_ref)
    }
}

impl Authorize {
    /// Asks for an authenticated caller.
    pub fn new() -> Self {
        Self {
            scopes: Needs::default(),
            roles: Needs::default(),
            realm: "api".into(),
            missing: Vec::new(),
            insufficient: None,
        }
        .rendered()
    }

    /// Asks for every one of these scopes.
    pub fn all_scopes<T: Into<Box<str>>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes.all = scopes.into_iter().map(Into::into).collect();
        self.rendered()
    }

    /// Asks for one of these scopes at least. Of an empty list nobody has one.
    pub fn any_scope<T: Into<Box<str>>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes.any = Some(scopes.into_iter().map(Into::into).collect());
        self.rendered()
    }

    /// Asks for every one of these roles.
    pub fn all_roles<T: Into<Box<str>>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        self.roles.all = roles.into_iter().map(Into::into).collect();
        self
    }

    /// Asks for one of these roles at least. Of an empty list nobody has one.
    pub fn any_role<T: Into<Box<str>>>(mut self, roles: impl IntoIterator<Item = T>) -> Self {
        self.roles.any = Some(roles.into_iter().map(Into::into).collect());
        self
    }

    /// The realm in challenges (RFC 9110 section 11.5); `api` unless told otherwise.
    pub fn realm(mut self, realm: impl Into<Box<str>>) -> Self {
        self.realm = realm.into();
        self.rendered()
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// Whether this principal may pass.
    ///
    /// # Errors
    /// [`Reason::MissingCredentials`], [`Reason::InsufficientScope`] or [`Reason::Forbidden`].
    pub fn decide(&self, principal: Option<&Principal>) -> Result<(), Rejection> {
        let asks_only_who = self.scopes.is_nothing() && self.roles.is_nothing();
        let is_somebody = |who: &&Principal| !(who.is_anonymous() || who.is_guest() && asks_only_who);
        let Some(principal) = principal.filter(is_somebody) else {
            let refusal = Rejection::new(Reason::MissingCredentials);
            return Err(self.missing.iter().cloned().fold(refusal, Rejection::challenge));
        };
        if !self.scopes.are_met(|scope| principal.has_scope(scope)) {
            let refusal = Rejection::new(Reason::InsufficientScope).detail("a scope is missing");
            return Err(self.insufficient.iter().cloned().fold(refusal, Rejection::challenge));
        }
        if !self.roles.are_met(|role| principal.has_role(role)) {
            return Err(Rejection::new(Reason::Forbidden).detail("a role is missing"));
        }
        Ok(())
    }

    fn rendered(mut self) -> Self {
        let scopes: Vec<&str> = self.scopes.names().filter(|scope| is_scope(scope)).collect();
        let scopes = format!(", error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "));
        self.missing = vec![challenge("Bearer", &self.realm, "")];
        self.insufficient = Some(challenge("Bearer", &self.realm, &scopes));
        self
    }

    /// Behind providers that ask for this, and perhaps for no bearer token, which is what is asked for unless told: a 401 has to
    /// ask for something.
    #[cfg(feature = "stack")]
    pub(crate) fn behind(mut self, challenges: Vec<HeaderValue>) -> Self {
        if challenges.is_empty() {
            return self;
        }
        self.insufficient
            .take_if(|_| !challenges.iter().any(|asked| asked.as_bytes().starts_with(b"Bearer ")));
        self.missing = challenges;
        self
    }
}

impl Default for Authorize {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate for Authorize {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.decide(head.extensions().get()).map_err(Answer::from)
    }
}

/// A scope-token of RFC 6749 section 3.3: one that needs no quoting either.
fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::*;
    use crate::reject::Protocol;

    fn check(gate: &Authorize, principal: Option<Principal>) -> Result<(), Rejection> {
        let mut request = Request::new(());
        if let Some(principal) = principal {
            request.extensions_mut().insert(principal);
        }
        match gate.check(&mut Head::of(&mut request)) {
            Ok(()) => Ok(()),
            Err(Answer::Refuse(rejection)) => Err(rejection),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn with(scopes: &str, roles: &[&str]) -> Option<Principal> {
        Some(Principal::new("p", "", "alice").with_scopes([scopes]).with_roles(roles.iter().copied()))
    }

    #[test]
    fn each_row_of_answers_as_http_and_as_grpc() {
        let gate = Authorize::new()
            .all_scopes(["a", "b"])
            .any_scope(["c"])
            .all_roles(["staff"])
            .realm("the \"shop\"");
        let realm = r#"Bearer realm="the \"shop\"""#;
        let insufficient = format!(r#"{realm}, error="insufficient_scope", scope="a b c""#);
        for (principal, status, challenge, grpc) in [
            (None, 401, Some(realm), "16"),
            (Some(Principal::anonymous()), 401, Some(realm), "16"),
            (with("a", &["staff"]), 403, Some(&*insufficient), "7"),
            (with("a b c", &[]), 403, None, "7"),
        ] {
            let refused = check(&gate, principal).unwrap_err();
            let http = refused.clone().into_response(Protocol::Http);
            assert_eq!(http.status().as_u16(), status);
            let told = http.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!(told, challenge);
            assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], grpc);
        }
        assert!(check(&gate, with("a b c", &["staff"])).is_ok());
    }

    #[cfg(feature = "stack")]
    #[test]
    fn nobody_is_asked_for_a_token_where_none_is_taken() {
        let key = || HeaderValue::from_static(r#"ApiKey realm="api""#);
        let bearer = || HeaderValue::from_static(r#"Bearer realm="shop""#);
        for (asked, insufficient) in [(vec![key()], false), (vec![bearer(), key()], true), (vec![], true)] {
            let gate = Authorize::new().all_scopes(["a"]).behind(asked.clone());
            let told = |principal| {
                let refused = check(&gate, principal).unwrap_err();
                refused.headers().get_all(header::WWW_AUTHENTICATE).iter().cloned().collect::<Vec<_>>()
            };
            let unless_told = HeaderValue::from_static(r#"Bearer realm="api""#);
            assert_eq!(told(None), if asked.is_empty() { vec![unless_told] } else { asked.clone() });
            assert_eq!(told(with("b", &[])).len(), usize::from(insufficient), "{asked:?}");
        }
    }

    #[test]
    fn a_guest_has_its_scopes_but_was_not_authenticated() {
        let guest = || with("read", &[]).map(Principal::into_guest);
        let refused = check(&Authorize::new(), guest()).unwrap_err();
        assert_eq!(refused.reason(), Reason::MissingCredentials);
        assert!(check(&Authorize::new().all_scopes(["read"]), guest()).is_ok());
    }

    #[test]
    fn all_are_needed_and_one_of_any() {
        let none: [&str; 0] = [];
        for (gate, scopes, roles, pass) in [
            (Authorize::new(), "", &[][..], true),
            (Authorize::new().all_scopes(["a", "b"]), "b a", &[], true),
            (Authorize::new().all_scopes(["a", "b"]), "a", &[], false),
            (Authorize::new().all_scopes(none), "", &[], true),
            (Authorize::new().any_scope(["a", "b"]), "b", &[], true),
            (Authorize::new().any_scope(["a", "b"]), "ab", &[], false),
            (Authorize::new().any_scope(["a", "b"]), "A", &[], false),
            (Authorize::new().any_scope(none), "a", &[], false),
            (Authorize::new().all_scopes(["a"]).any_scope(["b", "c"]), "a", &[], false),
            (Authorize::new().all_scopes(["a"]).any_scope(["b", "c"]), "c a", &[], true),
            (Authorize::new().all_roles(["x y"]), "", &["x y"], true),
            (Authorize::new().all_roles(["x y"]), "", &["x", "y"], false),
            (Authorize::new().any_role(["x", "y"]), "x y", &[], false),
            (Authorize::new().any_role(["x", "y"]), "", &["y"], true),
            (Authorize::new().any_role(none), "", &["y"], false),
            (Authorize::new().all_scopes(["a"]).all_roles(["x"]), "x", &["a"], false),
        ] {
            assert_eq!(check(&gate, with(scopes, roles)).is_ok(), pass, "{gate:?} {scopes} {roles:?}");
        }
    }

    #[test]
    fn a_scope_that_would_break_the_challenge_is_left_out_of_it() {
        let gate = Authorize::new().all_scopes(["a\", x=\"", "b", "c d", "é", "\r\n"]);
        let refused = check(&gate, with("", &[])).unwrap_err();
        let challenge = r#"Bearer realm="api", error="insufficient_scope", scope="b""#;
        assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], challenge);
    }

    #[test]
    fn a_decision_allocates_nothing() {
        let gate = Authorize::new().all_scopes(["a", "b"]).any_role(["x", "y"]);
        let mut request = Request::new(());
        request.extensions_mut().insert(with("a b", &["y"]).unwrap());
        let mut head = Head::of(&mut request);
        assert_eq!(allocation_counter::measure(|| gate.check(&mut head).unwrap()).count_total, 0);
        const { assert!(!Authorize::SHAREABLE) };
    }
}
