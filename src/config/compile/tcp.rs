//! `tcpRoutes`, and what listeners say of connections that carry something else than HTTP.
use std::{collections::HashSet, time::Duration};

use super::{
    Compiler,
    authorization::accept,
    retry::within,
    sidecar::{Side, TAKEN},
    subsets::called,
};
use crate::{
    admission::authz::{self, Authorization, Rule},
    config::{
        at::At,
        schema::{Listener, ListenerProtocol, RetryConstraint, TcpRoute, TlsMode},
        suggest::suggestion,
    },
    stack::gateway::{self, Listen, SnapshotBuilder},
};

/// The shortest time of a connection.
const LEAST: Duration = Duration::from_millis(10);

impl Compiler<'_> {
    /// What is spoken on the connections of a listener, and whether they are redirected to it.
    pub(super) fn spoken(&self, at: At<'_>, listener: &Listener, listen: Listen) -> Listen {
        let patience = listener.detect_timeout.as_ref().map_or(Listen::DETECT, |timeout| timeout.0);
        let listen = match listener.protocol {
            ListenerProtocol::Http => listen,
            ListenerProtocol::Tcp => listen.tcp(),
            ListenerProtocol::Detect => listen.detect_within(patience),
        };
        if listener.detect_timeout.is_some() {
            let at = at.field("detectTimeout");
            within(at, patience, LEAST);
            let is_permissive = listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Permissive);
            match listener.protocol {
                ListenerProtocol::Tcp if is_permissive => {}
                ListenerProtocol::Tcp | ListenerProtocol::Http => {
                    at.warn("nothing is detected: `protocol` is not `detect`");
                }
                ListenerProtocol::Detect => {}
            }
        }
        if listener.protocol == ListenerProtocol::Tcp {
            for (field, said) in [
                ("rateLimit", !listener.rate_limit.is_empty()),
                ("concurrency", !listener.concurrency.is_empty()),
            ] {
                if said {
                    at.field(field)
                        .error("limits count requests, of which there are none: see `maxConnections`");
                }
            }
        }
        let own =
            |route: &TcpRoute| route.listeners.is_empty() || route.listeners.contains(&listener.name.0.0);
        if listener.protocol == ListenerProtocol::Tcp
            && !self.file.tcp_routes.iter().any(own)
            && !self.passes_through(listener)
            && !self.top.field("tcpRoutes").is_broken()
        {
            at.field("protocol")
                .error("nothing takes its connections: no route of `tcpRoutes` is for this listener");
        }
        if listener.transparent && !cfg!(target_os = "linux") {
            at.field("transparent")
                .error("is for Linux: this system does not tell where connections were meant to go");
        }
        listen.transparent(listener.transparent)
    }

    pub(super) fn tcp_routes(&self, mut builder: SnapshotBuilder) -> SnapshotBuilder {
        let mut names = HashSet::new();
        let others = |listener: &Listener| listener.protocol != ListenerProtocol::Http;
        for (at, route) in self.top.field("tcpRoutes").items(&self.file.tcp_routes) {
            if !names.insert(&route.name.0.0) {
                at.field("name").error("another route has this name");
                continue;
            }
            if self.is_elsewhere(&route.name.0.0) {
                at.field("name").error(TAKEN);
                continue;
            }
            if !self.file.all_listeners().any(others) {
                at.warn("no listener takes such connections: their `protocol` is `http`");
            }
            let is_one_way = |side: &Side<'_>| side.listeners.iter().any(others);
            if route.listeners.is_empty() && self.sides().filter(is_one_way).count() > 1 {
                at.field("listeners").error("connections come in more ways than one: say at which listeners");
            }
            if let Some(made) = self.tcp_route(at, route) {
                builder = builder.tcp_route(made);
            }
        }
        builder
    }

    fn tcp_route(&self, at: At<'_>, said: &TcpRoute) -> Option<gateway::TcpRoute> {
        let mut made = gateway::TcpRoute::new(said.name.0.0.as_str());
        let mut is_sound = true;
        for (at, name) in self.distinct(at.field("listeners"), &said.listeners) {
            let listeners = || self.file.all_listeners();
            match listeners().find(|listener| listener.name.0.0 == name) {
                None => {
                    let known = listeners().map(|listener| listener.name.0.0.as_str());
                    at.error(format!("no listener of this name{}", suggestion(name, known)));
                    is_sound = false;
                }
                Some(listener) if listener.protocol == ListenerProtocol::Http => {
                    at.error("this listener takes nothing but HTTP: its `protocol` is `http`");
                    is_sound = false;
                }
                Some(_) => made = made.listener(name),
            }
        }
        made = self.destinations(at.field("destinations"), said, made);
        made = self.tcp_policies(at.field("policies"), said, made);
        let list = at.field("backendRefs");
        if !said.backend_refs.is_empty() && said.backend_refs.iter().all(|backend| backend.weight == Some(0))
        {
            list.error("the weights sum up to zero");
        }
        let mut seen = HashSet::new();
        for (at, backend) in list.items(&said.backend_refs) {
            if !seen.insert(called(backend)) {
                at.field("name").error("this upstream is in the list already");
                continue;
            }
            self.warn_of_requests(at.field("name"), &backend.name);
            self.warn_of_ways_past(at.field("name"), said, &backend.name);
            match self.backend(at, backend) {
                Some(proxy) => made = made.backend(proxy.upstream().clone(), backend.weight.unwrap_or(1)),
                None => is_sound = false,
            }
        }
        is_sound.then_some(made)
    }

    fn destinations(&self, at: At<'_>, said: &TcpRoute, made: gateway::TcpRoute) -> gateway::TcpRoute {
        let is_for =
            |listener: &&Listener| said.listeners.is_empty() || said.listeners.contains(&listener.name.0.0);
        let knows = self.file.all_listeners().filter(is_for).any(|listener| listener.transparent);
        if !said.destinations.is_empty() && !knows {
            at.warn(
                "takes no connection: only a `transparent` listener knows where connections were meant to go",
            );
        }
        said.destinations.iter().fold(made, |made, destination| made.destination(destination.0))
    }

    fn tcp_policies(&self, at: At<'_>, said: &TcpRoute, mut made: gateway::TcpRoute) -> gateway::TcpRoute {
        let policies = &said.policies;
        if let Some(idle) = &policies.idle_timeout {
            at_least(at.field("idleTimeout"), idle.0);
            made = made.idle_timeout(idle.0);
        }
        if let Some(age) = &policies.max_age {
            at_least(at.field("maxAge"), age.0);
            made = made.max_age(age.0);
        }
        let list = at.field("authorization");
        let mut decide = Vec::new();
        for (at, name) in self.distinct(list, &policies.authorization) {
            let Some(policy) = self.find(at, name, "policy", "authorization", &self.authorization) else {
                continue;
            };
            if policy.action() == authz::Action::Custom {
                at.error("a custom policy asks an authorizer about requests, of which there are none");
                continue;
            }
            if policy.rules().iter().any(Rule::needs_caller) {
                at.warn("asks who was authenticated, which nobody is on a connection: say `peers`");
            }
            decide.push(policy.clone());
        }
        if decide.is_empty() {
            return made;
        }
        match accept(list, Authorization::counted(decide, self.kept.tally.clone())) {
            Some(compiled) => made.policies(compiled),
            None => made,
        }
    }

    /// Says where the client may choose not to be asked what rules ask.
    fn warn_of_ways_past(&self, at: At<'_>, said: &TcpRoute, upstream: &str) {
        let tells_apart = |listener: &&Listener| {
            listener.protocol == ListenerProtocol::Detect
                && (said.listeners.is_empty() || said.listeners.contains(&listener.name.0.0))
        };
        let sides = self.sides().filter(|side| side.listeners.iter().any(|listener| tells_apart(&listener)));
        let rules = sides
            .flat_map(|side| side.routes)
            .flat_map(|route| route.rules.iter().enumerate().map(move |(index, rule)| (route, index, rule)));
        let mut same =
            rules.filter(|(_, _, rule)| rule.backend_refs.iter().any(|backend| backend.name == *upstream));
        if let Some((route, index, rule)) = same.next() {
            let own = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.0.0.clone());
            at.warn(format!(
                "with `protocol: detect` the client chooses: whoever says what is no HTTP gets there past what `{}/{own}` asks",
                route.name.0.0
            ));
        }
    }

    /// Says what of an upstream is for requests alone.
    fn warn_of_requests(&self, at: At<'_>, name: &str) {
        let Some(said) = self.file.upstreams.get(name) else { return };
        for (field, is_said) in [
            ("circuitBreaker", said.circuit_breaker.is_some()),
            ("concurrency", !said.concurrency.is_empty()),
            ("retryConstraint", said.retry_constraint != RetryConstraint::default()),
            ("successRate", said.success_rate.is_some()),
            ("credentials", said.credentials.is_some()),
            ("subsets", said.subsets.is_some()),
        ] {
            if is_said {
                at.warn(format!("the upstream's `{field}` is for requests: it does nothing for connections"));
            }
        }
    }
}

/// A connection has time to be of use.
pub(super) fn at_least(at: At<'_>, time: Duration) {
    if time < LEAST {
        at.error(format!("expected {} at least", crate::time::format_duration(LEAST)));
    }
}
