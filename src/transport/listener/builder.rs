use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

use super::{ConnectionObserver, Listener, caps::Caps, observer::Observer};
use crate::transport::{ProxyProtocol, transparent::capture};

/// How to accept. Made by [`Listener::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenerBuilder {
    pub(super) backlog: i32,
    max_connections: usize,
    max_connections_per_address: usize,
    pub(super) uncapped: Arc<[IpNet]>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::tls::ServerTls>,
    pub(super) observer: Observer,
    transparent: bool,
    /// Where a transparent listener is bound.
    pub(super) captures_at: Option<SocketAddr>,
}

impl Default for ListenerBuilder {
    fn default() -> Self {
        Self {
            backlog: 1_024,
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            uncapped: Arc::new([]),
            proxy_protocol: None,
            #[cfg(feature = "tls")]
            tls: None,
            observer: Observer::default(),
            transparent: false,
            captures_at: None,
        }
    }
}

impl ListenerBuilder {
    /// How many connections the system keeps for us until we accept them. 1,024 unless told; the system may have a
    /// lower limit.
    pub fn backlog(self, connections: u16) -> Self {
        Self { backlog: connections.into(), ..self }
    }

    /// How many connections there may be. 10,000 unless told. One more is closed as soon as it is accepted.
    pub fn max_connections(self, connections: usize) -> Self {
        Self { max_connections: connections, ..self }
    }

    /// How many connections one address may have, or one /64 of IPv6. 1,000 unless told. It counts the address that
    /// the PROXY protocol told.
    pub fn max_connections_per_address(self, connections: usize) -> Self {
        Self { max_connections_per_address: connections, ..self }
    }

    /// Peers that stand for many clients, such as load balancers: the cap of one address is not for them.
    pub fn uncapped(self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { uncapped: networks.into_iter().collect(), ..self }
    }

    /// Takes PROXY protocol headers from some peers. From nobody unless told.
    pub fn proxy_protocol(self, policy: ProxyProtocol) -> Self {
        Self { proxy_protocol: Some(policy), ..self }
    }

    /// Speaks TLS, inside of the PROXY protocol. Handshakes run side by side, and connections are handed out as they end. Plain
    /// text unless told.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    pub fn tls(self, tls: crate::tls::ServerTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Who hears of its connections. Nobody unless told.
    pub fn observer(self, observer: Arc<dyn ConnectionObserver>) -> Self {
        Self { observer: Observer(Some(observer)), ..self }
    }

    /// Whether connections are redirected to it that were meant for others, whom their [`Peer`](crate::transport::Peer) tells then:
    /// by `REDIRECT` or `TPROXY` of iptables or nftables, on Linux. Connections of IPv4 are told on a listener at an address of
    /// IPv4. Not unless told.
    pub fn transparent(self, transparent: bool) -> Self {
        Self { transparent, ..self }
    }

    /// Binds to `address`, in the runtime that this is called in.
    ///
    /// # Errors
    /// Those of the system: the address is in use, is not ours, needs privileges; a [transparent](Self::transparent) one where there
    /// is no such thing.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(self, address: SocketAddr) -> io::Result<Listener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Accepted sockets inherit these three, so they cost nothing per connection.
        #[cfg(not(windows))]
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(
            &TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)),
        )?;
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        self.from_std(socket.into())
    }

    /// Accepts from a socket that was bound elsewhere, such as by systemd.
    ///
    /// # Errors
    /// Those of the system.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn from_std(mut self, socket: std::net::TcpListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        let socket = match self.transparent {
            true => {
                let socket = Socket::from(socket);
                capture(&socket)?;
                socket.into()
            }
            false => socket,
        };
        self.captures_at = if self.transparent { Some(socket.local_addr()?) } else { None };
        let caps = Caps::new(self.max_connections, self.max_connections_per_address, self.observer.clone());
        Ok(Listener::new(TcpListener::from_std(socket)?, caps, self))
    }
}
