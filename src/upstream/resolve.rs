use std::{fmt, future::Future, io, net::SocketAddr, pin::Pin, str::FromStr, time::Duration};

use super::builder::BuildError;

/// The addresses of a host name, when they are known.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

/// The addresses of a host name, and for how long they are good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Addresses {
    pub(super) all: Vec<SocketAddr>,
    pub(super) lifetime: Option<Duration>,
}

impl Addresses {
    /// These. It is not known how long they are good: they are asked for again after 30 seconds.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { all: addresses.into_iter().collect(), lifetime: None }
    }

    /// They are good for this long; taken for a second if it is less.
    pub fn good_for(self, lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime), ..self }
    }
}

/// What asks for the addresses of a host name. A function `Fn(&str, u16) -> Resolving` is one.
pub trait Resolve: Send + Sync + 'static {
    /// Asks for all addresses of `host`, with this port in each.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

impl<F: Fn(&str, u16) -> Resolving + Send + Sync + 'static> Resolve for F {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        self(host, port)
    }
}

/// Asks the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move { Ok(Addresses::new(tokio::net::lookup_host((host, port)).await?)) })
    }
}

/// An endpoint as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Address(SocketAddr),
    Name { host: Box<str>, port: u16 },
}

impl FromStr for Target {
    type Err = BuildError;

    fn from_str(text: &str) -> Result<Self, BuildError> {
        let invalid = || BuildError::InvalidEndpoint(text.to_owned());
        let target = match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => {
                let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
                let port = port.parse().map_err(|_| invalid())?;
                if !is_host_name(host) {
                    return Err(invalid());
                }
                Self::Name { host: host.into(), port }
            }
        };
        if target.port() == 0 { Err(invalid()) } else { Ok(target) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Target {
    fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

/// RFC 1123 section 2.1, and `_`, which names inside clusters have.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_host_names_with_a_port() {
        for good in ["127.0.0.1:80", "[::1]:80", "localhost:80", "orders.shop.svc.cluster.local.:80", "a_b:1"]
        {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "127.0.0.1:0",
            "::1:80",
            "a b:80",
            "-a:80",
            "a..b:80",
            "http://a:80",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
