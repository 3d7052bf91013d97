//! What is done with connections that carry something else than HTTP.
use std::{fmt, sync::Arc, time::Duration};

use super::DestinationMatch;
use crate::{admission::authz::Authorization, chance::Chance, tunnel::Limits, upstream::Upstream};

/// Takes connections that carry something else than HTTP to an upstream: of listeners that take [nothing else](crate::stack::gateway::Listen::tcp),
/// or [tell them apart](crate::stack::gateway::Listen::detect).
///
/// ```
/// use portcullis::{stack::gateway::{Listen, Snapshot, TcpRoute}, upstream::Upstream};
///
/// let databases = Upstream::builder("databases").endpoint("10.0.0.7:5432").build()?;
/// let snapshot = Snapshot::builder()
///     .listen(Listen::on("postgres", "127.0.0.1:5432".parse()?).tcp())
///     .tcp_route(TcpRoute::new("databases").listener("postgres").backend(databases, 1))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Of several routes for a listener the one with the narrowest [destination](Self::destination) takes a connection that was
/// redirected: the longest prefix, and of the same one with a port before one without. Those without destinations come last, and of
/// equals the first that was given.
#[derive(Clone)]
#[must_use]
pub struct TcpRoute {
    pub(super) name: Arc<str>,
    pub(super) listeners: Vec<Arc<str>>,
    pub(super) destinations: Vec<DestinationMatch>,
    pub(super) authorization: Option<Authorization>,
    pub(super) backends: Vec<(Upstream, u32)>,
    pub(super) limits: Limits,
    pub(super) chance: Chance,
    /// After all others, whatever the destinations are.
    pub(super) last: bool,
}

impl TcpRoute {
    /// How long a connection may be silent, unless told otherwise.
    pub const IDLE: Duration = Duration::from_secs(3_600);

    /// A route for every listener that takes such connections. The name is what it is called in logs and metrics.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            listeners: Vec::new(),
            destinations: Vec::new(),
            authorization: None,
            backends: Vec::new(),
            limits: Limits { idle: Self::IDLE, age: Duration::MAX },
            chance: Chance::new(),
            last: false,
        }
    }

    /// For this listener, too. Without any it is for all that take such connections.
    pub fn listener(mut self, name: impl Into<Arc<str>>) -> Self {
        self.listeners.push(name.into());
        self
    }

    /// For connections that were redirected to a [transparent](crate::stack::gateway::Listen::transparent) listener and were meant for this. Without
    /// any it is for all, redirected or not.
    pub fn destination(mut self, destination: DestinationMatch) -> Self {
        self.destinations.push(destination);
        self
    }

    /// Takes what no other route does, whatever the destinations of those are.
    #[cfg(any(feature = "config", test))]
    pub(crate) fn last_resort(self) -> Self {
        Self { last: true, ..self }
    }

    /// Asks these policies whether a connection may be made, before it is. What rules ask of requests
    /// [counts against the caller](Authorization::check_connection).
    pub fn policies(self, authorization: Authorization) -> Self {
        Self { authorization: Some(authorization), ..self }
    }

    /// Adds an upstream with its weight: for each connection one is chosen at random.
    pub fn backend(mut self, upstream: Upstream, weight: u32) -> Self {
        self.backends.push((upstream, weight));
        self
    }

    /// How long a connection may be silent both ways. [`IDLE`](Self::IDLE) unless told.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.limits.idle = timeout;
        self
    }

    /// How long a connection may last. For ever unless told.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.limits.age = age;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(in super::super) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.backends.iter().map(|(upstream, _)| upstream)
    }

    pub(in super::super) const fn authorization(&self) -> Option<&Authorization> {
        self.authorization.as_ref()
    }

    /// Whether somebody would get its connections.
    pub(super) fn has_backend(&self) -> bool {
        self.backends.iter().any(|(_, weight)| *weight > 0)
    }

    /// The upstream of one connection.
    pub(super) fn pick(&self) -> Option<&Upstream> {
        let total = self.backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = self.chance.below(total);
        let picked = self.backends.iter().find(|(_, weight)| match left.checked_sub((*weight).into()) {
            Some(less) => {
                left = less;
                false
            }
            None => true,
        });
        picked.map(|(upstream, _)| upstream)
    }
}

impl fmt::Debug for TcpRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpRoute")
            .field("name", &self.name)
            .field("listeners", &self.listeners)
            .field("destinations", &self.destinations)
            .finish_non_exhaustive()
    }
}
