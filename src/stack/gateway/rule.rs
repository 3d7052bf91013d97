use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tower::util::Either;
use tower_layer::Layer;

use crate::{
    admission::{
        address::AddressList,
        authz::{Authorization, Authorize},
        concurrency::Concurrency,
        ext_authz::ExternalAuth,
        quota::{Quota, Quotas},
        rate_limit::{Charge, Fields},
        shed::{Priorities, Priority, Shed},
    },
    authn::{self, Location, Providers},
    body::TapLayer,
    chance::Chance,
    gate::{AsyncGate, AsyncGateLayer, AsyncGates, DynGate, Enforce, Gate},
    head::Head,
    identity::TrustedProxies,
    key::Key,
    matching::{HostPattern, PathPolicy, RequestMatch},
    reject::{Answer, Rejection, RescueLayer},
    resilience::timeout::TimeoutLayer,
    routing::{
        filter::{Cors, Csrf, ResponseHeaders},
        router, split,
    },
    telemetry::Witness,
};

use super::{
    backend::{Backend, Backends, Nowhere, RuleService},
    limits::Limits,
    snapshot::{Given, SnapshotError},
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
    pub(super) name: Arc<str>,
    hosts: Vec<HostPattern>,
    matches: Vec<RequestMatch>,
    pub(super) paths: PathPolicy,
    response_headers: Option<ResponseHeaders>,
    cors: Option<Cors>,
    csrf: Option<Csrf>,
    pub(super) addresses: Option<AddressList>,
    pub(super) limits: Limits,
    pub(super) quotas: Vec<Quota>,
    pub(super) providers: Option<Providers>,
    authorize: Option<Authorize>,
    pub(super) authorizers: Vec<Asked>,
    pub(super) authorization: Option<Authorization>,
    gates: AsyncGates,
    priority: Option<Priority>,
    pub(super) concurrency: Vec<Concurrency>,
    filters: AsyncGates,
    timeout: TimeoutLayer,
    attempt_timeout: TimeoutLayer,
    split_by: Option<Key>,
    variant_header: Option<HeaderName>,
    pub(super) backends: Vec<(Backend, u32)>,
}

impl Rule {
    /// A rule for every request, without policies and without upstreams.
    ///
    /// The name is what it is called in logs, metrics and keys, and the salt of its split.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            matches: Vec::new(),
            paths: PathPolicy::strict(),
            response_headers: None,
            cors: None,
            csrf: None,
            addresses: None,
            limits: Limits::default(),
            quotas: Vec::new(),
            providers: None,
            authorize: None,
            authorizers: Vec::new(),
            authorization: None,
            gates: AsyncGates::new(),
            priority: None,
            concurrency: Vec::new(),
            filters: AsyncGates::new(),
            timeout: TimeoutLayer::default().grpc_streams(true),
            attempt_timeout: TimeoutLayer::disabled(),
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

    /// Changes the headers of responses, of refusals by the rule too.
    pub fn response_headers(self, changes: ResponseHeaders) -> Self {
        Self { response_headers: Some(changes), ..self }
    }

    /// Lets pages of other origins in.
    pub fn cors(self, cors: Cors) -> Self {
        Self { cors: Some(cors), ..self }
    }

    /// Refuses what another site's page would change in a visitor's name.
    pub fn csrf(self, csrf: Csrf) -> Self {
        Self { csrf: Some(csrf), ..self }
    }

    /// Lets in, or keeps out, by the client's address, beside what the listener does.
    pub fn addresses(self, list: AddressList) -> Self {
        Self { addresses: Some(list), ..self }
    }

    /// Adds a quota. All quotas of a rule are one decision, inside of limits, authentication and authorization: what they
    /// refuse is not to be paid. [`limit_fields`](Self::limit_fields) are for them, too.
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// Adds a limit. All limits of a rule are one decision, at the latest position that any of them needs: inside of
    /// authentication if one counts by what is only known there.
    pub fn limit(mut self, limit: impl Into<Charge>) -> Self {
        self.limits.charges.push(limit.into());
        self
    }

    /// When responses tell of these limits, in `RateLimit` and `RateLimit-Policy`; on refusal unless told.
    pub fn limit_fields(mut self, fields: Fields) -> Self {
        self.limits.fields = fields;
        self
    }

    /// Whether the older `X-RateLimit-*` are told wherever those are. `false` unless told.
    pub fn legacy_limit_fields(mut self, legacy: bool) -> Self {
        self.limits.legacy = legacy;
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

    /// Has another server asked, inside of scopes and roles and outside of policies. Several are asked in their order.
    pub fn ask(mut self, authorizer: ExternalAuth) -> Self {
        self.authorizers.push(Asked { authorizer, in_shadow: false });
        self
    }

    /// As [`ask`](Self::ask); what the server says is counted and logged, and changes nothing.
    pub fn ask_in_shadow(mut self, authorizer: ExternalAuth) -> Self {
        self.authorizers.push(Asked { authorizer, in_shadow: true });
        self
    }

    /// Asks these policies.
    pub fn policies(self, authorization: Authorization) -> Self {
        Self { authorization: Some(authorization), ..self }
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

    /// As [`gate`](Self::gate), for one that may have to wait.
    pub fn async_gate(mut self, gate: impl AsyncGate) -> Self {
        self.gates = self.gates.with_async(gate);
        self
    }

    /// How important its requests are, unless their [header or plan](super::SnapshotBuilder::overload) says it.
    /// [`Priority::Normal`] unless told.
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// Lets no more requests be in flight than this, inside of all gates. Of several, the one named first is asked first.
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Adds a [filter](crate::routing::filter) of requests, inside of all gates and of earlier filters.
    pub fn filter(mut self, filter: impl Gate) -> Self {
        self.filters = self.filters.with(filter);
        self
    }

    /// How long the whole request may take. Unless told 15 s; streams, those of gRPC too, may last, and may be silent
    /// and grow old as [`timeout`](crate::resilience::timeout) says.
    pub fn timeout(self, timeout: TimeoutLayer) -> Self {
        Self { timeout, ..self }
    }

    /// How long each attempt may take. No limit of its own unless told.
    pub fn attempt_timeout(self, timeout: TimeoutLayer) -> Self {
        Self { attempt_timeout: timeout.per_attempt(), ..self }
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
    pub fn backend(mut self, backend: impl Into<Backend>, weight: u32) -> Self {
        self.backends.push((backend.into(), weight));
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

    /// The rule with its layers around its upstreams.
    pub(super) fn build(self, given: &Given) -> Result<router::Rule<RuleService>, SnapshotError> {
        let (hosts, matches, name) = (self.hosts.clone(), self.matches.clone(), Arc::clone(&self.name));
        let backends =
            self.backends(given).map_err(|error| SnapshotError::Split(Arc::clone(&name), error))?;
        let answers = RescueLayer::new().layer(self.timeout.layer(backends));
        let shows_bodies = self.authorizers.iter().any(|asked| asked.authorizer.wants_body());
        let tap = if shows_bodies { TapLayer::new() } else { TapLayer::disabled() };
        let service = tap.layer(AsyncGateLayer::new(self.gates(given)).layer(answers));
        let rule = hosts.into_iter().fold(router::Rule::new(name, service), router::Rule::host);
        Ok(matches.into_iter().fold(rule, router::Rule::when))
    }

    /// The gates of the rule, outermost first: this is the order of [`order`](crate::stack::order).
    fn gates(self, given: &Given) -> AsyncGates {
        let fields = self.limits.fields;
        let priorities = self.priorities(given);
        let (before, after) = match self.limits.need_identity() {
            true => (Limits::default(), self.limits),
            false => (self.limits, Limits::default()),
        };
        let own_paths = (self.paths != given.paths).then_some(OwnPaths(self.paths));
        let kept_back = authn::kept_back(&given.credentials, self.providers.as_ref());
        let discard = (!kept_back.is_empty()).then_some(Discard(kept_back));

        let mut gates = AsyncGates::new().with(Witness);
        gates = with(gates, own_paths);
        gates = with(gates, self.response_headers);
        gates = with(gates, self.cors);
        gates = with(gates, self.addresses);
        gates = with(gates, self.csrf);
        let late = priorities.need_identity() && self.providers.is_some();
        let shed =
            given.overload.as_ref().map(|(overload, _)| Shed::new(overload).priorities(priorities.clone()));
        let (early, late) = if late { (None, shed) } else { (shed, None) };
        gates = with(gates, early);
        gates = before.inside_of(gates);
        let needs_caller = self.backends.iter().any(|(backend, _)| backend.needs_caller());
        if let Some(providers) = self.providers {
            let providers = if needs_caller { providers.keep_token() } else { providers };
            gates = gates.with_async(providers).with(Witness);
        }
        gates = with(gates, late);
        gates = with(gates, self.authorize);
        for Asked { authorizer, in_shadow } in self.authorizers {
            let authorizer = authorizer.paths(self.paths);
            gates = match in_shadow {
                true => gates.with_async(Enforce::shadow(authorizer.name().to_owned(), authorizer)),
                false => gates.with_async(authorizer),
            };
        }
        gates = with(gates, self.authorization.map(|authorization| authorization.paths(self.paths)));
        gates = after.inside_of(gates);
        if !self.quotas.is_empty() {
            gates = gates.with_async(Quotas::from_iter(self.quotas).fields(fields));
        }
        gates = with(gates, discard);
        gates = with(
            gates,
            (given.caller_headers.names().next().is_some()).then(|| given.caller_headers.clone()),
        );
        gates = gates.with_all(self.gates);
        let of_backends = self.backends.iter().flat_map(|(backend, _)| &backend.guards.concurrency);
        if self.concurrency.iter().chain(of_backends).any(Concurrency::asks_priority) {
            gates = gates.with(priorities);
        }
        self.concurrency.into_iter().fold(gates, AsyncGates::with_async).with_all(self.filters)
    }

    /// What tells how important a request of this rule is. The listeners have removed what strangers said of it.
    fn priorities(&self, given: &Given) -> Priorities {
        let told = given.overload.as_ref().map(|(_, priorities)| priorities.clone()).unwrap_or_default();
        let told = self.priority.into_iter().fold(told, Priorities::base);
        told.believing(everybody())
    }

    fn backends(&self, given: &Given) -> Result<Backends, split::InvalidSplit> {
        if self.backends.is_empty() {
            return Ok(Either::Right(Nowhere));
        }
        let everybody = everybody();
        let mut split = split::Split::builder();
        for (backend, weight) in &self.backends {
            let proxy = &backend.proxy;
            let name: Arc<str> = proxy.upstream().name().into();
            // The listeners have removed what strangers said of how a request came: what is left is believed.
            let proxy = proxy.clone().trusted_proxies(everybody.clone()).asserted(given.asserted.clone());
            let sender = backend.guards.before(backend.sender(proxy));
            split = split.variant(name, *weight, self.attempt_timeout.layer(sender));
        }
        let mut policy = match &self.split_by {
            Some(key) => split::Policy::sticky(key.clone(), Arc::clone(&self.name)),
            None => split::Policy::random(Chance::new()),
        };
        if let Some(header) = &self.variant_header {
            policy = policy.tell_client(header.clone());
        }
        Ok(Either::Left(split.build()?.into_service(policy)))
    }
}

/// A server that is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) authorizer: ExternalAuth,
    in_shadow: bool,
}

fn everybody() -> TrustedProxies {
    TrustedProxies::new(EVERYBODY).unwrap_or_default()
}

/// All addresses.
const EVERYBODY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];

/// Refuses paths that only other rules take. By what was matched is served: it is not brought into another form.
#[derive(Debug)]
struct OwnPaths(PathPolicy);

impl Gate for OwnPaths {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        match head.uri().path() {
            "" | "*" => Ok(()),
            path => self.0.accept(path).map_err(|bad| Rejection::from(bad).into()),
        }
    }
}

/// Takes credentials out of a request, whoever asked for them, but those that this rule's providers let go on.
#[derive(Debug)]
struct Discard(Vec<Location>);

impl Gate for Discard {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        self.0.iter().for_each(|location| location.remove(head));
        Ok(())
    }
}

fn with(gates: AsyncGates, gate: Option<impl Gate>) -> AsyncGates {
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
