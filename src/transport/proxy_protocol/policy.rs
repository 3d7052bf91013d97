use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

/// From whom a listener takes PROXY protocol headers.
///
/// A trusted peer must send one, and within the time limit, or its connection is closed. Any other peer is taken
/// as it is, and if it sends one nevertheless, that is a malformed request.
#[derive(Clone, Debug)]
#[must_use]
pub struct ProxyProtocol {
    trusted: Arc<[IpNet]>,
    timeout: Duration,
}

impl ProxyProtocol {
    /// Headers are required from these networks, and believed from nobody else. The time limit is 5 s.
    pub fn from_trusted(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { trusted: networks.into_iter().collect(), timeout: Duration::from_secs(5) }
    }

    /// How long a trusted peer may take over its header.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether this address is trusted. `::ffff:a.b.c.d` is `a.b.c.d`.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.timeout
    }
}
