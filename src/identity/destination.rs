use std::{fmt, net::SocketAddr};

/// Where the client of a connection meant to connect to, which was redirected to us on its way (transparent capture). Whoever
/// accepted the connection puts it into the extensions of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub struct OriginalDestination(SocketAddr);

impl OriginalDestination {
    /// This address. `::ffff:a.b.c.d` is `a.b.c.d`.
    pub fn new(address: SocketAddr) -> Self {
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address and the port.
    #[must_use]
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for OriginalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
