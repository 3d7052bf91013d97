use std::{fmt, path::PathBuf, time::Duration};

use super::{Redis, address::Address};
use crate::tls::ClientTls;

/// How long a command may take, unless told.
const DEADLINE: Duration = Duration::from_millis(50);
/// What keys begin with, unless told.
const NAMESPACE: &str = "portcullis";

/// Gathers what a connection needs. See the [module docs](super).
#[derive(Clone)]
#[must_use]
pub struct RedisBuilder {
    pub(super) servers: Servers,
    pub(super) password: Option<PathBuf>,
    pub(super) sentinel_password: Option<PathBuf>,
    pub(super) tls: Option<ClientTls>,
    pub(super) namespace: Box<str>,
    pub(super) deadline: Duration,
}

/// Which servers there are.
#[derive(Debug, Clone)]
pub(super) enum Servers {
    Alone(Address),
    /// The master of this name, of which these know.
    Sentinel {
        master: Box<str>,
        sentinels: Vec<Address>,
    },
    /// The nodes of which these know.
    Cluster(Vec<Address>),
}

impl RedisBuilder {
    pub(super) fn new(servers: Servers) -> Self {
        Self {
            servers,
            password: None,
            sentinel_password: None,
            tls: None,
            namespace: NAMESPACE.into(),
            deadline: DEADLINE,
        }
    }

    /// The file that holds the password. It is read at each connection; line ends at its end are not part of it.
    pub fn password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.password = Some(path.into());
        self
    }

    /// The file that holds the password of the Sentinels, whom nobody tells a name. They are asked without unless told.
    pub fn sentinel_password_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.sentinel_password = Some(path.into());
        self
    }

    /// Who a server of `rediss` must be; whom the platform trusts unless told.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What all keys begin with, before a `:`. Default: `portcullis`.
    pub fn namespace(mut self, namespace: impl Into<Box<str>>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long a command may take, unless whoever sends it says otherwise. Default: 50 ms.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The connection. Nothing is connected yet.
    #[must_use]
    pub fn build(self) -> Redis {
        Redis::of(self)
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field("servers", &self.servers)
            .field("namespace", &self.namespace)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
