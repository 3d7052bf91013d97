//! How a rule becomes a service: its layers and gates, in their order.
use std::{collections::HashSet, convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    backend::{Backend, Nowhere, RuleService, Told},
    builder::{Given, SnapshotError},
    guarded::{Guarded, broken},
    limits::Limits,
    own::{Discard, OwnPaths, everybody, with},
    rule::{Asked, Fallback, Rule},
    served::Served,
};
use crate::{
    admission::{Priorities, authz::Authorization, concurrency::Concurrency, quota::Quotas, shed::Shed},
    authn,
    body::{Body, BoxError, TapLayer},
    chance::Chance,
    gate::{AsyncGateLayer, AsyncGates, Enforce, GateLayer},
    key::Key,
    reject::{Rejection, RescueLayer},
    resilience::fallback::FallbackLayer,
    routing::{mirror::MirrorLayer, router, split},
    stack::{guards::authorizing, sessions::Pin},
    telemetry::Witness,
    upstream::{Proxy, Session},
};

impl Rule {
    /// The rule with its layers around its upstreams.
    pub(super) fn build(self, given: &Given) -> Result<router::Rule<RuleService>, SnapshotError> {
        let (hosts, matches, name) = (self.hosts.clone(), self.matches.clone(), Arc::clone(&self.name));
        let fallback = self.fallbacks(given);
        let answers = self.answers(given).map_err(|error| SnapshotError::Split(Arc::clone(&name), error))?;
        let shows_bodies = self.authorizers.iter().any(|asked| asked.authorizer.wants_body());
        let tap = if shows_bodies { TapLayer::new() } else { TapLayer::disabled() };
        let near = self.near();
        let (outside, answers) = match fallback {
            Some(fallback) => {
                (self.gates(given), Served::new(fallback.layer(AsyncGateLayer::new(near).layer(answers))))
            }
            // Nothing stands between them.
            None => (self.gates(given).with_all(near), answers),
        };
        let service = tap.layer(AsyncGateLayer::new(outside).layer(answers));
        let rule = hosts.into_iter().fold(router::Rule::new(name, service), router::Rule::host);
        Ok(matches.into_iter().fold(rule, router::Rule::when))
    }

    /// The gates of the rule outside of its fallback, outermost first: this is the order of [`order`](crate::stack::order).
    fn gates(self, given: &Given) -> AsyncGates {
        let (fields, legacy) = (self.limits.fields, self.limits.legacy);
        let priorities = self.priorities(given);
        let needs_caller = self.upstreams().any(Backend::needs_caller);
        let authorize = authorizing(self.authorize.as_ref(), self.providers.as_ref());
        let comes_back = self.comes_back();
        let of_upstreams = self.upstreams().flat_map(|backend| &backend.guards.concurrency);
        let asks_priority = self.concurrency.iter().chain(of_upstreams).any(Concurrency::asks_priority);
        let (before, after) = match self.limits.need_identity() {
            true => (Limits::default(), self.limits),
            false => (self.limits, Limits::default()),
        };
        let own_paths = (self.paths != given.paths).then_some(OwnPaths(self.paths));
        let kept_back = authn::kept_back(&given.credentials, self.providers.as_ref());
        let discard = (!comes_back && !kept_back.is_empty()).then_some(Discard(kept_back));

        let mut gates = AsyncGates::new().with(self.calling.read()).with(Witness);
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
        if let Some(providers) = self.providers {
            let providers = if needs_caller { providers.keep_token() } else { providers };
            gates = gates.with_async(providers).with(Witness);
        }
        gates = with(gates, late);
        gates = with(gates, authorize);
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
            gates = gates.with_async(Quotas::from_iter(self.quotas).fields(fields).legacy_fields(legacy));
        }
        gates = with(gates, discard);
        gates = with(
            gates,
            (given.caller_headers.names().next().is_some()).then(|| given.caller_headers.clone()),
        );
        gates = gates.with_all(self.gates);
        if asks_priority {
            gates = gates.with(priorities);
        }
        gates
    }

    /// Those inside of it.
    fn near(&self) -> AsyncGates {
        let gates = broken(AsyncGates::new(), self.breaker.as_ref());
        let concurrency = Concurrency::in_one_order(self.concurrency.clone());
        let gates =
            concurrency.into_iter().fold(gates, AsyncGates::with_async).with_all(self.filters.clone());
        let backends = self.backends.iter().map(|(backend, _)| backend.upstream());
        let pin = Pin::among(self.session.as_ref().filter(|_| self.canary.is_none()), backends);
        with(gates, pin)
    }

    /// What is given in the place of failures. Another upstream is sent what this one is.
    fn fallbacks(&self, given: &Given) -> Option<FallbackLayer> {
        let Fallback { policy, backend } = self.fallback.as_ref()?;
        let policy = policy.clone().varies_by(self.depends_on(given));
        let Some(backend) = backend else { return Some(FallbackLayer::new(policy)) };
        let within = self.calling.timeout.tell_deadline(true);
        let other =
            AsyncGateLayer::new(self.filters.clone()).layer(within.layer(self.guarded(backend, given, None)));
        Some(FallbackLayer::new(policy.asking(other)))
    }

    /// What an answer may depend on though no server says so in `Vary`: what chooses the rule, the version and the endpoint,
    /// what is asked of who may see it, and what upstreams are told of the caller.
    fn depends_on(&self, given: &Given) -> Vec<Key> {
        let matched = self.matches.iter().flat_map(|request| request.headers.iter().map(|(name, _)| name));
        let asked = self.authorization.iter().flat_map(Authorization::headers);
        let headers = matched.chain(asked).chain(given.asserted.names()).cloned().map(Key::Header);
        let endpoints = self.backends.iter().flat_map(|(backend, _)| backend.upstream().chooses_by());
        let session = self.session.as_ref().filter(|_| self.backends.len() > 1).map(Session::key);
        let versions = self.split_by.clone().into_iter().chain(session);
        let mut known = HashSet::new();
        let keys = headers.chain(endpoints).chain(versions).filter(Key::tells_callers);
        keys.filter(|key| known.insert(key.clone())).collect()
    }

    /// What tells how important a request of this rule is. The listeners have removed what strangers said of it.
    fn priorities(&self, given: &Given) -> Priorities {
        let told = given.overload.as_ref().map(|(_, priorities)| priorities.clone()).unwrap_or_default();
        let told = self.priority.into_iter().fold(told, Priorities::base);
        told.believing(everybody())
    }

    /// An upstream that is told what it needs to know, behind its guards.
    fn guarded(&self, backend: &Backend, given: &Given, session: Option<&Session>) -> Guarded {
        // The listeners have removed what strangers said of how a request came: what is left is believed.
        let proxy = backend.proxy(self.calling.own_budget());
        let proxy = proxy.trusted_proxies(everybody()).asserted(given.asserted.clone());
        let proxy = session.into_iter().cloned().fold(proxy, Proxy::session);
        backend.guards.before(GateLayer::new((self.calling.told(), None)).layer(backend.sender(proxy)))
    }

    /// What answers inside of the rule's gates, within the time that the whole call has.
    fn answers(&self, given: &Given) -> Result<Served<Infallible>, split::InvalidSplit> {
        let split = if self.backends.is_empty() { None } else { Some(self.split()?) };
        let answers = match (self.alone(given), split) {
            (Some(sender), _) => self.timed(sender),
            (None, Some(split)) => self.timed(self.mirrored(self.versions(&split, given)?, given)),
            (None, None) => self.timed(self.mirrored(Served::new(Nowhere), given)),
        };
        Ok(match self.calling.fault {
            Some(_) => Served::new(self.calling.faults().layer(answers)),
            None => answers,
        })
    }

    fn timed<S, B>(&self, sender: S) -> Served<Infallible>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Rejection> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        // Retries, breakers, canaries and upstreams have to know until when it makes sense to go on.
        Served::new(RescueLayer::new().layer(self.calling.timeout.tell_deadline(true).layer(sender)))
    }

    fn mirrored(&self, sender: Served<Rejection>, given: &Given) -> Served<Rejection> {
        if self.mirrors.is_empty() {
            return sender;
        }
        let mirrors = self.mirrors.iter().fold(MirrorLayer::disabled(), |layer, (backend, policy)| {
            layer.and(self.calling.mirrors(policy), self.guarded(backend, given, None))
        });
        Served::new(mirrors.layer(sender))
    }

    /// Whether there is a breaker inside of the timeouts.
    fn judges_attempts(&self) -> bool {
        self.backends.iter().any(|(backend, _)| backend.guards.breaker.is_some())
    }

    /// The only upstream, if nothing stands in front of it, as with most rules.
    fn alone(&self, given: &Given) -> Option<Told> {
        let [(backend, _)] = &*self.backends else { return None };
        let is_watched = self.canary.is_some() || self.variant_header.is_some() || !self.mirrors.is_empty();
        if is_watched || self.calling.makes_attempts() {
            return None;
        }
        match self.guarded(backend, given, self.session.as_ref()) {
            Guarded::Bare(sender) => Some(sender),
            Guarded::Behind(_) => None,
        }
    }

    fn split(&self) -> Result<split::Split<&Backend>, split::InvalidSplit> {
        let versions = self.backends.iter().fold(split::Split::builder(), |split, (backend, weight)| {
            split.variant(backend.proxy.upstream().variant(), *weight, backend)
        });
        versions.build()
    }

    /// One upstream, and as many attempts at it as there may be.
    fn attempts(&self, backend: &Backend, given: &Given) -> Served<Rejection> {
        let sender = self.guarded(backend, given, self.session.as_ref());
        if !self.calling.makes_attempts() {
            return Served::new(sender);
        }
        let timeout = self.calling.attempt_timeout.tell_deadline(self.judges_attempts());
        Served::new(self.calling.repeated(backend.budget(), timeout.layer(sender)))
    }

    fn versions(
        &self,
        split: &split::Split<&Backend>,
        given: &Given,
    ) -> Result<Served<Rejection>, split::InvalidSplit> {
        let split = split.map(|backend| self.attempts(backend, given));
        let mut policy = match &self.split_by {
            Some(key) => split::Policy::sticky(key.clone(), Arc::clone(&self.name)),
            None => split::Policy::random(Chance::new()),
        };
        if let Some(header) = &self.variant_header {
            policy = policy.tell_client(header.clone());
        }
        Ok(match &self.canary {
            Some(canary) => Served::new(canary.over(&split)?.into_service(policy)),
            None => Served::new(split.into_service(policy)),
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::{
        admission::authz::{self, Operation, Policy},
        identity::CallerHeaders,
        matching::{PathPolicy, RequestMatch, Text},
        upstream::{Balance, Maglev, SessionCookie, Subsets, Upstream},
    };

    #[tokio::test]
    async fn an_old_answer_depends_on_what_chooses_its_server_and_tells_who_asks() {
        let header = |name: &'static str| HeaderName::from_static(name);
        let upstream = |name: &str| Upstream::builder(name).endpoint("127.0.0.1:9001");
        let one = upstream("one").subsets(Subsets::new().by_headers([("tenant", header("x-tenant"))]));
        let two = upstream("two").balance(Balance::Maglev(Maglev::new(Key::Cookie("cart".into()))));
        let operation = Operation::new().header(header("x-plan"), ["gold"]).unwrap();
        let policy = Policy::allow("gold").rule(authz::Rule::new().to(operation));
        let when = RequestMatch::any().header(header("x-version"), Text::exact("2"));
        let given = Given {
            paths: PathPolicy::strict(),
            asserted: [header("x-user")].into_iter().collect(),
            credentials: Vec::new(),
            caller_headers: CallerHeaders::new(),
            overload: None,
        };
        let rule = Rule::new("all")
            .when(when)
            .policies(Authorization::new([policy]).unwrap())
            .split_by(Key::ClientAddr)
            .session(Session::cookie(SessionCookie::new("at").unwrap()))
            .backend(one.build().unwrap(), 1);
        let headers = ["x-version", "x-plan", "x-user", "x-tenant"].map(|name| Key::Header(header(name)));
        assert_eq!(rule.depends_on(&given), headers, "there is one version");

        let rule = rule.split_by(Key::Header(header("x-user"))).backend(two.build().unwrap(), 1);
        let cookies = ["cart", "at"].map(|name| Key::Cookie(name.into()));
        assert_eq!(rule.depends_on(&given), [&headers[..], &cookies].concat());
    }
}
