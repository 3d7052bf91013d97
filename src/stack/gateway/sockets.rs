//! The sockets of a gateway: bound before anything is let go, and drained when they leave.
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use tower_service::Service;

use super::{direction::Direction, edge::Listen, observer::Connections, service::Door};
use crate::{
    body::Body,
    stack::admin::Admin,
    transport::{Drain, Listener, Server, Stream},
};

/// How long requests of a listener that leaves may take.
const LEAVE: Duration = Duration::from_secs(30);

/// Why a snapshot was not taken into force: an address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("the listener {name:?} cannot be bound to {address}: {source}")]
#[non_exhaustive]
pub struct BindError {
    /// The listener, or `admin`.
    pub name: Arc<str>,
    /// Where it was to be.
    pub address: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

/// The address for operators, as if it were a listener.
pub(super) fn of_admin(admin: &Admin) -> Listen {
    Listen::on("admin", admin.address)
}

/// A socket that is bound and not served yet.
pub(super) struct Bound {
    listen: Listen,
    listener: Listener,
    spare: Listener,
    local: SocketAddr,
}

/// A socket that is served.
pub(super) struct Acceptor {
    listen: Listen,
    /// Never accepts: it is there to make another acceptor of the same socket.
    spare: Option<Listener>,
    pub(super) local: SocketAddr,
    pub(super) drain: Drain,
    /// What carries something else than HTTP: nobody can tell its peers to go, so it goes on when the listener changes.
    pub(super) streams: Drain,
}

impl Bound {
    fn new(listen: &Listen, listener: io::Result<Listener>) -> Result<Self, BindError> {
        let bound = listener.and_then(|listener| {
            let spare = listener.reopen(listen.socket.builder())?;
            Ok(Self { listen: listen.clone(), local: listener.local_addr()?, listener, spare })
        });
        bound.map_err(|source| BindError { name: Arc::clone(&listen.name), address: listen.address, source })
    }

    /// Serves it, from now on.
    pub(super) fn serve<S, F, R>(self, service: S, forward: F) -> Acceptor
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        F: FnOnce(Stream) -> R + Clone + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (drain, streams) = (Drain::new(), Drain::new());
        let server = Server::new()
            .drain(&drain)
            .rates(self.listen.socket.rates)
            .max_connection_age(self.listen.socket.max_age);
        let others = self.listen.socket.spoken.streams(forward).drain(&streams);
        tokio::spawn(server.serve_with(self.listener, service, others));
        Acceptor { listen: self.listen, spare: Some(self.spare), local: self.local, drain, streams }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.listen.name
    }

    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn door(&self) -> Door {
        self.listen.door()
    }
}

impl Acceptor {
    pub(super) fn name(&self) -> &Arc<str> {
        &self.listen.name
    }

    pub(super) fn door(&self) -> Door {
        self.listen.door()
    }

    pub(super) fn direction(&self) -> Direction {
        self.listen.direction
    }

    /// Whether it has this listener's address. Port 0 is another port for each name.
    fn is_at(&self, listen: &Listen) -> bool {
        self.listen.address == listen.address
            && (listen.address.port() != 0 || self.listen.name == listen.name)
    }

    fn fits(&self, listen: &Listen) -> bool {
        self.is_at(listen) && self.door() == listen.door() && self.listen.socket == listen.socket
    }

    /// Accepts nothing new, and lets go of the address.
    pub(super) fn leave(&mut self) {
        self.spare = None;
        self.drain.start();
    }

    /// What is in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.drain.in_flight() + self.streams.in_flight()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What is served, and what still drains.
#[derive(Default)]
pub(super) struct Sockets {
    pub(super) serving: Vec<Acceptor>,
    pub(super) leaving: Vec<Acceptor>,
    connections: Option<Connections>,
}

impl Sockets {
    /// Counts all connections here.
    pub(super) fn counted(connections: Connections) -> Self {
        Self { connections: Some(connections), ..Self::default() }
    }

    /// Binds what these listeners need and is not there. Nothing has changed yet.
    pub(super) fn bind<'a>(
        &self,
        listens: impl IntoIterator<Item = &'a Listen>,
    ) -> Result<Vec<Bound>, BindError> {
        let missing = |listen: &&Listen| !self.serving.iter().any(|acceptor| acceptor.fits(listen));
        let bind = |listen: &Listen| {
            let settings = match &self.connections {
                Some(connections) => listen.socket.builder().observer(Arc::new(connections.of(&listen.name))),
                None => listen.socket.builder(),
            };
            let there = self.serving.iter().find(|acceptor| acceptor.is_at(listen));
            let listener = match there.and_then(|acceptor| acceptor.spare.as_ref()) {
                Some(spare) => spare.reopen(settings),
                None => settings.bind(listen.address),
            };
            Bound::new(listen, listener)
        };
        listens.into_iter().filter(missing).map(bind).collect()
    }

    /// Serves what is new, and lets go of what these listeners do not need.
    pub(super) fn replace(&mut self, listens: &[&Listen], new: impl IntoIterator<Item = Acceptor>) {
        self.sweep();
        let serving = std::mem::take(&mut self.serving);
        let needed = |acceptor: &Acceptor| listens.iter().any(|listen| acceptor.fits(listen));
        let (stay, leave): (Vec<_>, Vec<_>) = serving.into_iter().partition(needed);
        self.serving = stay.into_iter().chain(new).collect();
        for mut acceptor in leave {
            acceptor.leave();
            let drain = acceptor.drain.clone();
            tokio::spawn(async move { drain.wait(LEAVE).await });
            if !listens.iter().any(|listen| listen.door() == acceptor.door()) {
                let streams = acceptor.streams.clone();
                tokio::spawn(async move { streams.wait(LEAVE).await });
            }
            self.leaving.push(acceptor);
        }
    }

    /// Forgets those that have drained.
    pub(super) fn sweep(&mut self) {
        self.leaving.retain(|acceptor| acceptor.in_flight() > 0);
    }
}
