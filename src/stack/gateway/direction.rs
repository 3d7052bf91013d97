use std::fmt;

/// Which way the requests of a listener go, as seen from a service that the gateway stands beside: a sidecar has both.
///
/// A rule is for requests of listeners of its direction alone. When the gateway goes down by
/// [`leave`](super::Gateway::leave), what comes in ends before what goes out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Direction {
    /// Through it, beside no service: a gateway.
    #[default]
    Through,
    /// From others to the service.
    Inbound,
    /// From the service to others.
    Outbound,
}

impl Direction {
    pub(super) const ALL: [Self; 3] = [Self::Through, Self::Inbound, Self::Outbound];

    /// As the status says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Through => "through",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
