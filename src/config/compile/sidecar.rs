//! `inbound` and `outbound`: the two sides of a sidecar.
use std::collections::HashSet;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Compiler, compiler::named};
use crate::{
    config::{
        at::At,
        schema::{Admin, Listener, ListenerProtocol, Outbound, Route, UnknownHosts},
    },
    matching::HostPattern,
    stack::gateway::{DestinationMatch, Direction, Rule, SnapshotBuilder, TcpRoute},
    upstream::{Proxy, Upstream, UpstreamBuilder},
};

/// What is called where nothing is said of it, in logs and metrics.
const ELSEWHERE: &str = "passThrough";

/// Why something else is not called so.
pub(super) const TAKEN: &str = "is what `unknownHosts` passes through: say another name";

/// What goes one way: where it comes in, and what is done with it.
pub(super) struct Side<'a> {
    pub(super) direction: Direction,
    pub(super) at: At<'a>,
    pub(super) listeners: &'a [Listener],
    pub(super) routes: &'a [Route],
}

impl<'a> Compiler<'a> {
    pub(super) fn sides(&self) -> impl Iterator<Item = Side<'a>> {
        let (top, file) = (self.top, self.file);
        let through =
            Side { direction: Direction::Through, at: top, listeners: &file.listeners, routes: &file.routes };
        let inbound = file.inbound.as_ref().map(|side| Side {
            direction: Direction::Inbound,
            at: top.field("inbound"),
            listeners: &side.listeners,
            routes: &side.routes,
        });
        let outbound = file.outbound.as_ref().map(|side| Side {
            direction: Direction::Outbound,
            at: top.field("outbound"),
            listeners: &side.listeners,
            routes: &side.routes,
        });
        [through].into_iter().chain(inbound).chain(outbound)
    }

    /// What the service beside us calls by name.
    pub(super) fn called_by_name(&self, mut builder: SnapshotBuilder) -> SnapshotBuilder {
        let Some(Outbound { destinations, routes, unknown_hosts, .. }) = &self.file.outbound else {
            return builder;
        };
        let at = self.top.field("outbound");
        let elsewhere: HashSet<_> =
            routes.iter().flat_map(|route| &route.hostnames).map(|host| host.to_ascii_lowercase()).collect();
        for (at, name, called) in at.field("destinations").entries(destinations) {
            if !named(at, name) {
                continue;
            }
            if self.is_elsewhere(name) {
                at.error(TAKEN);
                continue;
            }
            if elsewhere.contains(&name.to_ascii_lowercase()) {
                at.error("a route is for this host");
            }
            match HostPattern::parse(name) {
                Ok(host) => {
                    let rule = self.destination(at, name, &called.0).retry_as_a_call();
                    builder = builder.rule(rule.host(host).direction(Direction::Outbound));
                }
                Err(_) => at.error("expected a host name"),
            }
        }
        match unknown_hosts {
            UnknownHosts::Refuse => builder,
            UnknownHosts::PassThrough => self.elsewhere(at.field("unknownHosts"), builder),
        }
    }

    /// The rule for hosts of which nothing is said. What comes in here is not sent back in.
    fn elsewhere(&self, at: At<'_>, builder: SnapshotBuilder) -> SnapshotBuilder {
        if self.upstreams.contains_key(ELSEWHERE) {
            at.error(format!("no upstream may be called `{ELSEWHERE}` beside this"));
        }
        let mut routes = self.file.outbound.iter().flat_map(|side| &side.routes);
        let takes_all = |route: &Route| {
            route.hostnames.is_empty() && route.rules.iter().any(|rule| rule.matches.is_empty())
        };
        if routes.any(takes_all) {
            at.error("a rule takes the requests for all hosts already");
        }
        let own = self.sides().flat_map(|side| side.listeners).map(|listener| listener.address.0);
        let admin = self.file.admin.as_ref().map(Admin::address);
        let before = self.kept.upstreams.get(ELSEWHERE);
        let made = Upstream::builder(ELSEWHERE).pass_through();
        let made = own.chain(admin).fold(made, UpstreamBuilder::refuse);
        let made = before.into_iter().fold(made, UpstreamBuilder::inherit);
        let Some(made) = at.accept(made.build()) else { return builder };
        self.elsewhere.borrow_mut().replace(made.clone());
        let redirected = self.file.all_listeners().filter(|listener| self.passes_through(listener));
        let route = redirected.fold(
            TcpRoute::new(ELSEWHERE).backend(made.clone(), 1).last_resort(),
            |route, listener| {
                let anywhere =
                    [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()].map(DestinationMatch::from);
                anywhere.into_iter().fold(route, TcpRoute::destination).listener(listener.name.0.0.as_str())
            },
        );
        // Whoever that is need not know for whom the service asks.
        let rule = Rule::new(ELSEWHERE).direction(Direction::Outbound).backend(Proxy::new(made).direct(), 1);
        let builder = builder.rule(rule);
        if self.file.all_listeners().any(|listener| self.passes_through(listener)) {
            builder.tcp_route(route)
        } else {
            builder
        }
    }

    /// Whether this is the name of what is passed through.
    pub(super) fn is_elsewhere(&self, name: &str) -> bool {
        let passes = |outbound: &Outbound| outbound.unknown_hosts == UnknownHosts::PassThrough;
        name == ELSEWHERE && self.file.outbound.as_ref().is_some_and(passes)
    }

    /// Whether what comes in there goes where it was going, if nothing is said of it and it is not HTTP.
    pub(super) fn passes_through(&self, listener: &Listener) -> bool {
        let Some(outbound) = &self.file.outbound else { return false };
        outbound.unknown_hosts == UnknownHosts::PassThrough
            && listener.transparent
            && listener.protocol != ListenerProtocol::Http
            && outbound.listeners.iter().any(|own| own.name == listener.name)
    }
}
