/// What becomes of a connection whose peer would be refused today: its root was taken away, or its certificate revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnTrustShrink {
    /// It stays, until the certificate expires.
    Keep,
    /// It takes no new request, and ends with those that are in flight. A tunnel, such as a WebSocket, stays. Over HTTP/1 one request
    /// that may be on its way is answered, within the [time](crate::transport::Server::drain_idle_timeout) for that, and told so.
    #[default]
    Drain,
    /// It is cut, tunnels too.
    Close,
}
