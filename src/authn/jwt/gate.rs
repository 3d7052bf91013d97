use std::{fmt, time::Duration};

use http::HeaderName;

use super::{
    Algorithm, Keys, Pointer,
    binding::Bound,
    issuer::Issuer,
    memory::Memory,
    rules::{Audiences, Rules},
};
use crate::{
    authn::{Location, challenge::Challenges},
    gate::GateLayer,
    identity::AssertedHeaders,
    time::WallClock,
};

/// Verifies JSON Web Tokens (RFC 7519) signed in compact form (RFC 7515).
///
/// See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct Jwt {
    pub(super) first: Issuer,
    pub(super) others: Vec<Issuer>,
    pub(super) locations: Vec<Location>,
    pub(super) forwards: bool,
    pub(super) max_size: usize,
    pub(super) header_names: Vec<HeaderName>,
    pub(super) asserted: AssertedHeaders,
    pub(super) challenges: Challenges,
    pub(super) retry_after: Duration,
    pub(super) memory: Option<Memory>,
    pub(super) clock: WallClock,
}

impl Jwt {
    /// The largest token that is looked at, in bytes, unless told otherwise.
    pub const MAX_SIZE: usize = 16 * 1024;
    /// How far issuers' clocks may be from ours, unless told otherwise.
    pub const SKEW: Duration = Duration::from_secs(60);
    /// The bytes of verified tokens that are kept, unless told otherwise.
    pub const MEMORY: usize = 16 * 1024 * 1024;

    /// Verifies tokens with these keys, looked for in `Authorization: Bearer`.
    ///
    /// Without an [`issuer`](Self::issuer) tokens are taken whatever their `iss` says; set it. Without
    /// [`audiences`](Self::audiences) none is taken that was made for anybody in particular.
    pub fn new(keys: impl Into<Keys>) -> Self {
        let rules = Rules {
            provider: "jwt".into(),
            issuer: None,
            audiences: Audiences::These(Vec::new()),
            required: vec!["exp".into()],
            roles: Pointer::from("roles"),
            scopes: None,
            plan: None,
            skew: Self::SKEW,
        };
        Self {
            first: Issuer {
                keys: keys.into(),
                rules,
                algorithms: Algorithm::ALL.to_vec(),
                types: Vec::new(),
                bound: Bound::default(),
                claim_headers: Vec::new(),
            },
            others: Vec::new(),
            locations: vec![Location::bearer()],
            forwards: false,
            max_size: Self::MAX_SIZE,
            header_names: Vec::new(),
            asserted: AssertedHeaders::default(),
            challenges: Challenges::bearer("api"),
            retry_after: Duration::from_secs(5),
            memory: Some(Memory::new(Self::MEMORY)),
            clock: WallClock::default(),
        }
    }

    /// Takes tokens of these issuers, too, each by its own rules: its keys, audiences, algorithms, claims, skew, headers.
    /// Which one is meant is told by the token's `iss`: the first that takes it.
    ///
    /// What is not about tokens (locations, forwarding, sizes, realm, clock) is as this one says.
    pub fn also(mut self, other: Self) -> Self {
        self.header_names.extend(other.header_names);
        self.asserted = self.header_names.iter().cloned().collect();
        self.others.push(other.first);
        self.others.extend(other.others);
        self.with(|_| {})
    }

    /// Names the provider: the first part of its principals. `jwt` unless told otherwise.
    pub fn named(self, provider: &str) -> Self {
        self.with(|issuer| issuer.rules.provider = provider.into())
    }

    /// Takes only tokens whose `iss` is this, byte by byte. Tokens of others cost no signature.
    pub fn issuer(self, issuer: &str) -> Self {
        self.with(|own| own.rules.issuer = Some(issuer.into()))
    }

    /// Takes only tokens whose `aud` names one of these. Unless told, it takes only tokens without `aud`: one that names
    /// somebody was made for them (RFC 7519 section 4.1.3).
    pub fn audiences<T: Into<Box<str>>>(self, audiences: impl IntoIterator<Item = T>) -> Self {
        let audiences = audiences.into_iter().map(Into::into).collect();
        self.with(|issuer| issuer.rules.audiences = Audiences::These(audiences))
    }

    /// Takes tokens for whatever service they were made, by which each of these services can act here as its users.
    pub fn danger_any_audience(self) -> Self {
        self.with(|issuer| issuer.rules.audiences = Audiences::Any)
    }

    /// Takes only tokens signed with one of these algorithms, of those that the key allows. All unless told
    /// otherwise.
    pub fn algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.with(|issuer| issuer.algorithms = algorithms.into_iter().collect())
    }

    /// Takes only tokens with these claims, beside `exp`, which is always required unless
    /// [`danger_without_expiry`](Self::danger_without_expiry) is chosen.
    pub fn require<'n>(self, claims: impl IntoIterator<Item = &'n str>) -> Self {
        self.with(|issuer| claims.into_iter().for_each(|claim| issuer.rules.require(claim)))
    }

    /// Takes tokens that have no `exp` and therefore never end.
    pub fn danger_without_expiry(self) -> Self {
        self.with(|issuer| issuer.rules.required.retain(|claim| **claim != *"exp"))
    }

    /// Takes only tokens with one of these types in `typ`, in any case, with or without `application/`.
    ///
    /// Unless told otherwise a token has no `typ`, or `JWT` or `at+jwt`, so that a token of another kind (RFC 8725
    /// section 3.11) is not taken for an access token.
    pub fn types<T: Into<Box<str>>>(self, types: impl IntoIterator<Item = T>) -> Self {
        self.with(|issuer| issuer.types = types.into_iter().map(Into::into).collect())
    }

    /// Takes only access tokens as RFC 9068 has them: of the type `at+jwt` and with the claims of its section 2.2. An
    /// [issuer](Self::issuer) and [audiences](Self::audiences) belong to it.
    pub fn access_tokens(self) -> Self {
        self.types(["at+jwt"]).require(["iss", "aud", "sub", "client_id", "iat", "jti"])
    }

    /// How far the issuer's clock may be from ours; [`SKEW`](Self::SKEW) unless told otherwise.
    pub fn skew(self, skew: Duration) -> Self {
        self.with(|issuer| issuer.rules.skew = skew)
    }

    /// Where the roles are: a string or a list of strings. The claim `roles` unless told otherwise.
    pub fn roles_at(self, pointer: impl Into<Pointer>) -> Self {
        self.with(|issuer| issuer.rules.roles = pointer.into())
    }

    /// Where the caller's plan is: a string. No claim tells one unless told otherwise.
    pub fn plan_claim(self, pointer: impl Into<Pointer>) -> Self {
        self.with(|issuer| issuer.rules.plan = Some(pointer.into()))
    }

    /// Where the scopes are: a string of them, divided by spaces, or a list. `scope`, or else `scp`, unless told
    /// otherwise.
    pub fn scopes_at(self, pointer: impl Into<Pointer>) -> Self {
        self.with(|issuer| issuer.rules.scopes = Some(pointer.into()))
    }

    /// Takes only tokens that are bound to the client's certificate (RFC 8705). Unless told otherwise, tokens that are
    /// bound to none are taken, too.
    pub fn require_certificate(self) -> Self {
        self.with(|issuer| issuer.bound = Bound::Required)
    }

    /// Takes tokens that are bound in a way that cannot be checked here, by a key of the client's for example (RFC 9449):
    /// a stolen one is as good as any.
    pub fn danger_unknown_bindings(self) -> Self {
        self.with(|issuer| issuer.bound = Bound::UnknownToo)
    }

    /// Tells the upstream a claim in this header field.
    ///
    /// Strings of visible ASCII (with spaces inside), whole numbers and booleans are told; of anything else the field
    /// is left away. Nothing that a client sends under this name comes through.
    pub fn claim_header(mut self, name: HeaderName, claim: impl Into<Pointer>) -> Self {
        self.header_names.push(name.clone());
        self.asserted = self.header_names.iter().cloned().collect();
        self.with(|issuer| issuer.claim_headers.push((name, claim.into())))
    }

    /// Remembers verified tokens in at most so many bytes, and about as many tokens as there are kilobytes;
    /// [`MEMORY`](Self::MEMORY) unless told otherwise. With 0 every token's signature is verified each time.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = (bytes > 0).then(|| Memory::new(bytes));
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

    /// How many tokens are remembered.
    #[cfg(all(test, feature = "config"))]
    pub(crate) fn remembered(&self) -> usize {
        self.memory.as_ref().map_or(0, Memory::len)
    }

    /// What was verified under other rules is forgotten.
    fn with(mut self, change: impl FnOnce(&mut Issuer)) -> Self {
        change(&mut self.first);
        if let Some(memory) = &mut self.memory {
            memory.renew();
        }
        self
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("issuers", &self.issuers().collect::<Vec<_>>())
            .field("locations", &self.locations)
            .field("forwards", &self.forwards)
            .field("header_names", &self.header_names)
            .finish_non_exhaustive()
    }
}
