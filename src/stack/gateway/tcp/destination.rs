//! Where redirected connections were meant to go.
use std::{fmt, net::SocketAddr, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

/// A network, or one address, with a port or with any: `10.0.0.0/8:5432`, `192.0.2.7:5432`, `[fd00::/8]:5432`, `10.0.0.0/8`.
///
/// ```
/// use portcullis::stack::gateway::DestinationMatch;
///
/// let databases: DestinationMatch = "10.1.0.0/16:5432".parse()?;
/// assert!(databases.has("10.1.2.3:5432".parse()?));
/// assert!(!databases.has("10.1.2.3:6379".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationMatch {
    network: IpNet,
    port: Option<u16>,
}

/// This is no network, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no destination: it must be a network or an address, with a port or without, such as `10.0.0.0/8:5432` or \
     `[fd00::/8]:5432`"
)]
pub struct InvalidDestinationMatch(Box<str>);

impl DestinationMatch {
    /// Whether this address is one of them.
    #[must_use]
    pub fn has(&self, address: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == address.port())
            && self.network.contains(&address.ip().to_canonical())
    }

    /// The narrower one is the greater one: by its network, then by its port.
    pub(super) fn narrowness(&self) -> (u8, bool) {
        // Of one that is for IPv4 and one that is for IPv6 no address is in both.
        (self.network.prefix_len(), self.port.is_some())
    }
}

impl From<IpNet> for DestinationMatch {
    /// At any port.
    fn from(network: IpNet) -> Self {
        Self { network: network.trunc(), port: None }
    }
}

impl FromStr for DestinationMatch {
    type Err = InvalidDestinationMatch;

    fn from_str(text: &str) -> Result<Self, InvalidDestinationMatch> {
        let network = |text: &str| {
            text.parse::<IpNet>().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))
        };
        let (place, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((place, port))) => (network(place), Some(port)),
            Some(None) => (None, None),
            // Without brackets several colons are of an address of IPv6, which has no port then.
            None if text.matches(':').count() == 1 => {
                let at = text.find(':').unwrap_or(text.len());
                (network(&text[..at]), Some(&text[at..]))
            }
            None => (network(text), None),
        };
        let port = match port {
            None | Some("") => Some(None),
            Some(port) => {
                port.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port != 0).map(Some)
            }
        };
        match (place, port) {
            (Some(network), Some(port)) => Ok(Self { network: network.trunc(), port }),
            _ => Err(InvalidDestinationMatch(text.into())),
        }
    }
}

impl fmt::Display for DestinationMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.network) {
            (None, network) => network.fmt(f),
            (Some(port), IpNet::V4(network)) => write!(f, "{network}:{port}"),
            (Some(port), IpNet::V6(network)) => write!(f, "[{network}]:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        for (text, shown) in [
            ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("10.1.2.3/8:5432", "10.0.0.0/8:5432"),
            ("192.0.2.7:80", "192.0.2.7/32:80"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("[fd00::/8]:5432", "[fd00::/8]:5432"),
            ("[fd00::1]:5432", "[fd00::1/128]:5432"),
            ("[fd00::1]", "fd00::1/128"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
        ] {
            let read: DestinationMatch = text.parse().unwrap();
            assert_eq!(read.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(read), "{text}");
        }
        for text in [
            "",
            ":80",
            "10.0.0.0/33:80",
            "10.0.0.1:0",
            "10.0.0.1:65536",
            "db:5432",
            "[::1:80",
            "[::1]80",
            "10.0.0.1:",
        ] {
            assert_eq!(text.parse::<DestinationMatch>(), Err(InvalidDestinationMatch(text.into())), "{text}");
        }
    }

    #[test]
    fn who_is_in_it_is_told() {
        for (text, address, has) in [
            ("10.0.0.0/8:5432", "10.1.2.3:5432", true),
            ("10.0.0.0/8:5432", "[::ffff:10.1.2.3]:5432", true),
            ("10.0.0.0/8:5432", "10.1.2.3:5433", false),
            ("10.0.0.0/8:5432", "11.1.2.3:5432", false),
            ("10.0.0.0/8", "10.1.2.3:1", true),
            ("[fd00::/8]:1", "[fd00::1]:1", true),
        ] {
            assert_eq!(
                text.parse::<DestinationMatch>().unwrap().has(address.parse().unwrap()),
                has,
                "{text} {address}"
            );
        }
    }
}
