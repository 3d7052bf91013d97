use std::fmt;

use http::{HeaderName, HeaderValue};

use super::{ApiKeys, text};
use crate::{
    authn::{
        Authenticator, Credential, Location,
        authenticator::check_alone,
        challenge::Challenges,
        credential::{self, Fault},
    },
    gate::{Gate, GateLayer},
    head::Head,
    identity::AssertedHeaders,
    reject::{Answer, Rejection},
    time::WallClock,
};

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

    /// The clock by which keys end.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// As a layer.
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn refuse_fault(&self, fault: Fault) -> Rejection {
        self.challenges.invalid_request().detail(fault.to_string()).source(fault)
    }
}

impl Authenticator for ApiKey {
    fn authenticate(&self, head: &mut Head<'_>) -> Credential {
        match credential::find(head, &self.locations, text::MAX_KEY) {
            Ok(None) => Credential::Absent,
            Ok(Some(key)) => match self.keys.verify(&key, self.clock.now()) {
                Ok(principal) => Credential::Valid(principal),
                Err(why) => {
                    Credential::Invalid(self.challenges.invalid_token().detail(why.to_string()).source(why))
                }
            },
            Err(fault) => Credential::Invalid(self.refuse_fault(fault)),
        }
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
            .finish_non_exhaustive()
    }
}
