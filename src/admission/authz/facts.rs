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
pub struct Facts<'a> {
    pub(super) principal: Option<&'a Principal>,
    pub(super) peer: Option<&'a PeerIdentity>,
    pub(super) client: Option<IpAddr>,
    pub(super) connected: Option<IpAddr>,
    pub(super) request: Option<Asked<'a>>,
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

/// What of a request has to be read and checked before rules can be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    pub(super) host: bool,
    pub(super) path: bool,
    pub(super) principal: bool,
    pub(super) peer: bool,
    pub(super) client: bool,
    pub(super) connected: bool,
    pub(super) paths: PathPolicy,
}

impl Needs {
    const ALL: Self = Self {
        host: true,
        path: true,
        principal: true,
        peer: true,
        client: true,
        connected: true,
        paths: PathPolicy::strict(),
    };

    /// What these rules look at.
    pub(super) fn of(set: &Set) -> Self {
        // A predicate may look at anything.
        if set.asks(|attribute| *attribute == Attribute::Predicate) {
            return Self::ALL;
        }
        Self {
            host: set.asks(|attribute| *attribute == Attribute::Host),
            path: set.asks(|attribute| *attribute == Attribute::Path),
            principal: set.asks(Attribute::is_of_caller),
            peer: set.asks(Attribute::is_of_peer),
            client: set.asks(|attribute| *attribute == Attribute::Client),
            connected: set.asks(|attribute| *attribute == Attribute::Connected),
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
        let request =
            Some(Asked { method: head.method(), host, path, query, headers: head.headers(), extensions });
        let principal = || extensions.get().filter(|principal: &&Principal| !principal.is_anonymous());
        let connected = || extensions.get().map(|peer: &PeerAddr| peer.ip());
        let client = || extensions.get().map(|client: &ClientAddr| client.ip()).or_else(connected);
        Ok(Self {
            principal: needs.principal.then(principal).flatten(),
            peer: needs.peer.then(|| extensions.get()).flatten(),
            client: needs.client.then(client).flatten(),
            connected: needs.connected.then(connected).flatten(),
            request,
        })
    }

    /// The facts of a connection that carries something else than HTTP.
    ///
    /// What only requests have is lacking then, and nobody can say what it would be: a rule of a DENY policy takes it
    /// for a match, one of an ALLOW policy does not.
    #[must_use]
    pub fn of_connection(address: Option<PeerAddr>, peer: Option<&'a PeerIdentity>) -> Self {
        let address = address.map(|address| address.ip());
        Self { principal: None, peer, client: address, connected: address, request: None }
    }

    /// Who was authenticated; never the anonymous principal.
    #[must_use]
    pub fn principal(&self) -> Option<&'a Principal> {
        self.principal
    }

    /// What the peer's certificate says.
    #[must_use]
    pub fn peer(&self) -> Option<&'a PeerIdentity> {
        self.peer
    }

    /// Whose request it is, through trusted proxies.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// The method, of a request.
    #[must_use]
    pub fn method(&self) -> Option<&'a Method> {
        Some(self.request.as_ref()?.method)
    }

    /// The host's name, in lower case and without its port, of a request.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        Some(&self.request.as_ref()?.host)
    }

    /// The path in its normal form, of a request.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        Some(&self.request.as_ref()?.path)
    }

    /// The header fields, of a request.
    #[must_use]
    pub fn headers(&self) -> Option<&'a HeaderMap> {
        Some(self.request.as_ref()?.headers)
    }

    /// What other layers have told about a request.
    #[must_use]
    pub fn extensions(&self) -> Option<&'a Extensions> {
        Some(self.request.as_ref()?.extensions)
    }
}

impl fmt::Debug for Facts<'_> {
    /// Header values and the query may hold secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("principal", &self.principal)
            .field("peer", &self.peer)
            .field("client", &self.client)
            .field("method", &self.method())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
