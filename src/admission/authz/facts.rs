use std::{borrow::Cow, fmt, net::IpAddr};

use http::{Extensions, HeaderMap, Method};

use super::{attribute::Attribute, set::Set};
use crate::{
    head::Head,
    identity::{ClientAddr, PeerAddr, PeerIdentity, Principal},
    matching::{Host, PathPolicy},
    reject::Rejection,
};

/// What a decision rests on: of a request, or of a connection that is not HTTP.
#[derive(Clone)]
pub struct Facts<'a>(Of<'a>);

#[derive(Clone)]
enum Of<'a> {
    Request(Asked<'a>),
    Connection(Option<IpAddr>, Option<&'a PeerIdentity>),
}

/// What only HTTP has.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) host: Cow<'a, str>,
    pub(super) path: Cow<'a, str>,
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

/// What of a request has to be read and checked before rules can be asked. The rest is looked up by the rule that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) host: bool,
    pub(super) path: bool,
    pub(super) paths: PathPolicy,
}

impl Needs {
    const ALL: Self = Self { host: true, path: true, paths: PathPolicy::strict() };

    /// What these rules look at.
    pub(super) fn of(set: &Set) -> Self {
        // A predicate may look at anything.
        if set.asks(|attribute| *attribute == Attribute::Predicate) {
            return Self::ALL;
        }
        Self {
            host: set.asks(|attribute| *attribute == Attribute::Host),
            path: set.asks(|attribute| *attribute == Attribute::Path),
            paths: PathPolicy::strict(),
        }
    }
}

impl<'a> Facts<'a> {
    /// The facts of a request, its path in the strict normal form.
    ///
    /// # Errors
    ///
    /// [`BadRequest`](crate::reject::Reason::BadRequest) if it has no single host, or no normal path.
    pub fn of(head: &'a Head<'_>) -> Result<Self, Rejection> {
        Self::read(head, Needs::ALL)
    }

    pub(super) fn read(head: &'a Head<'_>, needs: Needs) -> Result<Self, Rejection> {
        let (uri, extensions) = (head.uri(), head.extensions());
        let host = match needs.host {
            true => Host::of(uri, head.headers()).map_err(Rejection::from)?.into_name(),
            false => Cow::Borrowed(""),
        };
        let path = match uri.path() {
            "*" if *head.method() == Method::OPTIONS => Cow::Borrowed("*"),
            "" if *head.method() == Method::CONNECT => Cow::Borrowed(""),
            path if needs.path => needs.paths.normalize(path).map_err(Rejection::from)?,
            path => Cow::Borrowed(path),
        };
        let query = uri.query().unwrap_or_default();
        let (method, headers) = (head.method(), head.headers());
        Ok(Self(Of::Request(Asked { method, host, path, query, headers, extensions })))
    }

    /// The facts of a connection that carries something else than HTTP.
    ///
    /// What only requests have is lacking then, and nobody can say what it would be: a rule of a DENY policy takes it
    /// for a match, one of an ALLOW policy does not.
    #[must_use]
    pub fn of_connection(address: Option<PeerAddr>, peer: Option<&'a PeerIdentity>) -> Self {
        Self(Of::Connection(address.map(|address| address.ip()), peer))
    }

    /// What only a request has.
    pub(super) const fn request(&self) -> Option<&Asked<'a>> {
        match &self.0 {
            Of::Request(asked) => Some(asked),
            Of::Connection(..) => None,
        }
    }

    /// Who was authenticated; never the anonymous principal.
    #[must_use]
    pub fn principal(&self) -> Option<&'a Principal> {
        self.extensions()?.get().filter(|principal: &&Principal| !principal.is_anonymous())
    }

    /// What the peer's certificate says.
    #[must_use]
    pub fn peer(&self) -> Option<&'a PeerIdentity> {
        match self.0 {
            Of::Request(Asked { extensions, .. }) => extensions.get(),
            Of::Connection(_, peer) => peer,
        }
    }

    /// Whose request it is, through trusted proxies.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        let told = self.extensions().and_then(|extensions| extensions.get());
        told.map(|client: &ClientAddr| client.ip()).or_else(|| self.connected())
    }

    /// Who has the connection to us.
    pub(super) fn connected(&self) -> Option<IpAddr> {
        match self.0 {
            Of::Request(Asked { extensions, .. }) => extensions.get().map(|peer: &PeerAddr| peer.ip()),
            Of::Connection(address, _) => address,
        }
    }

    /// The method, of a request.
    #[must_use]
    pub fn method(&self) -> Option<&'a Method> {
        Some(self.request()?.method)
    }

    /// The host's name, in lower case and without its port, of a request.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        Some(&self.request()?.host)
    }

    /// The path in its normal form, of a request.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        Some(&self.request()?.path)
    }

    /// The header fields, of a request.
    #[must_use]
    pub fn headers(&self) -> Option<&'a HeaderMap> {
        Some(self.request()?.headers)
    }

    /// What other layers have told about a request.
    #[must_use]
    pub fn extensions(&self) -> Option<&'a Extensions> {
        Some(self.request()?.extensions)
    }
}

impl fmt::Debug for Facts<'_> {
    /// Header values and the query may hold secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("principal", &self.principal())
            .field("peer", &self.peer())
            .field("client", &self.client())
            .field("method", &self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
