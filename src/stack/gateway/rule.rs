use std::{fmt, sync::Arc, time::Duration};

use http::HeaderName;

use crate::{
    admission::{
        authz::Authorize,
        rate_limit::{Charge, RateLimit},
    },
    authn::Providers,
    chance::Chance,
    gate::{DynGate, Gate, GateLayer, Gates},
    key::Key,
    matching::{HostPattern, Normalize, PathPolicy, RequestMatch},
    resilience::timeout::TimeoutLayer,
    routing::{filter::Cors, router, split},
    telemetry::Witness,
    upstream::Proxy,
};
use tower_layer::Layer;

use super::{
    backend::{Backend, Backends, Mark, RuleService},
    snapshot::SnapshotError,
};

/// What is done with some requests: which, under what policies, to which upstreams.
///
/// Its parts can be said in any order; they are always asked in the one of [`order`](crate::stack::order).
///
/// ```
/// use portcullis::{
///     admission::rate_limit::Limit, matching::RequestMatch, stack::gateway::Rule,
///     upstream::{Proxy, Upstream},
/// };
///
/// let orders = Proxy::new(Upstream::builder("orders").endpoint("127.0.0.1:9001").build()?);
/// let rule = Rule::new("orders")
///     .backend(orders, 1)
///     .limit(Limit::builder("per-address", "10/s".parse()?).build()?)
///     .when(RequestMatch::prefix("/api/orders")?);
/// # let _ = rule;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct Rule {
    name: Arc<str>,
    hosts: Vec<HostPattern>,
    matches: Vec<RequestMatch>,
    pub(super) paths: PathPolicy,
    cors: Option<Cors>,
    charges: Vec<Charge>,
    pub(super) providers: Option<Providers>,
    authorize: Option<Authorize>,
    gates: Gates,
    filters: Gates,
    timeout: Option<Duration>,
    attempt_timeout: Option<Duration>,
    split_by: Option<Key>,
    variant_header: Option<HeaderName>,
    pub(super) backends: Vec<(Proxy, u32)>,
}

impl Rule {
    /// How long a request may take unless told.
    pub const TIMEOUT: Duration = Duration::from_secs(15);

    /// A rule for every request, without policies and without upstreams.
    ///
    /// The name is what it is called in logs, metrics and keys, and the salt of its split.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            matches: Vec::new(),
            paths: PathPolicy::strict(),
            cors: None,
            charges: Vec::new(),
            providers: None,
            authorize: None,
            gates: Gates::new(),
            filters: Gates::new(),
            timeout: Some(Self::TIMEOUT),
            attempt_timeout: None,
            split_by: None,
            variant_header: None,
            backends: Vec::new(),
        }
    }

    /// For this host, too. Without any it is for every host.
    pub fn host(mut self, host: HostPattern) -> Self {
        self.hosts.push(host);
        self
    }

    /// For these requests, too. Without any it is for all.
    pub fn when(mut self, request: RequestMatch) -> Self {
        self.matches.push(request);
        self
    }

    /// Which unusual paths it takes. None unless told.
    pub fn paths(self, paths: PathPolicy) -> Self {
        Self { paths, ..self }
    }

    /// Lets pages of other origins in.
    pub fn cors(self, cors: Cors) -> Self {
        Self { cors: Some(cors), ..self }
    }

    /// Adds a limit. All limits of a rule are one decision, at the latest position that any of them needs: inside of
    /// authentication if one counts by what is only known there.
    pub fn limit(mut self, limit: impl Into<Charge>) -> Self {
        self.charges.push(limit.into());
        self
    }

    /// Asks who is calling. Without it the rule is public.
    pub fn authenticate(self, providers: Providers) -> Self {
        Self { providers: Some(providers), ..self }
    }

    /// Asks for scopes and roles.
    pub fn authorize(self, authorize: Authorize) -> Self {
        Self { authorize: Some(authorize), ..self }
    }

    /// Adds a gate of your own, inside of those above and of earlier ones.
    pub fn gate(self, gate: impl Gate) -> Self {
        self.shared_gate(Arc::new(gate))
    }

    /// Adds a gate that others use too.
    pub fn shared_gate(mut self, gate: Arc<dyn DynGate>) -> Self {
        self.gates = self.gates.with_shared(gate);
        self
    }

    /// Adds a [filter](crate::routing::filter), inside of all gates and of earlier filters.
    pub fn filter(mut self, filter: impl Gate) -> Self {
        self.filters = self.filters.with(filter);
        self
    }

    /// How long the whole request may take; `None` is without end. 15 s unless told.
    pub fn timeout(self, timeout: Option<Duration>) -> Self {
        Self { timeout, ..self }
    }

    /// How long each attempt may take. No limit of its own unless told.
    pub fn attempt_timeout(self, timeout: Option<Duration>) -> Self {
        Self { attempt_timeout: timeout, ..self }
    }

    /// Divides requests among several backends by this key, so that the same always goes to the same. At random
    /// unless told.
    pub fn split_by(self, key: Key) -> Self {
        Self { split_by: Some(key), ..self }
    }

    /// Names the backend that was chosen in this header of the response.
    pub fn variant_header(self, header: HeaderName) -> Self {
        Self { variant_header: Some(header), ..self }
    }

    /// Adds an upstream with its weight. The first is the base, as [`split`](crate::routing::split) says.
    pub fn backend(mut self, proxy: Proxy, weight: u32) -> Self {
        self.backends.push((proxy, weight));
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it asks nobody who they are.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.providers.is_none()
    }

    /// The rule with its layers around its upstreams. `paths` is what the listeners let through already.
    pub(super) fn build(self, paths: PathPolicy) -> Result<router::Rule<RuleService>, SnapshotError> {
        let (hosts, matches, name) = (self.hosts.clone(), self.matches.clone(), Arc::clone(&self.name));
        let service = self.service(paths)?;
        let rule = hosts.into_iter().fold(router::Rule::new(name, service), router::Rule::host);
        Ok(matches.into_iter().fold(rule, router::Rule::when))
    }

    fn service(self, paths: PathPolicy) -> Result<RuleService, SnapshotError> {
        let backends = self.backends()?;
        let timeout = self.timeout.map_or_else(TimeoutLayer::disabled, TimeoutLayer::new);
        Ok(GateLayer::new(self.policies(paths)).layer(timeout.layer(backends)))
    }

    /// The gates of the rule, outermost first: this is the order of [`order`](crate::stack::order).
    fn policies(self, paths: PathPolicy) -> Gates {
        let counts_identity = self.charges.iter().any(|charge| charge.limit().key().needs_identity());
        let limits = self.charges.into_iter().collect::<Option<RateLimit>>();
        let (before, after) = if counts_identity { (None, limits) } else { (limits, None) };
        let own_paths = (self.paths != paths).then(|| Normalize::new().paths(self.paths));
        let inner = [self.gates, self.filters];

        let mut gates = Gates::new().with(Witness);
        gates = with(gates, own_paths);
        gates = with(gates, self.cors);
        gates = with(gates, before);
        if let Some(providers) = self.providers {
            gates = gates.with(providers).with(Witness);
        }
        gates = with(gates, self.authorize);
        gates = with(gates, after);
        inner.into_iter().filter(|gates| !gates.is_empty()).fold(gates, Gates::with)
    }

    fn backends(&self) -> Result<Backends, SnapshotError> {
        let attempt = self.attempt_timeout.map_or_else(TimeoutLayer::disabled, TimeoutLayer::attempt);
        let mut split = split::Split::builder();
        for (proxy, weight) in &self.backends {
            let name: Arc<str> = proxy.upstream().name().into();
            let backend: Backend = Mark::layer(&name).layer(attempt.layer(proxy.clone()));
            split = split.variant(name, *weight, backend);
        }
        let mut policy = match &self.split_by {
            Some(key) => split::Policy::sticky(key.clone(), Arc::clone(&self.name)),
            None => split::Policy::random(Chance::new()),
        };
        if let Some(header) = &self.variant_header {
            policy = policy.tell_client(header.clone());
        }
        Ok(split.build()?.into_service(policy))
    }
}

fn with(gates: Gates, gate: Option<impl Gate>) -> Gates {
    match gate {
        Some(gate) => gates.with(gate),
        None => gates,
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name)
            .field("hosts", &self.hosts)
            .field("matches", &self.matches)
            .finish_non_exhaustive()
    }
}
