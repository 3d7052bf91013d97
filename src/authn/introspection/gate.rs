use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{
    asking::{Asking, Sizes, Times},
    counts::{IntrospectionHandle, count},
    verdict::Expected,
};
use crate::{
    authn::{
        Authenticator, Credential, Inquiry, Location, Providers,
        challenge::Challenges,
        credential::{self, Fault},
        jwt::{
            Claims, Jwt, Pointer, TokenError,
            binding::{Bound, Sender},
            memory::Verified,
            pointer,
            rules::{Audiences, Rules},
            verify::tell,
        },
        oauth::{Endpoint, Unavailable},
    },
    gate::AsyncGateLayer,
    head::Head,
    reject::{Reason, Rejection},
    time::WallClock,
};

/// Asks the provider about tokens (RFC 7662).
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Introspection(Arc<Inner>);

/// Gathers what an [`Introspection`] asks and expects.
#[derive(Clone)]
#[must_use]
pub struct IntrospectionBuilder {
    endpoint: Endpoint,
    expected: Expected,
    reading: Reading,
    clock: WallClock,
    times: Times,
    sizes: Sizes,
}

struct Inner {
    asking: Arc<Asking>,
    reading: Reading,
}

/// How tokens are found, and what is made of the answer.
#[derive(Clone)]
struct Reading {
    takes: Takes,
    locations: Vec<Location>,
    forwards: bool,
    max_size: usize,
    header_names: Vec<HeaderName>,
    challenges: Challenges,
    issuer: Option<Arc<str>>,
}

/// Which tokens a provider is asked about, by their shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Takes {
    /// Those that are no JSON Web Tokens: not three parts of base64url. They can be verified here, by
    /// [`Jwt`](crate::authn::jwt::Jwt).
    #[default]
    Opaque,
    /// All. Of JSON Web Tokens only those that say they are of the [issuer](IntrospectionBuilder::issuer), if one is
    /// set: what another made is not shown to this one.
    All,
}

impl Introspection {
    /// The largest token that is asked about, in bytes, unless told otherwise.
    pub const MAX_SIZE: usize = 4 * 1024;
    /// How long a good token is remembered at most, and at most for as long as it lives.
    pub const REMEMBERED: Duration = Duration::from_secs(60);
    /// How long a bad token is remembered, unless told otherwise.
    pub const REFUSED: Duration = Duration::from_secs(10);

    /// Asks this endpoint.
    ///
    /// Without an [`issuer`](IntrospectionBuilder::issuer) tokens are taken whatever the answer says in `iss`. Without
    /// [`audiences`](IntrospectionBuilder::audiences) none is taken that was made for anybody in particular.
    pub fn builder(endpoint: Endpoint) -> IntrospectionBuilder {
        IntrospectionBuilder {
            endpoint,
            expected: Expected {
                rules: Rules {
                    provider: "introspection".into(),
                    issuer: None,
                    audiences: Audiences::These(Vec::new()),
                    required: Vec::new(),
                    roles: Pointer::from("roles"),
                    scopes: None,
                    skew: Duration::MAX,
                },
                claim_headers: Vec::new(),
                bound: Bound::default(),
                skew: Jwt::SKEW,
            },
            reading: Reading {
                takes: Takes::Opaque,
                locations: vec![Location::bearer()],
                forwards: false,
                max_size: Self::MAX_SIZE,
                header_names: Vec::new(),
                challenges: Challenges::bearer("api"),
                issuer: None,
            },
            clock: WallClock::default(),
            times: Times { good: Self::REMEMBERED, bad: Self::REFUSED },
            sizes: Sizes { entries: 10_000, bytes: 32 << 20, calls: 256 },
        }
    }

    /// As a layer of its own. [`Providers`] makes one of several.
    #[must_use]
    pub fn layer(self) -> AsyncGateLayer<Providers> {
        Providers::new().with(self).layer()
    }

    /// What it has done.
    #[must_use]
    pub fn handle(&self) -> IntrospectionHandle {
        IntrospectionHandle(Arc::clone(&self.0.asking.counts))
    }

    /// What is made of a verdict.
    fn heed(&self, verdict: Result<Verified, TokenError>, head: &mut Head<'_>) -> Credential {
        match verdict {
            Ok(Verified { principal, claims, told }) => {
                tell(&told, head);
                head.extensions_mut().insert(claims);
                Credential::Valid(principal)
            }
            Err(why) => Credential::Invalid(self.0.reading.refuse(why)),
        }
    }

    /// What is made of no verdict: nobody can say that the credential is bad.
    fn unable(why: Unavailable) -> Credential {
        Credential::Invalid(why.reject(Reason::ProviderUnavailable))
    }
}

impl Reading {
    fn takes(&self, token: &str) -> bool {
        match (self.takes, JwtShape::of(token)) {
            (_, None) => true,
            (Takes::Opaque, Some(_)) => false,
            (Takes::All, Some(jwt)) => match &self.issuer {
                Some(issuer) => jwt.issuer().is_some_and(|said| *said == **issuer),
                None => true,
            },
        }
    }

    fn refuse(&self, why: TokenError) -> Rejection {
        self.challenges.invalid_token().detail(why.to_string()).source(why)
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

/// A token that looks like a JSON Web Token: three parts of base64url.
struct JwtShape<'t> {
    payload: &'t str,
}

impl<'t> JwtShape<'t> {
    fn of(token: &'t str) -> Option<Self> {
        let mut parts = token.split('.');
        let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let base64 = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let is_jwt = parts.next().is_none() && [header, payload, signature].into_iter().all(base64);
        is_jwt.then_some(Self { payload })
    }

    /// Who made it, as it says itself.
    fn issuer(&self) -> Option<String> {
        let claims = Claims::unverified(self.payload).ok()?;
        pointer::text_at("iss", claims.as_json()).map(std::borrow::Cow::into_owned)
    }
}

impl Authenticator for Introspection {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let (asking, reading) = (&self.0.asking, &self.0.reading);
        let now = head.now();
        let token = match credential::find(head, &reading.locations, reading.max_size) {
            Ok(Some(token)) if reading.takes(&token) => token,
            Ok(_) => return Credential::Absent,
            Err(fault) => return Credential::Invalid(reading.refuse_fault(fault)),
        };
        let print = Asking::print(&token);
        let (wall, sender) = (asking.clock.now(), Sender::of(head));
        let known = asking.recall(&print, now, |verdict| verdict.hold(&asking.expected, wall, sender));
        if let Some(known) = known {
            count(&asking.counts.hits);
            return self.heed(known, head);
        }
        match asking.ask(print, &token, now) {
            Err(why) => Self::unable(why),
            Ok(told) => {
                let this = self.clone();
                Credential::Asked(Inquiry::new(async move {
                    let told = told.await;
                    move |head: &mut Head<'_>| match told {
                        Ok(verdict) => {
                            let Asking { expected, clock, .. } = &*this.0.asking;
                            let verdict = verdict.hold(expected, clock.now(), Sender::of(head));
                            this.heed(verdict, head)
                        }
                        Err(why) => Self::unable(why),
                    }
                }))
            }
        }
    }

    fn locations(&self) -> &[Location] {
        &self.0.reading.locations
    }

    fn forwards(&self) -> bool {
        self.0.reading.forwards
    }

    fn token_locations(&self) -> &[Location] {
        &self.0.reading.locations
    }

    fn asserted_headers(&self) -> &[HeaderName] {
        &self.0.reading.header_names
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.0.reading.challenges.plain())
    }
}

impl IntrospectionBuilder {
    /// Names the provider: the first part of its principals. `introspection` unless told otherwise.
    pub fn named(mut self, provider: &str) -> Self {
        self.expected.rules.provider = provider.into();
        self
    }

    /// Takes only tokens of which the answer says this `iss`, byte by byte.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.expected.rules.issuer = Some(issuer.into());
        self.reading.issuer = Some(issuer.into());
        self
    }

    /// Takes only tokens of which the answer has an `aud` that names one of these.
    pub fn audiences<T: Into<Box<str>>>(mut self, audiences: impl IntoIterator<Item = T>) -> Self {
        self.expected.rules.audiences = Audiences::These(audiences.into_iter().map(Into::into).collect());
        self
    }

    /// Takes tokens whomever they were made for, and so whatever another service that is given one of them does with it.
    pub fn danger_any_audience(mut self) -> Self {
        self.expected.rules.audiences = Audiences::Any;
        self
    }

    /// Takes only tokens that are bound to the certificate of the peer (RFC 8705 section 3.2). Those that are bound to it
    /// are not taken from another, told or not.
    pub fn require_certificate(mut self) -> Self {
        self.expected.bound = Bound::Required;
        self
    }

    /// Takes only tokens of which the answer has these members: at most 64 names count.
    pub fn require<'n>(mut self, claims: impl IntoIterator<Item = &'n str>) -> Self {
        claims.into_iter().for_each(|claim| self.expected.rules.require(claim));
        self
    }

    /// Which tokens are asked about, by their shape. Those that are no JSON Web Tokens unless told otherwise.
    pub fn takes(mut self, takes: Takes) -> Self {
        self.reading.takes = takes;
        self
    }

    /// How far the provider's clock may be from ours; [`Jwt::SKEW`] unless told otherwise.
    pub fn skew(mut self, skew: Duration) -> Self {
        self.expected.skew = skew;
        self
    }

    /// Where the roles are: a string or a list of strings. The member `roles` unless told otherwise.
    pub fn roles_at(mut self, pointer: impl Into<Pointer>) -> Self {
        self.expected.rules.roles = pointer.into();
        self
    }

    /// Where the scopes are, instead of `scope` or `scp`: words with spaces between them, or a list.
    pub fn scopes_at(mut self, pointer: impl Into<Pointer>) -> Self {
        self.expected.rules.scopes = Some(pointer.into());
        self
    }

    /// Where tokens are looked for, instead of `Authorization: Bearer`. A request with two of them is refused.
    pub fn locations(mut self, locations: impl IntoIterator<Item = Location>) -> Self {
        self.reading.locations = locations.into_iter().collect();
        self
    }

    /// Lets the token go on to the upstream. It is removed unless told otherwise.
    pub fn forward(mut self) -> Self {
        self.reading.forwards = true;
        self
    }

    /// The largest token that is asked about, in bytes; [`Introspection::MAX_SIZE`] unless told otherwise.
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.reading.max_size = bytes;
        self
    }

    /// Tells the upstream a member of the answer in this header field, as
    /// [`Jwt::claim_header`](crate::authn::jwt::Jwt::claim_header) does.
    pub fn claim_header(mut self, name: HeaderName, claim: impl Into<Pointer>) -> Self {
        self.reading.header_names.push(name.clone());
        self.expected.claim_headers.push((name, claim.into()));
        self
    }

    /// The realm in challenges (RFC 9110 section 11.5); `api` unless told otherwise.
    pub fn realm(mut self, realm: &str) -> Self {
        self.reading.challenges = Challenges::bearer(realm);
        self
    }

    /// How long a good token is remembered: what was revoked is let in for so long. At most
    /// [`Introspection::REMEMBERED`], and never longer than it lives.
    pub fn remember(mut self, good: Duration) -> Self {
        self.times.good = good.min(Introspection::REMEMBERED);
        self
    }

    /// How long a bad token is remembered; [`Introspection::REFUSED`] unless told otherwise, and at most
    /// [`Introspection::REMEMBERED`].
    pub fn remember_refused(mut self, bad: Duration) -> Self {
        self.times.bad = bad.min(Introspection::REMEMBERED);
        self
    }

    /// How many good tokens are remembered, and how many bad ones, and how many bytes each may take; 10,000 and 32 MiB
    /// unless told otherwise.
    pub fn room(mut self, entries: usize, bytes: usize) -> Self {
        (self.sizes.entries, self.sizes.bytes) = (entries, bytes);
        self
    }

    /// How many different tokens are asked about at once; 256 unless told otherwise. One more is answered with 503.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.sizes.calls = calls;
        self
    }

    /// The clock for `exp` and `nbf`.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// All of it.
    #[must_use]
    pub fn build(self) -> Introspection {
        let Self { endpoint, expected, reading, clock, times, sizes } = self;
        let asking = Arc::new(Asking::new(endpoint, expected, clock, times, sizes));
        Introspection(Arc::new(Inner { asking, reading }))
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { asking, reading } = &*self.0;
        f.debug_struct("Introspection")
            .field("endpoint", &asking.endpoint)
            .field("expected", &asking.expected)
            .field("locations", &reading.locations)
            .field("forwards", &reading.forwards)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IntrospectionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntrospectionBuilder")
            .field("endpoint", &self.endpoint)
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}
