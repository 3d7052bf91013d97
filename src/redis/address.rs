use std::str::FromStr;

use http::Uri;

/// Where a server is, as `redis://user@host:port/database`, or `rediss` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) user: Option<Box<str>>,
    pub(super) database: u16,
}

/// A text is not the address of a server. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// It is not of the form.
    #[error("expected `redis://host:port/database` or `rediss://...`")]
    Form,
    /// It has a password: addresses stand in files that many read, and in lists of processes.
    #[error("the password must not stand in the address, but in a file")]
    Password,
    /// There is none, or they do not agree on TLS, user and database.
    #[error("expected addresses that agree on TLS, user and database")]
    Servers,
    /// A Cluster has no databases but the first.
    #[error("a Cluster has no other database than 0")]
    Database,
}

impl Address {
    /// Another server of which all is the same but where it is.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        Self { host: host.into(), port, ..self.clone() }
    }

    /// All of these, which differ in where they are only.
    pub(super) fn all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, InvalidAddress> {
        let all = texts.into_iter().map(str::parse).collect::<Result<Vec<Self>, _>>()?;
        let first = all.first().ok_or(InvalidAddress::Servers)?;
        let agree = all.iter().all(|one| *one == first.at(&one.host, one.port));
        agree.then_some(all).ok_or(InvalidAddress::Servers)
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let uri: Uri = text.parse().map_err(|_| InvalidAddress::Form)?;
        let tls = match uri.scheme_str() {
            Some("redis") => false,
            Some("rediss") => true,
            _ => return Err(InvalidAddress::Form),
        };
        let authority = uri.authority().ok_or(InvalidAddress::Form)?;
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) {
            return Err(InvalidAddress::Password);
        }
        let database = match uri.path() {
            "" | "/" => 0,
            path => path[1..].parse().map_err(|_| InvalidAddress::Form)?,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = match (authority.port(), authority.port_u16()) {
            (None, _) => 6379,
            (Some(_), Some(port)) if port > 0 => port,
            _ => return Err(InvalidAddress::Form),
        };
        // What a query would mean, nobody knows.
        let known = uri.query().is_none() && !host.is_empty() && user != Some("") && !text.contains('%');
        let (host, user) = (host.into(), user.map(Into::into));
        known.then_some(Self { tls, host, port, user, database }).ok_or(InvalidAddress::Form)
    }
}
