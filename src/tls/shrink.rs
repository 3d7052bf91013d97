/// What becomes of a connection whose peer would be refused today: its root was taken away, or its certificate revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnTrustShrink {
    /// It stays, until the certificate expires.
    Keep,
    /// It takes no new request, and ends with those that are in flight. A tunnel, such as a WebSocket, stays.
    #[default]
    Drain,
    /// It is cut, tunnels too.
    Close,
}
