use std::{fmt, sync::Arc, time::Duration};

use http::HeaderName;

use super::{
    Introspection, Takes,
    asking::{Asking, Sizes, Times},
    gate::Reading,
    verdict::Expected,
};
use crate::{
    authn::{
        Location,
        challenge::Challenges,
        jwt::{
            Jwt, Pointer,
            binding::Bound,
            rules::{Audiences, Rules},
        },
        oauth::Endpoint,
    },
    time::WallClock,
};

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

impl IntrospectionBuilder {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            expected: Expected {
                rules: Rules {
                    provider: "introspection".into(),
                    issuer: None,
                    audiences: Audiences::These(Vec::new()),
                    required: Vec::new(),
                    roles: Pointer::from("roles"),
                    scopes: None,
                    plan: None,
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
                max_size: Introspection::MAX_SIZE,
                header_names: Vec::new(),
                challenges: Challenges::bearer("api"),
                issuer: None,
            },
            clock: WallClock::default(),
            times: Times { good: Introspection::REMEMBERED, bad: Introspection::REFUSED },
            sizes: Sizes { entries: 10_000, bytes: 32 << 20, calls: 256, calls_each: 32 },
        }
    }

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

    /// Takes only tokens of which the answer has all these members.
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

    /// Where the caller's plan is: a string. No member tells one unless told otherwise.
    pub fn plan_claim(mut self, pointer: impl Into<Pointer>) -> Self {
        self.expected.rules.plan = Some(pointer.into());
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

    /// How many good tokens are remembered, and how many bad ones; 10,000 each unless told otherwise.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.sizes.entries = entries;
        self
    }

    /// How many bytes what is remembered of the good ones may take, and of the bad ones; 32 MiB each unless told
    /// otherwise.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.sizes.bytes = bytes;
        self
    }

    /// How many different tokens are asked about at once; 256 unless told otherwise. One more is answered with 503.
    pub fn max_calls(mut self, calls: usize) -> Self {
        self.sizes.calls = calls;
        self
    }

    /// How many different tokens of one address (IPv6: a /64) are asked about at once; 32 unless told otherwise. One more
    /// is answered with 429. Where proxies stand before this, they must be
    /// [trusted](crate::identity::TrustedProxies), or all have one address.
    pub fn max_calls_each(mut self, calls: u32) -> Self {
        self.sizes.calls_each = calls;
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
        Introspection::of(asking, reading)
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
