use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{
    IntrospectionBuilder,
    asking::Asking,
    counts::{IntrospectionHandle, count},
    verdict::Refusal,
};
use crate::{
    authn::{
        Authenticator, Credential, Inquiry, Location, Providers,
        challenge::Challenges,
        credential::{self, Fault},
        jwt::{Claims, TokenError, binding::Sender, claims::Json, memory::Verified, pointer, verify::tell},
        oauth::Endpoint,
    },
    gate::AsyncGateLayer,
    head::Head,
    reject::{Reason, Rejection},
};

/// Asks the provider about tokens (RFC 7662).
///
/// See the [module docs](super).
#[derive(Clone)]
pub struct Introspection(Arc<Inner>);

struct Inner {
    asking: Arc<Asking>,
    reading: Reading,
}

/// How tokens are found, and what is made of the answer.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) takes: Takes,
    pub(super) locations: Vec<Location>,
    pub(super) forwards: bool,
    pub(super) max_size: usize,
    pub(super) header_names: Vec<HeaderName>,
    pub(super) challenges: Challenges,
    pub(super) issuer: Option<Arc<str>>,
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
        IntrospectionBuilder::new(endpoint)
    }

    pub(super) fn of(asking: Arc<Asking>, reading: Reading) -> Self {
        Self(Arc::new(Inner { asking, reading }))
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
    fn heed(&self, verdict: Result<Verified, Refusal>, head: &mut Head<'_>) -> Credential {
        match verdict {
            Ok(Verified { principal, told }) => {
                tell(&told, head);
                head.extensions_mut().insert(Claims::of(&principal));
                Credential::Valid(principal)
            }
            Err(why) => Credential::Invalid(self.0.reading.reject(why)),
        }
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

    fn reject(&self, why: Refusal) -> Rejection {
        match why {
            Refusal::Token(why) => self.refuse(why),
            // Nobody can say that the credential is bad.
            Refusal::Unavailable(why) => why.reject(Reason::ProviderUnavailable),
            Refusal::TooMany => Rejection::new(Reason::RateLimited)
                .retry_after(Duration::from_secs(1))
                .detail("as many tokens of this address are asked about as may be at once"),
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
        let claims = Json::decode(self.payload).ok()?;
        pointer::text_at("iss", claims.as_slice()).map(std::borrow::Cow::into_owned)
    }
}

impl Authenticator for Introspection {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let (asking, reading) = (&self.0.asking, &self.0.reading);
        let now = head.now();
        let token = match credential::find(head, &reading.locations, reading.max_size) {
            Ok(Some(token)) if reading.takes(&token) => token,
            // It was shown, and nobody vouches for it: who shows a bad token is not served as one who shows none.
            Ok(Some(_)) => return Credential::Invalid(reading.refuse(TokenError::Issuer)),
            Ok(None) => return Credential::Absent,
            Err(fault) => return Credential::Invalid(reading.refuse_fault(fault)),
        };
        let print = Asking::print(&token);
        let (wall, sender) = (asking.clock.now(), Sender::of(head));
        let known = asking.recall(&print, now, |verdict| verdict.hold(&asking.expected, wall, sender));
        if let Some(known) = known {
            count(&asking.counts.hits);
            return self.heed(known, head);
        }
        let caller = asking.callers.caller(head);
        match asking.ask(print, &token, caller, now) {
            Err(why) => Credential::Invalid(reading.reject(why)),
            Ok(told) => {
                let this = self.clone();
                Credential::Asked(Inquiry::new(async move {
                    let verdict = told.await;
                    move |head: &mut Head<'_>| {
                        let Asking { expected, clock, .. } = &*this.0.asking;
                        let held = verdict.hold(expected, clock.now(), Sender::of(head));
                        this.heed(held, head)
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
