//! Which route takes which connection.
use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use super::TcpRoute;
use crate::{
    admission::address::AddressList,
    stack::gateway::{Listen, SnapshotError},
};

/// The routes of a snapshot.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Table(Arc<[Arc<TcpRoute>]>);

/// What is asked of a connection that has come to a listener, and where it may go.
#[derive(Clone)]
pub(in super::super) struct StreamsIn {
    pub(in super::super) addresses: Option<AddressList>,
    pub(in super::super) routes: Table,
}

impl Table {
    /// The routes, if they fit each other and the listeners.
    pub(in super::super) fn new(routes: Vec<TcpRoute>, listeners: &[Listen]) -> Result<Self, SnapshotError> {
        let mut names = HashSet::new();
        for route in &routes {
            if !names.insert(&route.name) {
                return Err(SnapshotError::DuplicateRule(Arc::clone(&route.name)));
            }
            if !route.has_backend() {
                return Err(SnapshotError::TcpNowhere(Arc::clone(&route.name)));
            }
            let takes = |name: &Arc<str>| {
                listeners.iter().any(|listen| listen.name == *name && listen.socket.spoken.takes_others())
            };
            if let Some(other) = route.listeners.iter().find(|name| !takes(name)) {
                return Err(SnapshotError::NoTcpListener(Arc::clone(&route.name), Arc::clone(other)));
            }
        }
        let table = Self(routes.into_iter().map(Arc::new).collect());
        let lacks =
            |listen: &&Listen| listen.socket.spoken.takes_nothing_else() && !table.serves(&listen.name);
        match listeners.iter().find(lacks) {
            Some(listen) => Err(SnapshotError::NoTcpRoute(Arc::clone(&listen.name))),
            None => Ok(table),
        }
    }

    fn serves(&self, listener: &str) -> bool {
        self.0.iter().any(|route| is_for(route, listener))
    }

    /// The route of a connection that has come to this listener, and was meant for that address if it was redirected.
    pub(super) fn find(&self, listener: &str, meant_for: Option<SocketAddr>) -> Option<&Arc<TcpRoute>> {
        // Whether it is no last resort, and how narrow it is.
        let fits = |route: &TcpRoute| {
            let first = !route.last;
            if route.destinations.is_empty() {
                return Some((first, None));
            }
            let meant_for = meant_for?;
            let fitting = route.destinations.iter().filter(|one| one.has(meant_for));
            fitting.map(|one| (first, Some(one.narrowness()))).max()
        };
        let candidates = self.0.iter().filter(|route| is_for(route, listener));
        // Of equals `max_by_key` takes the last.
        let ranked = candidates.rev().filter_map(|route| Some((fits(route)?, route)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, route)| route)
    }

    /// The routes that ask nobody, of listeners that connections of strangers come in by.
    #[cfg(feature = "config")]
    pub(in super::super) fn open_to_strangers(&self, listeners: &[Listen]) -> impl Iterator<Item = &str> {
        let is_open = |listen: &&Listen| {
            listen.direction != crate::stack::gateway::Direction::Outbound
                && listen.socket.spoken.takes_others()
                && !listen.asks_for_certificates()
        };
        let open: Vec<_> = listeners.iter().filter(is_open).map(|listen| Arc::clone(&listen.name)).collect();
        let is_public = move |route: &&TcpRoute| {
            route.authorization.is_none() && open.iter().any(|name| is_for(route, name))
        };
        self.routes().filter(is_public).map(TcpRoute::name)
    }

    pub(in super::super) fn routes(&self) -> impl Iterator<Item = &TcpRoute> {
        self.0.iter().map(|route| &**route)
    }
}

fn is_for(route: &TcpRoute, listener: &str) -> bool {
    route.listeners.is_empty() || route.listeners.iter().any(|name| **name == *listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    fn route(name: &str) -> TcpRoute {
        let upstream = Upstream::builder("one").endpoint("127.0.0.1:9001").build().unwrap();
        TcpRoute::new(name).backend(upstream, 1)
    }

    fn listens() -> [Listen; 3] {
        let at = |port| ([127, 0, 0, 1], port).into();
        [Listen::on("web", at(1)), Listen::on("raw", at(2)).tcp(), Listen::on("any", at(3)).detect()]
    }

    #[test]
    fn the_narrowest_destination_takes_it() {
        let to = |name: &str, destination: &str| route(name).destination(destination.parse().unwrap());
        let table = Table::new(
            vec![
                route("rest").listener("any"),
                to("wide", "10.0.0.0/8"),
                to("port", "10.0.0.0/8:5432"),
                to("port again", "10.0.0.0/8:5432"),
                to("narrow", "10.1.0.0/16").destination("192.0.2.7".parse().unwrap()),
                route("raw").listener("raw"),
                to("elsewhere", "10.2.0.0/16").listener("raw"),
                to("last", "0.0.0.0/0").last_resort(),
            ],
            &listens(),
        );
        let table = table.unwrap();
        for (listener, meant_for, expected) in [
            ("any", Some("10.9.9.9:80"), "wide"),
            ("any", Some("10.9.9.9:5432"), "port"),
            ("any", Some("10.1.9.9:5432"), "narrow"),
            ("any", Some("192.0.2.7:1"), "narrow"),
            ("any", Some("10.2.9.9:80"), "wide"),
            ("any", Some("198.51.100.1:80"), "rest"),
            ("any", None, "rest"),
            ("raw", None, "raw"),
            ("raw", Some("10.2.9.9:80"), "elsewhere"),
        ] {
            let found = table.find(listener, meant_for.map(|address| address.parse().unwrap())).unwrap();
            assert_eq!(&*found.name, expected, "{listener} {meant_for:?}");
        }
    }

    /// Whatever its destinations are, and wherever it stands.
    #[test]
    fn a_last_resort_takes_what_no_other_does() {
        let last = || route("last").destination("0.0.0.0/0".parse().unwrap()).last_resort();
        let anywhere = || route("mine").destination("0.0.0.0/0".parse().unwrap());
        for routes in [
            vec![last(), route("mine").listener("any")],
            vec![route("mine").listener("any"), last()],
            vec![last(), anywhere()],
            vec![anywhere(), last()],
        ] {
            let table = Table::new(routes, &listens()).unwrap();
            let meant_for = Some(([10, 0, 0, 1], 80).into());
            assert_eq!(&*table.find("any", meant_for).unwrap().name, "mine");
        }
        let table = Table::new(vec![route("mine").listener("any"), last()], &listens()).unwrap();
        assert_eq!(&*table.find("raw", Some(([10, 0, 0, 1], 80).into())).unwrap().name, "last");
        assert!(table.find("raw", None).is_none(), "it was not redirected");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let twice = vec![route("r").listener("raw"), route("r")];
        let nowhere = TcpRoute::new("r").backend(route("").pick().unwrap().clone(), 0);
        for (routes, why) in [
            (twice, SnapshotError::DuplicateRule("r".into())),
            (vec![nowhere], SnapshotError::TcpNowhere("r".into())),
            (vec![route("r").listener("web")], SnapshotError::NoTcpListener("r".into(), "web".into())),
            (vec![route("r").listener("gone")], SnapshotError::NoTcpListener("r".into(), "gone".into())),
            (vec![route("r").listener("any")], SnapshotError::NoTcpRoute("raw".into())),
        ] {
            assert_eq!(Table::new(routes, &listens()).map(drop), Err(why));
        }
        assert!(Table::new(vec![route("r")], &listens()).is_ok());
    }

    #[test]
    fn connections_are_given_by_weight() {
        let upstream = |name: &str| Upstream::builder(name).endpoint("127.0.0.1:9001").build().unwrap();
        let mut route =
            TcpRoute::new("r").backend(upstream("a"), 3).backend(upstream("b"), 0).backend(upstream("c"), 1);
        route.chance = crate::chance::Chance::seeded(7);
        let chosen: Vec<_> = (0..1_000).map(|_| route.pick().unwrap().name().to_owned()).collect();
        let given = |name: &str| chosen.iter().filter(|chosen| *chosen == name).count();
        assert_eq!((given("a") + given("c"), given("b")), (1_000, 0));
        assert!((700..800).contains(&given("a")), "{}", given("a"));
    }
}
