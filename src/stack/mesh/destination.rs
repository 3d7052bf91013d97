use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use tower_layer::Layer;

use super::{
    client::InvalidClient,
    layer::{Calls, ClientLayer, Sender, Tried},
};
#[cfg(all(feature = "config", feature = "prometheus"))]
use crate::telemetry::metrics::Metrics;
use crate::{
    chance::Chance,
    gate::{GateLayer, Gated},
    key::{Key, RouteName},
    reject::{Rescue, RescueLayer},
    resilience::{retry::Policy, timeout::TimeoutLayer},
    routing::{
        canary::{Canary, Watch},
        mirror::{self, Mirror, MirrorLayer},
        split::{self, Split, SplitService},
    },
    stack::{
        gateway::{Backend, Guarded, Rule, Steer},
        sessions::Pin,
    },
    upstream::{Proxy, Session, Upstream},
};

/// What a [`Client`](super::Client) calls under a name: an upstream, or several versions of it by weight, and by which
/// policies.
///
/// ```
/// use portcullis::{
///     resilience::retry::Policy,
///     stack::mesh::{Client, ClientLayer, Destination},
///     upstream::Upstream,
/// };
/// use std::time::Duration;
///
/// let upstream = |name: &str, endpoint: &str| Upstream::builder(name).endpoint(endpoint).build();
/// let quick = ClientLayer::new().timeout(Duration::from_secs(2)).attempt_timeout(Duration::from_millis(500));
/// let orders = Destination::new(upstream("orders", "10.0.0.1:9000")?).policies(quick.retry(Policy::new(3)));
/// let catalogue = Destination::split("catalogue")
///     .backend(upstream("catalogue-v1", "10.0.0.2:9000")?, 95)
///     .backend(upstream("catalogue-v2", "10.0.0.3:9000")?, 5);
/// let client = Client::of([orders, catalogue])?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Destination {
    pub(super) name: Arc<str>,
    policies: ClientLayer,
    backends: Vec<(Backend, u32)>,
    split_by: Option<Key>,
    variant_header: Option<HeaderName>,
    session: Option<Session>,
    mirrors: Vec<(Backend, mirror::Policy)>,
    canary: Option<Canary>,
    steer: Option<Steer>,
}

/// All that stands between a caller and the connections.
pub(super) type Service = Rescue<Calls<Gated<Mirror<SplitService<Version>, Sending>, Pin>>>;
/// One of the upstreams. Watched by the canary if there is one.
type Version = Gated<Tried<Sending>, Watch>;
/// What sends to one upstream.
type Sending = Sender<Guarded>;

/// A destination, ready to be called.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) name: RouteName,
    /// What a request is sent that names no host; nothing if the name is none.
    pub(super) host: Option<HeaderValue>,
    /// Whatever it is sent goes within TLS, copies too.
    pub(super) is_secure: bool,
    pub(super) service: Service,
}

impl Destination {
    /// This upstream, called by its own name.
    pub fn new(backend: impl Into<Backend>) -> Self {
        let backend = backend.into();
        Self::split(backend.upstream().name()).backend(backend, 1)
    }

    /// This name, for the [backends](Self::backend) that it is divided among. The name is the salt of the split.
    pub fn split(name: impl Into<Arc<str>>) -> Self {
        let lasts = TimeoutLayer::default().grpc_streams(true);
        let policies = ClientLayer::new().timeout(lasts).retry(Policy::default());
        Self {
            name: name.into(),
            policies,
            backends: Vec::new(),
            split_by: None,
            variant_header: None,
            session: None,
            mirrors: Vec::new(),
            canary: None,
            steer: None,
        }
    }

    /// What a gateway's rule says of calls. Without a word of its own on retries they are tried again as by default, unless
    /// one of its upstreams allows none.
    #[cfg(feature = "config")]
    pub(crate) fn of_rule(rule: Rule) -> Self {
        let Rule {
            name, calling, split_by, variant_header, backends, session, mirrors, canary, steer, ..
        } = rule.retry_as_a_call();
        Self {
            name,
            policies: ClientLayer::of(calling),
            backends,
            split_by,
            variant_header,
            session,
            mirrors,
            canary,
            steer,
        }
    }

    /// Adds an upstream with its weight. The first is the base, as [`split`](crate::routing::split) says.
    pub fn backend(mut self, backend: impl Into<Backend>, weight: u32) -> Self {
        self.backends.push((backend.into(), weight));
        self
    }

    /// Divides calls by this key, so that the same always goes to the same version. At random unless told.
    pub fn split_by(self, key: Key) -> Self {
        Self { split_by: Some(key), ..self }
    }

    /// Names the version that was chosen in this header of the response.
    pub fn variant_header(self, header: HeaderName) -> Self {
        Self { variant_header: Some(header), ..self }
    }

    /// Keeps calls of one session at one endpoint: what an answer tells in a [header](Session::header) is to be sent with the
    /// next call. This client keeps nothing itself; a cookie is for who hands on the requests and answers of browsers.
    pub fn session(self, session: Session) -> Self {
        Self { session: Some(session), ..self }
    }

    /// Sends copies of calls to this upstream, too, for which nobody waits.
    pub fn mirror(mut self, backend: impl Into<Backend>, policy: mirror::Policy) -> Self {
        self.mirrors.push((backend.into(), policy));
        self
    }

    /// Moves calls from the first of two upstreams to the second as `canary` has it; their weights mean nothing then.
    pub fn canary(self, canary: Canary) -> Self {
        Self { canary: Some(canary), ..self }
    }

    /// How it is called. Unless told a call may take 15 s, gRPC calls to their head, and is tried twice more by the default
    /// [`Policy`]: if nobody has looked at it, or it may be done twice.
    pub fn policies(self, policies: ClientLayer) -> Self {
        Self { policies, ..self }
    }

    /// Counts its calls there.
    #[cfg(all(feature = "config", feature = "prometheus"))]
    pub(crate) fn counted(self, metrics: &Metrics) -> Self {
        Self { policies: self.policies.metrics(metrics), ..self }
    }

    /// The rule of a gateway of which the same is told.
    pub(super) fn as_rule(&self) -> Rule {
        let mut rule = Rule::new(Arc::clone(&self.name));
        rule.calling = self.policies.calling.clone();
        rule.backends.clone_from(&self.backends);
        rule.mirrors.clone_from(&self.mirrors);
        (rule.canary, rule.steer) = (self.canary.clone(), self.steer);
        self.policies.concurrency.iter().cloned().fold(rule, Rule::concurrency)
    }

    pub(super) fn build(self) -> Result<Called, InvalidClient> {
        let Self { name, policies, backends, split_by, variant_header, session, mirrors, canary, steer: _ } =
            self;
        let budgets = backends.iter().map(|(backend, _)| backend.budget());
        let checked = policies.calling.check(budgets);
        checked.map_err(|error| InvalidClient::Contradiction(Arc::clone(&name), error))?;
        policies.calling.warn_of_hedge(Some(&name));
        let mut sent_to =
            backends.iter().map(|(backend, _)| backend).chain(mirrors.iter().map(|(backend, _)| backend));
        let is_secure = sent_to.all(|backend| backend.upstream().is_secure());
        let sending = |backend: &Backend, session: Option<&Session>| {
            let calling = &policies.calling;
            let attempted = policies.attempted(backend.upstream().name());
            policies.sender(backend.direct(calling.told(), attempted, session, calling.own_budget()))
        };
        let mirror = mirrors.iter().fold(MirrorLayer::disabled(), |layer, (backend, policy)| {
            layer.and(policies.calling.mirrors(policy), sending(backend, None))
        });
        let mut versions = Split::builder();
        for (backend, weight) in &backends {
            let attempts = policies.attempts(backend.budget(), sending(backend, session.as_ref()));
            versions = versions.variant(backend.upstream().variant(), *weight, attempts);
        }
        let by = match split_by {
            Some(key) => split::Policy::sticky(key, Arc::clone(&name)),
            None => split::Policy::random(Chance::new()),
        };
        let by = variant_header.into_iter().fold(by, split::Policy::tell_client);
        let versions = versions.build().and_then(|versions| match &canary {
            Some(canary) => canary.over(&versions),
            None => Ok(versions.map(|attempts| GateLayer::disabled().layer(attempts.clone()))),
        });
        let versions = versions.map_err(|error| InvalidClient::Split(Arc::clone(&name), error))?;
        let among = session.as_ref().filter(|_| canary.is_none());
        let pin = Pin::among(among, backends.iter().map(|(backend, _)| backend.upstream()));
        let pin = pin.map_or_else(GateLayer::disabled, GateLayer::new);
        let versions = pin.layer(mirror.layer(versions.into_service(by)));
        Ok(Called {
            host: HeaderValue::from_str(&name).ok(),
            is_secure,
            service: RescueLayer::new().layer(policies.calls(versions)),
            name: RouteName(name),
        })
    }
}

impl From<Backend> for Destination {
    fn from(backend: Backend) -> Self {
        Self::new(backend)
    }
}

impl From<Proxy> for Destination {
    fn from(proxy: Proxy) -> Self {
        Self::new(proxy)
    }
}

impl From<Upstream> for Destination {
    fn from(upstream: Upstream) -> Self {
        Self::new(upstream)
    }
}
