use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use super::TrustedProxies;
use super::walk::Forms;

/// Who opened the connection to us: the raw address of the socket's other end.
///
/// An IPv4 address mapped into IPv6, as a dual-stack socket reports it, is that IPv4 address. With the PROXY
/// protocol from a trusted peer it is the address that the protocol tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddr(SocketAddr);

impl PeerAddr {
    /// The peer at this address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        // `SocketAddr::new` also drops flow info and scope, which name no caller.
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// The address, never an IPv4 address mapped into IPv6.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port.
    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// Address and port.
    #[must_use]
    pub fn socket_addr(self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::new(address)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose request it is: the peer, or whom trusted proxies saw. See the [module](super) for the rules.
///
/// The port is known if the peer is the client, or if the proxy told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddr {
    ip: IpAddr,
    port: Option<u16>,
}

impl ClientAddr {
    /// A client at this address.
    #[must_use]
    pub fn new(ip: IpAddr, port: Option<u16>) -> Self {
        Self { ip: ip.to_canonical(), port }
    }

    /// The client of a request that came from `peer` with these headers.
    ///
    /// It is the peer, unless that is a trusted proxy; then the forwarding headers are walked from the right
    /// to the first address that is not trusted. It allocates nothing and reads no further left than it has to.
    #[must_use]
    pub fn resolve(peer: PeerAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        Forms::of(peer, headers, trusted).walk(peer, headers, trusted).client
    }

    /// The address, never an IPv4 address mapped into IPv6.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }

    /// The port, if it is known.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.port
    }
}

impl From<PeerAddr> for ClientAddr {
    fn from(peer: PeerAddr) -> Self {
        Self { ip: peer.ip(), port: Some(peer.port()) }
    }
}

impl From<SocketAddr> for ClientAddr {
    fn from(address: SocketAddr) -> Self {
        PeerAddr::new(address).into()
    }
}

impl From<IpAddr> for ClientAddr {
    fn from(ip: IpAddr) -> Self {
        Self::new(ip, None)
    }
}

/// `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1` or `[2001:db8::1]:80`.
impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}
