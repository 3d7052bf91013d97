use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use http::HeaderName;

use super::{
    breakers::Breakers,
    canaries::Canaries,
    direction::Direction,
    edge::Listen,
    fallbacks::Fallbacks,
    mirrors::Mirrors,
    overload::Load,
    parts::{asserted_by, authorizers, check_rules, distinct, quotas, tallies, upstreams},
    retries::Retries,
    rule::Rule,
    snapshot::{Snapshot, Way},
    tcp::{Table, TcpRoute},
};
#[cfg(feature = "jwt")]
use crate::authn::{
    introspection::{Introspection, IntrospectionHandle},
    jwks::RemoteKeys,
};
use crate::{
    admission::{Priorities, shed::Overload},
    authn::{Location, api_key::ApiKeys},
    identity::CallerHeaders,
    listening,
    matching::PathPolicy,
    routing::{
        router::{Router, UnreachableMatches},
        split::InvalidSplit,
    },
    stack::{Contradiction, admin::Admin},
    telemetry::usage::UsageMeter,
};
#[cfg(feature = "tls")]
use crate::{stack::Identities, tls::Credentials};

/// Why parts make no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The admin address is an upstream's endpoint: strangers would reach it.
    #[error("the admin address is an endpoint of the upstream {0:?}")]
    AdminUpstream(Box<str>),
    /// What a rule says of its calls cannot be.
    #[error("the rule {0:?}: {1}")]
    Contradiction(Arc<str>, Contradiction),
    /// Two listeners, or a listener and the admin address, have the same address.
    #[error("two listeners on {0}")]
    DuplicateAddress(SocketAddr),
    /// Two listeners have the same name, or one is called `admin`, which is the admin address's name.
    #[error("two listeners are called {0:?}")]
    DuplicateListener(Arc<str>),
    /// Two rules have the same name: their logs, metrics and sticky shares would run together.
    #[error("two rules are called {0:?}")]
    DuplicateRule(Arc<str>),
    /// A route of connections names a listener that is not there, or takes nothing but HTTP.
    #[error("the TCP route {0:?} is for the listener {1:?}, which is not there or takes nothing but HTTP")]
    NoTcpListener(Arc<str>, Arc<str>),
    /// A listener takes nothing but connections that carry something else than HTTP, and no route is for it.
    #[error("the listener {0:?} takes connections that no TCP route is for")]
    NoTcpRoute(Arc<str>),
    /// There is no listener.
    #[error("a gateway needs a listener")]
    NoListener,
    /// Requests wait for a limit at two of three positions: listeners, rules, upstreams. Limits of one position are taken in
    /// one order, but here two requests could each hold what the other waits for.
    #[error(
        "requests wait for the limit {0:?} at more than one position: name it in rules or in front of upstreams"
    )]
    QueuedTwice(Box<str>),
    /// The backends of a rule cannot be told apart or have no weight.
    #[error("the rule {0:?}: {1}")]
    Split(Arc<str>, InvalidSplit),
    /// A route of connections has no upstream that would get any.
    #[error("the TCP route {0:?} has no upstream with a weight")]
    TcpNowhere(Arc<str>),
    /// Rules that no request can reach.
    #[error(transparent)]
    Unreachable(#[from] UnreachableMatches),
}

/// Gathers the parts of a [`Snapshot`].
#[derive(Debug)]
#[must_use]
pub struct SnapshotBuilder {
    listeners: Vec<Listen>,
    admin: Option<Admin>,
    #[cfg(feature = "tls")]
    told_credentials: Identities,
    #[cfg(feature = "jwt")]
    key_sets: Vec<(Arc<str>, RemoteKeys)>,
    #[cfg(feature = "jwt")]
    introspections: Vec<(Arc<str>, IntrospectionHandle)>,
    shutdown_delay: Duration,
    shutdown_grace: Duration,
    rules: Vec<Rule>,
    tcp: Vec<TcpRoute>,
    asserted: Vec<HeaderName>,
    credentials: Vec<Location>,
    caller_headers: CallerHeaders,
    api_keys: Vec<(Arc<str>, ApiKeys)>,
    usage: Option<UsageMeter>,
    overload: Option<(Overload, Priorities)>,
}

impl SnapshotBuilder {
    /// How long `/readyz` says 503 before nothing new is accepted.
    pub const SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
    /// How long what is in flight may take then.
    pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(30);

    pub(super) fn new() -> Self {
        Self {
            listeners: Vec::new(),
            admin: None,
            #[cfg(feature = "tls")]
            told_credentials: Identities::default(),
            #[cfg(feature = "jwt")]
            key_sets: Vec::new(),
            #[cfg(feature = "jwt")]
            introspections: Vec::new(),
            shutdown_delay: Self::SHUTDOWN_DELAY,
            shutdown_grace: Self::SHUTDOWN_GRACE,
            rules: Vec::new(),
            tcp: Vec::new(),
            asserted: Vec::new(),
            credentials: Vec::new(),
            caller_headers: CallerHeaders::new(),
            api_keys: Vec::new(),
            usage: None,
            overload: None,
        }
    }

    /// Adds a listener.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listeners.push(listen);
        self
    }

    /// Sets the address for operators. None unless told. It is refused as an upstream's endpoint; one whose name leads to it,
    /// and one that a source tells, is not connected to while this is in force.
    pub fn admin(self, admin: Admin) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// Tells of these credentials in the status and in metrics: how long the certificate is valid, and whether it is renewed.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn identity(mut self, name: impl Into<Arc<str>>, credentials: &Credentials) -> Self {
        self.told_credentials.identities.push((name.into(), credentials.clone()));
        self
    }

    /// The same of all of these.
    #[cfg(all(feature = "config", feature = "tls"))]
    pub(crate) fn identities(self, told_credentials: Identities) -> Self {
        Self { told_credentials, ..self }
    }

    /// The same of credentials that say whom to believe, and not who we are: whether they are renewed.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn roots(mut self, name: impl Into<Arc<str>>, credentials: &Credentials) -> Self {
        self.told_credentials.roots.push((name.into(), credentials.clone()));
        self
    }

    /// How the gateway goes down at a signal: for how long `/readyz` says 503 before nothing new is accepted, and how
    /// long what is in flight may take then. [`SHUTDOWN_DELAY`](Self::SHUTDOWN_DELAY) and
    /// [`SHUTDOWN_GRACE`](Self::SHUTDOWN_GRACE) unless told.
    pub fn shutdown(self, delay: Duration, grace: Duration) -> Self {
        Self { shutdown_delay: delay, shutdown_grace: grace, ..self }
    }

    /// Adds a rule. The most specific match of all rules wins; the order counts only among equals.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds a route for connections that carry something else than HTTP.
    pub fn tcp_route(mut self, route: TcpRoute) -> Self {
        self.tcp.push(route);
        self
    }

    /// Header names that this gateway asserts to upstreams, beside those of the rules' providers: removed from every
    /// request.
    pub fn asserted(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.asserted.extend(names);
        self
    }

    /// What upstreams are told of who was authenticated, by every rule. Such headers are removed from every request.
    pub fn caller_headers(self, headers: CallerHeaders) -> Self {
        Self { caller_headers: headers, ..self }
    }

    /// Credentials that are taken out of every request before it goes on, beside those of the rules' providers: on
    /// rules too that do not ask for them. Only a rule's own providers can let theirs go on.
    pub fn credentials(mut self, locations: impl IntoIterator<Item = Location>) -> Self {
        self.credentials.extend(locations);
        self
    }

    /// Refuses the least important when there is too much to do: at every listener what trusted peers say of their
    /// requests is heard, and in each rule its own [priority](Rule::priority) and the plan of the caller. Strangers' word
    /// is removed. It [starts](Overload::start) when the snapshot is taken into force.
    pub fn overload(self, overload: Overload, priorities: Priorities) -> Self {
        Self { overload: Some((overload, priorities)), ..self }
    }

    /// Keys of which the admin address is to tell how fresh they are, by their provider's name.
    pub fn api_keys(mut self, keys: impl IntoIterator<Item = (impl Into<Arc<str>>, ApiKeys)>) -> Self {
        self.api_keys.extend(keys.into_iter().map(|(name, keys)| (name.into(), keys)));
        self
    }

    /// Counts who has used how much. The gateway starts the meter, and flushes it when it goes down.
    pub fn usage(self, meter: UsageMeter) -> Self {
        Self { usage: Some(meter), ..self }
    }

    /// Fetches these keys before requests are let in, waiting a moment at most, and tells of them in the status and in
    /// metrics under the name of their provider. Keys of rules that are not told here are fetched with the first token.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn key_set(mut self, provider: impl Into<Arc<str>>, keys: RemoteKeys) -> Self {
        self.key_sets.push((provider.into(), keys));
        self
    }

    /// Tells of the calls of this provider in the status and in metrics.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn introspection(mut self, provider: impl Into<Arc<str>>, introspection: &Introspection) -> Self {
        self.introspections.push((provider.into(), introspection.handle()));
        self
    }

    /// Puts everything in order.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit.
    pub fn build(self) -> Result<Snapshot, SnapshotError> {
        self.check_addresses()?;
        check_rules(self.admin.as_ref(), &self.listeners, &self.rules, &self.tcp)?;
        let Self { listeners, admin, api_keys, shutdown_delay, shutdown_grace, rules: of_rules, .. } = self;
        let (tallies, breakers) = (tallies(&of_rules, &self.tcp), Breakers::of(&of_rules));
        let (quotas, authorizers) = (quotas(&of_rules), authorizers(&of_rules));
        let (retries, fallbacks) = (Retries::of(&of_rules), Fallbacks::of(&of_rules));
        let (mirrors, canaries) = (Mirrors::of(&of_rules), Canaries::of(&of_rules));
        #[cfg(any(feature = "prometheus", feature = "redis"))]
        let limits = super::limits::all(&listeners, &of_rules);
        #[cfg(feature = "prometheus")]
        let addresses = super::parts::addresses(&listeners, &of_rules);
        let paths = of_rules.iter().fold(PathPolicy::strict(), |paths, rule| paths.union(rule.paths));
        let (rules, upstreams) = (distinct(&listeners, &of_rules)?, upstreams(&of_rules, &self.tcp));
        #[cfg(feature = "jwt")]
        let token_sources = super::parts::token_sources(&of_rules);
        let load = Load::of(self.overload.clone(), &listeners, &of_rules);
        let given = Given {
            paths,
            asserted: self.asserted.into_iter().collect(),
            credentials: self.credentials,
            caller_headers: self.caller_headers,
            overload: self.overload,
        };
        let (ways, tcp) = (ways(of_rules, &given)?, Table::new(self.tcp, &listeners)?);
        Ok(Snapshot {
            listeners,
            admin,
            upstreams,
            api_keys,
            #[cfg(feature = "tls")]
            told_credentials: self.told_credentials,
            #[cfg(feature = "jwt")]
            key_sets: self.key_sets,
            #[cfg(feature = "jwt")]
            introspections: self.introspections,
            #[cfg(feature = "jwt")]
            token_sources,
            shutdown_delay,
            shutdown_grace,
            load,
            retries,
            breakers,
            fallbacks,
            mirrors,
            canaries,
            rules,
            ways,
            tcp,
            paths,
            tallies,
            #[cfg(any(feature = "prometheus", feature = "redis"))]
            limits,
            #[cfg(feature = "prometheus")]
            addresses,
            authorizers,
            quotas,
            usage: self.usage,
        })
    }

    fn check_addresses(&self) -> Result<(), SnapshotError> {
        if self.listeners.is_empty() {
            return Err(SnapshotError::NoListener);
        }
        let mut names = HashSet::from(["admin"]);
        if let Some(twice) = self.listeners.iter().find(|listen| !names.insert(&listen.name)) {
            return Err(SnapshotError::DuplicateListener(Arc::clone(&twice.name)));
        }
        let mut taken: Vec<SocketAddr> = Vec::new();
        let addresses = self.listeners.iter().map(|listen| listen.address);
        for address in addresses.chain(self.admin.as_ref().map(|admin| admin.address)) {
            if taken.iter().any(|own| listening::collide(*own, address)) {
                return Err(SnapshotError::DuplicateAddress(address));
            }
            taken.push(address);
        }
        Ok(())
    }
}

/// Each direction with its rules.
fn ways(mut rules: Vec<Rule>, given: &Given) -> Result<Vec<Way>, SnapshotError> {
    let way = |direction| {
        let rules: Vec<_> = rules.extract_if(.., |rule| rule.direction == direction).collect();
        let given = given.of(direction, &rules);
        let filters = rules.iter().any(|rule| !rule.filters.is_empty());
        let mut router = Router::builder();
        for rule in rules {
            router = router.rule(rule.build(&given)?);
        }
        Ok(Way { direction, asserted: given.asserted, filters, routes: router.build()?.into_service() })
    };
    Direction::ALL.into_iter().map(way).collect()
}

/// What a rule is told of the whole.
pub(super) struct Given {
    /// What the listeners let through already.
    pub(super) paths: PathPolicy,
    pub(super) asserted: crate::identity::AssertedHeaders,
    /// Where any rule's credentials stand.
    pub(super) credentials: Vec<Location>,
    pub(super) caller_headers: CallerHeaders,
    pub(super) overload: Option<(Overload, Priorities)>,
}

impl Given {
    /// What the rules of one direction are told. What the gateway says of callers, and takes out of their requests, is not for what
    /// a service sends itself: it speaks with headers and credentials of its own.
    fn of(&self, direction: Direction, rules: &[Rule]) -> Self {
        let is_ours = direction != Direction::Outbound;
        let caller_headers = if is_ours { self.caller_headers.clone() } else { CallerHeaders::new() };
        let asserted =
            self.asserted.names().iter().filter(|_| is_ours).chain(caller_headers.names()).cloned();
        let credentials = self.credentials.iter().filter(|_| is_ours).cloned();
        Self {
            paths: self.paths,
            asserted: asserted.chain(asserted_by(rules)).collect(),
            credentials: credentials.chain(super::parts::locations(rules)).collect(),
            caller_headers,
            overload: self.overload.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    fn built(listeners: &[&str], admin: &str, endpoint: &str) -> Result<Snapshot, SnapshotError> {
        let upstream = Upstream::builder("orders").endpoint(endpoint).build().unwrap();
        let rule = Rule::new("all").backend(upstream, 1);
        let gateway = Snapshot::builder().admin(Admin::at(admin.parse().unwrap())).rule(rule);
        let listens = listeners.iter().enumerate();
        let listens = listens.map(|(n, at)| Listen::on(format!("l{n}"), at.parse().unwrap()));
        listens.fold(gateway, SnapshotBuilder::listen).build()
    }

    #[tokio::test]
    async fn two_listeners_on_one_address_are_refused() {
        for (listeners, admin, taken) in [
            (&["127.0.0.1:80", "127.0.0.1:80"][..], "127.0.0.1:81", "127.0.0.1:80"),
            (&["0.0.0.0:80", "127.0.0.1:80"], "127.0.0.1:81", "127.0.0.1:80"),
            (&["[::]:80"], "127.0.0.1:80", "127.0.0.1:80"),
        ] {
            let refused = built(listeners, admin, "127.0.0.1:9000").map(drop);
            assert_eq!(refused, Err(SnapshotError::DuplicateAddress(taken.parse().unwrap())));
        }
        assert!(built(&["127.0.0.1:0", "127.0.0.1:0"], "127.0.0.1:0", "127.0.0.1:9000").is_ok());
    }

    #[tokio::test]
    async fn the_admin_address_is_no_endpoint() {
        for (admin, endpoint) in [
            ("127.0.0.1:9901", "127.0.0.1:9901"),
            ("0.0.0.0:9901", "127.0.0.1:9901"),
            ("127.0.0.1:9901", "0.0.0.0:9901"),
            ("127.0.0.1:9901", "[::ffff:127.0.0.1]:9901"),
        ] {
            let refused = built(&["127.0.0.1:80"], admin, endpoint).map(drop);
            assert_eq!(refused, Err(SnapshotError::AdminUpstream("orders".into())), "{admin} {endpoint}");
        }
    }
}
