use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, sync::Arc};

/// One of the places where an upstream runs, and what whoever picks among them is to know of it.
///
/// ```
/// use std::num::NonZeroU32;
/// use portcullis::upstream::{Endpoint, Upstream};
///
/// let orders = Upstream::builder("orders")
///     .endpoint("orders.internal:8080")
///     .endpoint(Endpoint::new("192.0.2.7:8080").priority(1))
///     .endpoint(Endpoint::new("192.0.2.8:8080").weight(NonZeroU32::new(2).unwrap()).zone("b"))
///     .build()?;
/// # Ok::<(), portcullis::upstream::BuildError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Endpoint {
    /// Where it is: an IP address or a host name, a colon, and a port. All addresses of a host name are endpoints like
    /// this one.
    pub address: Arc<str>,
    /// Its part of the requests, against the weights of the others.
    pub weight: NonZeroU32,
    /// Those of a higher number are used as far as those of lower ones are not available.
    pub priority: u8,
    /// Where it stands. Who says where it stands itself prefers its own zone.
    pub zone: Option<Arc<str>>,
    /// What else there is to say of it, by which requests can choose: [`Subset`](super::Subset).
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Endpoint {
    /// An endpoint of weight 1 and priority 0, in no zone and without labels: `192.0.2.1:80`, `[2001:db8::1]:80` or `orders.svc:80`.
    #[must_use]
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self {
            address: address.into(),
            weight: NonZeroU32::MIN,
            priority: 0,
            zone: None,
            labels: BTreeMap::new(),
        }
    }

    /// Its part of the requests, against the weights of the others. By default 1.
    #[must_use]
    pub fn weight(mut self, weight: NonZeroU32) -> Self {
        self.weight = weight;
        self
    }

    /// When it is used: those of priority 1 take what those of priority 0 cannot. By default 0.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Where it stands. By default nowhere that has a name.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds a label, `version` and `v2` say. By default it has none.
    #[must_use]
    pub fn label(mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

impl From<&str> for Endpoint {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<&String> for Endpoint {
    fn from(address: &String) -> Self {
        Self::new(&**address)
    }
}

impl From<String> for Endpoint {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.to_string())
    }
}
