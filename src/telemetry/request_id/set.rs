//! The server's side: take or make, set, tell.

use super::make::make;
use crate::{
    context::RequestId,
    gate::{Gate, GateLayer, Pass},
    head::Head,
    identity::{PeerIdentity, TrustedProxies},
    reject::Answer,
    time::WallClock,
};
use http::{HeaderMap, HeaderName, HeaderValue, response};

/// The header that is used unless told otherwise.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Whose word about a request's id is believed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Trust {
    /// Nobody's: every request gets a new id.
    #[default]
    Never,
    /// That of these peers, by the address of the connection ([`PeerAddr`](crate::identity::PeerAddr)). Without one, nobody's.
    Peers(TrustedProxies),
    /// That of these peers, and of whoever has shown a certificate that was verified ([`PeerIdentity`]): the services of a mesh.
    Identified(TrustedProxies),
    /// Everybody's. For a server whose callers are all known, such as one behind mutual TLS.
    Always,
}

/// The gate that gives each request its id; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct SetRequestId {
    header: HeaderName,
    trust: Trust,
    echo: bool,
    clock: WallClock,
}

impl Default for SetRequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl SetRequestId {
    /// Makes an id for every request, under `x-request-id`, and tells it on the response.
    #[must_use]
    pub fn new() -> Self {
        Self { header: X_REQUEST_ID, trust: Trust::Never, echo: true, clock: WallClock::system() }
    }

    /// Uses another header. Default: `x-request-id`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Takes ids from some callers. Default: from none.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Whether the response carries the id. Default: it does. If not, one that the inner service set stays.
    #[must_use]
    pub fn echo(mut self, echo: bool) -> Self {
        self.echo = echo;
        self
    }

    /// Where the time in an id comes from. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Into<WallClock>) -> Self {
        self.clock = clock.into();
        self
    }

    /// The layer of this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn trusts(&self, head: &Head<'_>) -> bool {
        let told = head.extensions();
        match &self.trust {
            Trust::Never => false,
            Trust::Always => true,
            Trust::Peers(peers) => peers.trusts(told),
            Trust::Identified(peers) => peers.trusts(told) || told.get::<PeerIdentity>().is_some(),
        }
    }

    /// The id on the request, if its sender may set one and set exactly one that is safe.
    fn taken(&self, head: &Head<'_>) -> Option<RequestId> {
        if !self.trusts(head) {
            return None;
        }
        let mut lines = head.headers().get_all(&self.header).iter();
        match (lines.next(), lines.next()) {
            (Some(value), None) => RequestId::read(value),
            _ => None,
        }
    }
}

impl Gate for SetRequestId {
    type Pass = Tell;

    fn check(&self, head: &mut Head<'_>) -> Result<Tell, Answer> {
        let id = if let Some(given) = head.extensions().get::<RequestId>().cloned() {
            set(head.headers_mut(), &self.header, &given);
            given
        } else {
            let id = self.taken(head).unwrap_or_else(|| {
                let id = make(self.clock.now());
                set(head.headers_mut(), &self.header, &id);
                id
            });
            head.extensions_mut().insert(id.clone());
            id
        };
        Ok(Tell(self.echo.then(|| (self.header.clone(), id.into()))))
    }
}

/// Leaves one line of `name`. A map that is full of other headers (32,768 of them) is left as it is.
pub(super) fn set(headers: &mut HeaderMap, name: &HeaderName, id: &RequestId) {
    let _ = headers.try_insert(name, id.as_header().clone());
}

/// Tells the id on the response, in place of any that is there.
#[derive(Debug)]
pub struct Tell(Option<(HeaderName, HeaderValue)>);

impl Pass for Tell {
    fn watches(&self) -> bool {
        self.0.is_some()
    }

    fn holds(&self) -> bool {
        self.watches()
    }

    fn on_head(&mut self, head: &mut response::Parts) {
        if let Some((name, id)) = self.0.take() {
            let _ = head.headers.try_insert(name, id); // as `set`, without a copy
        }
    }
}
