use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::net::TcpStream;

use super::updates::{Broken, Updates};

/// Where the agent is, as the [SPIFFE Workload Endpoint](https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Workload_Endpoint.md)
/// writes it in section 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Why a text does not say where the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidEndpoint {
    /// The environment has no `SPIFFE_ENDPOINT_SOCKET`, or one that is not UTF-8.
    #[error("SPIFFE_ENDPOINT_SOCKET is not set: expected unix:///path/of/a/socket or tcp://127.0.0.1:8000")]
    NotSet,
    /// It begins with neither `unix:` nor `tcp:`.
    #[error("the endpoint of the Workload API begins with `unix:` or `tcp:`")]
    Scheme,
    /// It is no socket's path.
    #[error("expected unix:///path/of/a/socket: an absolute path, without host, query or fragment")]
    Unix,
    /// It is no IP address with a port.
    #[error("expected tcp://127.0.0.1:8000: an IP address and a port, without a path")]
    Tcp,
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        if let Some(rest) = text.strip_prefix("unix:") {
            // An authority must not be there, but may be empty.
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let is_path = path.len() > 1 && path.starts_with('/') && !path.starts_with("//");
            if !is_path || path.contains(['?', '#', '\0']) {
                return Err(InvalidEndpoint::Unix);
            }
            let path = percent_decode_str(path).decode_utf8().map_err(|_| InvalidEndpoint::Unix)?;
            return Ok(Self::Unix(PathBuf::from(&*path)));
        }
        let address = text.strip_prefix("tcp:").ok_or(InvalidEndpoint::Scheme)?;
        let address = address.strip_prefix("//").unwrap_or(address);
        address.parse().map(Self::Tcp).map_err(|_| InvalidEndpoint::Tcp)
    }
}

impl Endpoint {
    /// Asks there.
    pub(super) async fn ask(&self, method: &'static str) -> Result<Updates, Broken> {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => Updates::ask(tokio::net::UnixStream::connect(path).await?, method).await,
            #[cfg(not(unix))]
            Self::Unix(_) => Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into()),
            Self::Tcp(address) => Updates::ask(TcpStream::connect(address).await?, method).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_socket_or_an_address() {
        let unix = |path: &str| Ok(Endpoint::Unix(path.into()));
        let tcp = |address: &str| Ok(Endpoint::Tcp(address.parse().unwrap()));
        for (text, expected) in [
            ("unix:///run/spire/sockets/agent.sock", unix("/run/spire/sockets/agent.sock")),
            ("unix:/run/agent.sock", unix("/run/agent.sock")),
            ("unix:///run/my%20agent.sock", unix("/run/my agent.sock")),
            ("tcp://127.0.0.1:8000", tcp("127.0.0.1:8000")),
            ("tcp:127.0.0.1:8000", tcp("127.0.0.1:8000")),
            ("tcp://[::1]:8000", tcp("[::1]:8000")),
            ("", Err(InvalidEndpoint::Scheme)),
            ("/run/agent.sock", Err(InvalidEndpoint::Scheme)),
            ("https://127.0.0.1:8000", Err(InvalidEndpoint::Scheme)),
            ("unix:", Err(InvalidEndpoint::Unix)),
            ("unix:///", Err(InvalidEndpoint::Unix)),
            ("unix:run/agent.sock", Err(InvalidEndpoint::Unix)),
            ("unix://run/agent.sock", Err(InvalidEndpoint::Unix)),
            ("unix:////run/agent.sock", Err(InvalidEndpoint::Unix)),
            ("unix:///run/agent.sock?a=b", Err(InvalidEndpoint::Unix)),
            ("unix:///run/agent.sock#a", Err(InvalidEndpoint::Unix)),
            ("unix:///run/%ff.sock", Err(InvalidEndpoint::Unix)),
            ("tcp://127.0.0.1", Err(InvalidEndpoint::Tcp)),
            ("tcp://localhost:8000", Err(InvalidEndpoint::Tcp)),
            ("tcp://me@127.0.0.1:8000", Err(InvalidEndpoint::Tcp)),
            ("tcp://127.0.0.1:8000/", Err(InvalidEndpoint::Tcp)),
        ] {
            assert_eq!(text.parse::<Endpoint>(), expected, "{text}");
        }
    }
}
