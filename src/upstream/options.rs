use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

#[cfg(feature = "tls")]
use super::secure::Secure;
use crate::{listening, trip};

/// Which version of HTTP is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Wire {
    /// HTTP/1.1; but gRPC, which has no HTTP/1 form, over HTTP/2.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3), always. Upgrades such as WebSocket are refused.
    Http2,
    /// What the caller speaks: gRPC and other HTTP/2 requests over HTTP/2, HTTP/1 and upgrades over HTTP/1.1.
    Follow,
}

/// What the connections of all endpoints of an upstream have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) wire: Wire,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) idle_timeout_http2: Duration,
    pub(super) max_idle: usize,
    pub(super) max_connections: usize,
    pub(super) max_streams: usize,
    pub(super) max_age: Option<Duration>,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) refused: Vec<SocketAddr>,
    pub(super) kept_off: KeptOff,
    /// Of each endpoint.
    pub(super) breaker: Option<trip::Policy>,
    #[cfg(feature = "tls")]
    pub(super) secure: Option<Secure>,
}

/// The addresses that operators of the gateway in front of it have, as long as these are in force; they make no other upstream of
/// it. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptOff(Arc<RwLock<Vec<SocketAddr>>>);

impl KeptOff {
    fn now(&self) -> Vec<SocketAddr> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(feature = "stack")]
    pub(super) fn set(&self, addresses: &[SocketAddr]) {
        addresses.clone_into(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl PartialEq for KeptOff {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for KeptOff {}

/// How an HTTP/2 connection is asked whether its peer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeepAlive {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            wire: Wire::default(),
            connect_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(4),
            idle_timeout_http2: Duration::from_secs(60),
            max_idle: 128,
            max_connections: 1024,
            max_streams: usize::MAX,
            max_age: None,
            keep_alive: None,
            refused: Vec::new(),
            kept_off: KeptOff::default(),
            breaker: None,
            #[cfg(feature = "tls")]
            secure: None,
        }
    }
}

impl Options {
    /// Whether endpoints are spoken to within TLS.
    #[cfg(feature = "tls")]
    pub(super) fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn is_secure(&self) -> bool {
        false
    }

    /// Whether `address` is one that must not be an upstream's endpoint.
    pub(super) fn refuses(&self, address: SocketAddr) -> bool {
        self.not_endpoints().any(|own| listening::reaches(own, address))
    }

    /// The addresses that must not be.
    pub(super) fn not_endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.refused.iter().copied().chain(self.kept_off.now())
    }

    /// Whether a connection that was made leads to an address that must not be an upstream's endpoint. A listener on
    /// all addresses is reached by each address of this machine, and those are known from the connection alone.
    pub(super) fn refuses_connection(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        self.not_endpoints().any(|own| {
            own.port() == peer.port()
                && (own.ip().to_canonical() == peer.ip().to_canonical()
                    || own.ip().is_unspecified() && local.ip().to_canonical() == peer.ip().to_canonical())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_docs() {
        let (options, seconds) = (Options::default(), Duration::from_secs);
        assert_eq!((options.wire, options.connect_timeout), (Wire::Http1, seconds(2)));
        assert_eq!((options.idle_timeout, options.idle_timeout_http2), (seconds(4), seconds(60)));
        assert_eq!((options.max_idle, options.max_connections, options.max_streams), (128, 1024, usize::MAX));
    }

    #[test]
    fn a_listener_on_all_addresses_is_known_once_connected() {
        let options = Options { refused: vec!["0.0.0.0:9901".parse().unwrap()], ..Options::default() };
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(options.refuses_connection(address("192.0.2.1:40000"), address("192.0.2.1:9901")));
        assert!(!options.refuses_connection(address("192.0.2.1:40000"), address("192.0.2.2:9901")));
        assert!(!options.refuses_connection(address("192.0.2.1:40000"), address("192.0.2.1:9900")));
    }

    /// Those who made it know nothing of it.
    #[cfg(feature = "stack")]
    #[test]
    fn what_is_kept_off_is_no_other_upstream() {
        let (options, at) = (Options::default(), "127.0.0.1:9901".parse().unwrap());
        options.kept_off.set(&[at]);
        assert!(options.refuses(at) && options.refuses_connection(at, at));
        assert_eq!(options, Options::default());
        options.kept_off.set(&[]);
        assert!(!options.refuses(at) && options.not_endpoints().next().is_none());
    }
}
