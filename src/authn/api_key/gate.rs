use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{ApiKeys, FailureLimit, text};
use crate::{
    authn::{
        Authenticator, Credential, Location, authenticator::check_alone, challenge::Challenges, credential,
    },
    gate::{Gate, GateLayer},
    head::Head,
    identity::AssertedHeaders,
    reject::{Answer, Reason, Rejection},
    time::WallClock,
};

/// What `Retry-After` says as long as no keys are known.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Verifies API keys.
///
/// See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct ApiKey {
    keys: ApiKeys,
    locations: Vec<Location>,
    forwards: bool,
    challenges: Challenges,
    failures: Option<Arc<FailureLimit>>,
    clock: WallClock,
}

impl ApiKey {
    /// Verifies keys of this table, looked for in `X-API-Key`.
    pub fn new(keys: impl Into<ApiKeys>) -> Self {
        Self {
            keys: keys.into(),
            locations: vec![Location::header(HeaderName::from_static("x-api-key"))],
            forwards: false,
            challenges: Challenges::api_key("api"),
            failures: Some(Arc::default()),
            clock: WallClock::default(),
        }
    }

    /// Where keys are looked for, instead of `X-API-Key`. A request with two of them is refused.
    pub fn locations(mut self, locations: impl IntoIterator<Item = Location>) -> Self {
        self.locations = locations.into_iter().collect();
        self
    }

    /// Lets the key go on to the upstream. It is removed unless told otherwise.
    pub fn forward(mut self) -> Self {
        self.forwards = true;
        self
    }

    /// The realm in challenges (RFC 9110 section 11.5); `api` unless told otherwise.
    pub fn realm(mut self, realm: &str) -> Self {
        self.challenges = Challenges::api_key(realm);
        self
    }

    /// How many failures an address may have before it is answered 429; 20 at once and 20 a minute unless told. Gates
    /// that are given the same limit count together. `None` counts nothing.
    pub fn failure_limit(mut self, limit: impl Into<Option<Arc<FailureLimit>>>) -> Self {
        self.failures = limit.into();
        self
    }

    /// The clock by which keys end.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn refuse(&self, head: &mut Head<'_>, refusal: Rejection) -> Credential {
        let counted = self.failures.as_ref().map_or(Ok(()), |limit| limit.count(head));
        Credential::Invalid(match counted {
            Ok(()) => refusal,
            Err(wait) => Rejection::new(Reason::RateLimited)
                .retry_after(wait)
                .detail("too many invalid API keys from this address")
                .source(refusal),
        })
    }
}

impl Authenticator for ApiKey {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        let refusal = match credential::find(head, &self.locations, text::MAX_KEY) {
            Ok(None) => return Credential::Absent,
            Ok(Some(key)) => match self.keys.verify(&key, self.clock.now()) {
                Some(Ok(principal)) => return Credential::Valid(principal),
                Some(Err(why)) => self.challenges.invalid_token().detail(why.to_string()).source(why),
                None => {
                    let unknown = Rejection::new(Reason::KeysUnavailable).retry_after(RETRY_AFTER);
                    return Credential::Invalid(unknown.detail("the API keys are not known yet"));
                }
            },
            Err(fault) => self.challenges.invalid_request().detail(fault.to_string()).source(fault),
        };
        self.refuse(head, refusal)
    }

    fn locations(&self) -> &[Location] {
        &self.locations
    }

    fn forwards(&self) -> bool {
        self.forwards
    }

    fn challenge(&self) -> Option<HeaderValue> {
        Some(self.challenges.plain())
    }
}

impl Gate for ApiKey {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        check_alone(self, &AssertedHeaders::default(), head)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("keys", &self.keys)
            .field("locations", &self.locations)
            .field("forwards", &self.forwards)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}
