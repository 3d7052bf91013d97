use std::{any::Any, fmt, sync::Arc};

use http::HeaderName;

use super::{backend::Backend, canaries::Steer, direction::Direction, limits::Limits};
use crate::{
    admission::{
        Fields, Priority,
        address::AddressList,
        authz::{Authorization, Authorize},
        concurrency::Concurrency,
        ext_authz::ExternalAuth,
        quota::Quota,
        rate_limit::Charge,
    },
    authn::Providers,
    gate::{AsyncGate, AsyncGates, DynGate, Gate},
    key::Key,
    matching::{HostPattern, PathPolicy, RequestMatch},
    resilience::{breaker::BreakerLayer, fallback, timeout::TimeoutLayer},
    routing::{
        canary::Canary,
        filter::{Cors, Csrf, Redirect, ResponseHeaders},
        mirror,
    },
    stack::calling::{Calling, calling_setters},
    upstream::Session,
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
    pub(in crate::stack) name: Arc<str>,
    pub(super) direction: Direction,
    pub(super) hosts: Vec<HostPattern>,
    pub(super) matches: Vec<RequestMatch>,
    pub(super) paths: PathPolicy,
    pub(super) response_headers: Option<ResponseHeaders>,
    pub(super) cors: Option<Cors>,
    pub(super) csrf: Option<Csrf>,
    pub(super) addresses: Option<AddressList>,
    pub(super) limits: Limits,
    pub(super) quotas: Vec<Quota>,
    pub(super) providers: Option<Providers>,
    pub(super) authorize: Option<Authorize>,
    pub(super) authorizers: Vec<Asked>,
    pub(super) authorization: Option<Authorization>,
    pub(super) gates: AsyncGates,
    pub(super) priority: Option<Priority>,
    pub(super) fallback: Option<Fallback>,
    pub(super) breaker: Option<BreakerLayer>,
    pub(super) concurrency: Vec<Concurrency>,
    pub(super) filters: AsyncGates,
    /// Whether its redirects, if it has any, stay at the host and in its secrecy.
    stays: Option<bool>,
    pub(in crate::stack) calling: Calling,
    pub(in crate::stack) split_by: Option<Key>,
    pub(in crate::stack) variant_header: Option<HeaderName>,
    pub(in crate::stack) backends: Vec<(Backend, u32)>,
    pub(in crate::stack) mirrors: Vec<(Backend, mirror::Policy)>,
    pub(in crate::stack) canary: Option<Canary>,
    pub(in crate::stack) steer: Option<Steer>,
    pub(in crate::stack) session: Option<Session>,
}

impl Rule {
    /// A rule for every request, without policies and without upstreams. Requests may take 15 s; streams, those of gRPC too,
    /// may last, and may be silent and grow old as [`timeout`](crate::resilience::timeout) says.
    ///
    /// The name is what it is called in logs, metrics and keys, and the salt of its split.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            direction: Direction::default(),
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
            fallback: None,
            breaker: None,
            concurrency: Vec::new(),
            filters: AsyncGates::new(),
            stays: None,
            calling: Calling::within(TimeoutLayer::default().grpc_streams(true)),
            split_by: None,
            variant_header: None,
            backends: Vec::new(),
            mirrors: Vec::new(),
            canary: None,
            steer: None,
            session: None,
        }
    }

    /// For requests that go this way. [`Direction::Through`] unless told.
    pub fn direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Tries again as a mesh client does unless told, where the budgets of all its upstreams allow that.
    #[cfg(feature = "config")]
    pub(crate) fn retry_as_a_call(mut self) -> Self {
        let bears = |(backend, _): &(Backend, u32)| {
            !backend.budget().is_some_and(crate::resilience::budget::Budget::is_zero)
        };
        self.calling.retry = self
            .calling
            .retry
            .or_else(|| self.backends.iter().all(bears).then(crate::resilience::retry::Policy::default));
        self
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

    /// Gives something else in the place of what fails inside of all gates, an open breaker's refusal too. Who was refused by
    /// a gate is given nothing else.
    pub fn fallback(self, policy: fallback::Policy) -> Self {
        Self { fallback: Some(Fallback { policy, backend: None }), ..self }
    }

    /// As [`fallback`](Self::fallback): this upstream is asked in the [`cases`](fallback::Policy::cases) of a policy, behind the
    /// rule's filters and within its [time](Self::timeout), which begins anew.
    pub fn fallback_backend(self, backend: impl Into<Backend>, cases: fallback::Policy) -> Self {
        Self { fallback: Some(Fallback { policy: cases, backend: Some(backend.into()) }), ..self }
    }

    /// Refuses requests while what the rule answers keeps failing, with all of its attempts, inside of all gates and outside
    /// of limits on what is in flight. An upstream that several rules share has [its own](Backend::circuit_breaker).
    pub fn circuit_breaker(self, breaker: BreakerLayer) -> Self {
        Self { breaker: Some(breaker), ..self }
    }

    /// Lets no more requests be in flight than this, inside of all gates. Several are asked
    /// [in one order](Concurrency::in_one_order), whichever is named first.
    pub fn concurrency(mut self, limit: Concurrency) -> Self {
        self.concurrency.push(limit);
        self
    }

    /// Adds a [filter](crate::routing::filter) of requests, inside of all gates and of earlier filters. It finds in their extensions by
    /// which [`Entrance`](crate::identity::Entrance) they have come in.
    pub fn filter(mut self, filter: impl Gate) -> Self {
        if let Some(redirect) = redirect(&filter) {
            self.stays = Some(redirect.stays() && self.stays != Some(false));
        }
        self.filters = self.filters.with(filter);
        self
    }

    calling_setters!();

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

    /// Sends copies of requests to this upstream, too, for which nobody waits. Clients cannot say that theirs are such:
    /// the mark is taken out of what they send.
    pub fn mirror(mut self, backend: impl Into<Backend>, policy: mirror::Policy) -> Self {
        self.mirrors.push((backend.into(), policy));
        self
    }

    /// Moves requests from the first of two backends to the second as `canary` has it; their weights mean nothing then. The
    /// next snapshot goes on with it if it has the same canary.
    pub fn canary(self, canary: Canary) -> Self {
        Self { canary: Some(canary), ..self }
    }

    /// What its canary is told when the snapshot is taken into force. Nothing unless told.
    pub fn steer(self, steer: Steer) -> Self {
        Self { steer: Some(steer), ..self }
    }

    /// Keeps each client at one endpoint, of one of its upstreams, whatever their weights are meanwhile. Its
    /// [canary](Self::canary) goes before: it says which upstream a request goes to, and a session is within that.
    pub fn session(self, session: Session) -> Self {
        Self { session: Some(session), ..self }
    }

    /// All upstreams to which it sends, those of mirrors and of a fallback too.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Backend> {
        let mirrors = self.mirrors.iter().map(|(backend, _)| backend);
        let fallback = self.fallback.iter().filter_map(|fallback| fallback.backend.as_ref());
        self.backends.iter().map(|(backend, _)| backend).chain(mirrors).chain(fallback)
    }

    /// Whether its clients only come back, to the same host and as secretly, with what they have come with.
    pub(super) fn comes_back(&self) -> bool {
        self.upstreams().next().is_none() && self.stays == Some(true)
    }

    /// Who tells who is calling.
    #[cfg(feature = "config")]
    pub(crate) fn providers(&self) -> Option<&Providers> {
        self.providers.as_ref()
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
}

/// The redirect that a filter is.
fn redirect(filter: &dyn Any) -> Option<&Redirect> {
    filter.downcast_ref().or_else(|| filter.downcast_ref::<Option<Redirect>>()?.as_ref())
}

/// What is given in the place of failures; by a backend if there is one.
#[derive(Debug)]
pub(super) struct Fallback {
    pub(super) policy: fallback::Policy,
    pub(super) backend: Option<Backend>,
}

/// A server that is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) authorizer: ExternalAuth,
    pub(super) in_shadow: bool,
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
