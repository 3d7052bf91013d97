use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue};

use super::{
    Algorithm, Claims, Keys, Pointer, TokenError,
    rules::Rules,
    token::{Header, Parts},
};
use crate::{
    authn::{
        Authenticator, Credential, Location,
        authenticator::check_alone,
        challenge::Challenges,
        credential::{self, Fault},
    },
    gate::{Gate, GateLayer},
    head::Head,
    identity::{AssertedHeaders, Principal},
    reject::{Answer, Reason, Rejection},
    time::WallClock,
};

/// Verifies JSON Web Tokens (RFC 7519) signed in compact form (RFC 7515).
///
/// See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct Jwt {
    keys: Keys,
    rules: Rules,
    algorithms: Vec<Algorithm>,
    types: Vec<Box<str>>,
    locations: Vec<Location>,
    forwards: bool,
    max_size: usize,
    claim_headers: Vec<Pointer>,
    header_names: Vec<HeaderName>,
    asserted: AssertedHeaders,
    challenges: Challenges,
    retry_after: Duration,
    clock: WallClock,
}

impl Jwt {
    /// The largest token that is looked at, in bytes, unless told otherwise.
    pub const MAX_SIZE: usize = 16 * 1024;
    /// How far issuers' clocks may be from ours, unless told otherwise.
    pub const SKEW: Duration = Duration::from_secs(60);

    /// Verifies tokens with these keys, looked for in `Authorization: Bearer`.
    ///
    /// Without [`issuer`](Self::issuer) and [`audiences`](Self::audiences) every token that was ever signed with one
    /// of the keys is valid, for whatever service it was made: set both.
    pub fn new(keys: impl Into<Keys>) -> Self {
        Self {
            keys: keys.into(),
            rules: Rules {
                provider: "jwt".into(),
                issuer: None,
                audiences: Vec::new(),
                required: vec!["exp".into()],
                roles: Pointer::from("roles"),
                skew: Self::SKEW,
            },
            algorithms: Algorithm::ALL.to_vec(),
            types: Vec::new(),
            locations: vec![Location::bearer()],
            forwards: false,
            max_size: Self::MAX_SIZE,
            claim_headers: Vec::new(),
            header_names: Vec::new(),
            asserted: AssertedHeaders::default(),
            challenges: Challenges::bearer("api"),
            retry_after: Duration::from_secs(5),
            clock: WallClock::default(),
        }
    }

    /// Names the provider: the first part of its principals. `jwt` unless told otherwise.
    pub fn named(mut self, provider: &str) -> Self {
        self.rules.provider = provider.into();
        self
    }

    /// Takes only tokens whose `iss` is this, byte by byte.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.rules.issuer = Some(issuer.into());
        self
    }

    /// Takes only tokens whose `aud` names one of these.
    pub fn audiences<T: Into<Box<str>>>(mut self, audiences: impl IntoIterator<Item = T>) -> Self {
        self.rules.audiences = audiences.into_iter().map(Into::into).collect();
        self
    }

    /// Takes only tokens signed with one of these algorithms, of those that the key allows. All unless told
    /// otherwise.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Takes only tokens with these claims, beside `exp`, which is always required unless
    /// [`danger_without_expiry`](Self::danger_without_expiry) is chosen. At most 64 names count.
    pub fn require<'n>(mut self, claims: impl IntoIterator<Item = &'n str>) -> Self {
        claims.into_iter().for_each(|claim| self.rules.require(claim));
        self
    }

    /// Takes tokens that have no `exp` and therefore never end.
    pub fn danger_without_expiry(mut self) -> Self {
        self.rules.required.retain(|claim| **claim != *"exp");
        self
    }

    /// Takes only tokens with one of these types in `typ`, in any case, with or without `application/`: `at+jwt` for
    /// access tokens of RFC 9068.
    ///
    /// Unless told otherwise a token has no `typ`, or `JWT` or `at+jwt`, so that a token of another kind (RFC 8725
    /// section 3.11) is not taken for an access token.
    pub fn types<T: Into<Box<str>>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// How far the issuer's clock may be from ours; [`SKEW`](Self::SKEW) unless told otherwise.
    pub fn skew(mut self, skew: Duration) -> Self {
        self.rules.skew = skew;
        self
    }

    /// Where the roles are: a string or a list of strings. The claim `roles` unless told otherwise.
    pub fn roles_at(mut self, pointer: impl Into<Pointer>) -> Self {
        self.rules.roles = pointer.into();
        self
    }

    /// Where tokens are looked for, instead of `Authorization: Bearer`. A request with two of them is refused.
    pub fn locations(mut self, locations: impl IntoIterator<Item = Location>) -> Self {
        self.locations = locations.into_iter().collect();
        self
    }

    /// Lets the token go on to the upstream. It is removed unless told otherwise.
    pub fn forward(mut self) -> Self {
        self.forwards = true;
        self
    }

    /// The largest token that is looked at, in bytes; [`MAX_SIZE`](Self::MAX_SIZE) unless told otherwise.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Tells the upstream a claim in this header field.
    ///
    /// Strings of visible ASCII (with spaces inside), whole numbers and booleans are told; of anything else the field
    /// is left away. Nothing that a client sends under this name comes through.
    pub fn claim_header(mut self, name: HeaderName, claim: impl Into<Pointer>) -> Self {
        self.claim_headers.push(claim.into());
        self.header_names.push(name);
        self.asserted = self.header_names.iter().cloned().collect();
        self
    }

    /// The realm in challenges (RFC 9110 section 11.5); `api` unless told otherwise.
    pub fn realm(mut self, realm: &str) -> Self {
        self.challenges = Challenges::bearer(realm);
        self
    }

    /// The clock for `exp` and `nbf`.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// Verifies a token that was found somewhere else.
    ///
    /// # Errors
    /// [`TokenError`], for logs.
    pub fn verify(&self, token: &str) -> Result<(Principal, Claims), TokenError> {
        self.verify_at(token, self.clock.now())
    }

    fn verify_at(&self, token: &str, now: SystemTime) -> Result<(Principal, Claims), TokenError> {
        if token.len() > self.max_size {
            return Err(TokenError::TooLarge);
        }
        let parts = Parts::of(token)?;
        parts.with_header(|header| self.verify_signature(&parts, header))?;
        // Nothing of the payload is read before its signature has been verified.
        let claims = Claims::decode(parts.payload)?;
        let principal = self.rules.check(&claims, now)?;
        Ok((principal, claims))
    }

    fn verify_signature(&self, parts: &Parts<'_>, header: &Header<'_>) -> Result<(), TokenError> {
        let algorithm = header.algorithm()?;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        if !self.takes_type(header.token_type()) {
            return Err(TokenError::Type);
        }
        let signature = parts.signature()?;
        let keys = self.keys.load();
        let Some(keys) = &*keys else {
            self.keys.want();
            return Err(TokenError::KeysUnknown);
        };
        if !keys.knows(header.key_id()) {
            self.keys.want();
            return Err(TokenError::UnknownKey);
        }
        let mut candidates = keys.candidates(header.key_id(), algorithm).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::Algorithm);
        }
        if candidates.any(|key| key.verify(parts.signed, signature.as_ref())) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    fn takes_type(&self, token_type: Option<&str>) -> bool {
        let Some(token_type) = token_type else { return self.types.is_empty() };
        let is = |name: &str| name.eq_ignore_ascii_case(token_type);
        if self.types.is_empty() { is("JWT") || is("at+jwt") } else { self.types.iter().any(|name| is(name)) }
    }

    fn refuse(&self, error: TokenError) -> Rejection {
        if error == TokenError::KeysUnknown {
            return Rejection::new(Reason::KeysUnavailable)
                .detail("the keys that verify tokens are not known yet")
                .retry_after(self.retry_after);
        }
        self.challenges.invalid_token().detail(error.to_string()).source(error)
    }

    fn refuse_fault(&self, fault: Fault) -> Rejection {
        match fault {
            Fault::TooLarge => self.refuse(TokenError::TooLarge),
            Fault::Malformed | Fault::Repeated => {
                self.challenges.invalid_request().detail(fault.to_string()).source(fault)
            }
        }
    }
}

impl Authenticator for Jwt {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let verified = match credential::find(head, &self.locations, self.max_size) {
            Ok(None) => return Credential::Absent,
            Ok(Some(token)) => self.verify(&token),
            Err(fault) => return Credential::Invalid(self.refuse_fault(fault)),
        };
        match verified {
            Ok((principal, claims)) => {
                tell(&self.header_names, &self.claim_headers, &claims, head);
                head.extensions_mut().insert(claims);
                Credential::Valid(principal)
            }
            Err(error) => Credential::Invalid(self.refuse(error)),
        }
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }

    fn forwards(&self) -> bool {
        self.forwards
    }

    fn is_token(&self) -> bool {
        true
    }

    fn asserted_headers(&self) -> &[HeaderName] {
        &self.header_names
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.challenges.plain())
    }
}

impl Gate for Jwt {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        check_alone(self, &self.asserted, head)
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("keys", &self.keys)
            .field("rules", &self.rules)
            .field("algorithms", &self.algorithms)
            .field("types", &self.types)
            .field("locations", &self.locations)
            .field("forwards", &self.forwards)
            .field("header_names", &self.header_names)
            .finish_non_exhaustive()
    }
}

/// Sets the header fields for the upstream.
pub(in crate::authn) fn tell(
    names: &[HeaderName],
    pointers: &[Pointer],
    claims: &Claims,
    head: &mut Head<'_>,
) {
    for (name, pointer) in names.iter().zip(pointers) {
        let text = pointer.text(claims.as_json());
        if let Some(value) = text.as_deref().and_then(header_value) {
            head.headers_mut().insert(name.clone(), value);
        }
    }
}

/// Visible ASCII, and spaces but not at an end: what every reader of a header field sees alike.
fn header_value(text: &str) -> Option<HeaderValue> {
    let inside = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    if text.is_empty() || text.trim_ascii() != text || !text.as_bytes().iter().all(inside) {
        return None;
    }
    HeaderValue::from_str(text).ok()
}
