use std::{sync::Arc, time::Duration};

use http::HeaderName;

#[cfg(feature = "stack")]
use crate::key::Key;
use crate::time::WallClock;

/// Keeps each client at one endpoint, by a token that it is given with the answer and sends with what it asks next: Envoy's
/// stateful session, and the Gateway API's session persistence.
///
/// The token names the endpoint under a [key](super::SessionKey), so that it shows no address, and is sealed, so that nobody
/// can make one: a client can come back to an endpoint where it was, and to no other. What is malformed, of another key or
/// too old is as if it were not there. An endpoint that has left the set, or takes no requests
/// ([`Availability`](crate::upstream::Availability)), loses its sessions: the client is sent to another, and its session goes
/// on there, unless it is [strict](Self::strict). A retry goes elsewhere, and the session with it. A session begins with an
/// answer that is no failure of the server's.
///
/// ```
/// use std::time::Duration;
/// use portcullis::upstream::{Proxy, Session, SessionCookie, Upstream};
///
/// let carts = Upstream::builder("carts").endpoints(["192.0.2.1:9000", "192.0.2.2:9000"]).build()?;
/// let session = Session::cookie(SessionCookie::new("cart")?).idle_timeout(Duration::from_secs(1800));
/// let proxy = Proxy::new(carts).session(session);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Session {
    pub(super) carrier: Carrier,
    absolute: Option<Duration>,
    idle: Option<Duration>,
    pub(super) strict: bool,
    pub(super) clock: WallClock,
}

/// In what a client carries its session.
#[derive(Debug, Clone)]
pub(super) enum Carrier {
    Cookie(SessionCookie),
    Header(HeaderName),
}

impl Session {
    /// In a cookie, as browsers do.
    pub fn cookie(cookie: SessionCookie) -> Self {
        Self::by(Carrier::Cookie(cookie))
    }

    /// In a header of this name, which clients copy from an answer to what they ask next.
    pub fn header(name: HeaderName) -> Self {
        Self::by(Carrier::Header(name))
    }

    fn by(carrier: Carrier) -> Self {
        Self { carrier, absolute: None, idle: None, strict: false, clock: WallClock::system() }
    }

    /// Where in a request it stands.
    #[cfg(feature = "stack")]
    pub(crate) fn key(&self) -> Key {
        match &self.carrier {
            Carrier::Cookie(cookie) => Key::Cookie(Arc::clone(&cookie.name)),
            Carrier::Header(name) => Key::Header(name.clone()),
        }
    }

    /// How old a session becomes; then the client gets a new one, anywhere. By default without bound.
    pub fn absolute_timeout(mut self, timeout: Duration) -> Self {
        self.absolute = Some(timeout);
        self
    }

    /// How long a session is kept without a request, to within a tenth: the token is renewed when so much has passed. By
    /// default without bound.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle = Some(timeout);
        self
    }

    /// Whether a request whose endpoint is gone, or takes no requests, is refused, instead of going to another: for what
    /// would be lost there. If the endpoint has left the set the cookie is taken back with the refusal, so that the next
    /// request begins anew. By default it goes to another.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// What the time is asked of. By default the system.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// For how long a session of that age may still be used, in seconds; `None`: there is no bound.
    pub(super) fn left(&self, age: u32) -> Option<u64> {
        Some(self.absolute?.as_secs().saturating_sub(age.into()))
    }

    pub(super) fn is_alive(&self, age: u32, idle: u32) -> bool {
        let within = |bound: Option<Duration>, passed: u32| {
            bound.is_none_or(|bound| Duration::from_secs(passed.into()) < bound)
        };
        within(self.absolute, age) && within(self.idle, idle)
    }

    /// Whether it must be told that somebody used it.
    pub(super) fn is_due(&self, idle: u32) -> bool {
        self.idle.is_some_and(|bound| idle > 0 && Duration::from_secs(idle.into()) >= bound / 10)
    }
}

/// The cookie of a [`Session`]: `HttpOnly`, for the path `/`, `SameSite=Lax`, `Secure` on requests that came over HTTPS, and
/// gone when the browser is closed, unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct SessionCookie {
    pub(super) name: Arc<str>,
    pub(super) path: Arc<str>,
    pub(super) same_site: SameSite,
    pub(super) secure: Option<bool>,
    pub(super) permanent: bool,
}

/// Why a cookie cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// Its name is no token of RFC 9110, or longer than 128 bytes.
    #[error("{0:?} is no name of a cookie")]
    Name(String),
    /// Its path does not begin with `/`, or has characters that cannot stand in one.
    #[error("{0:?} is no path of a cookie")]
    Path(String),
    /// Browsers would not take it: what begins with `__Secure-` or `__Host-` has to be `Secure`, and with the latter for the
    /// path `/` (RFC 6265bis section 4.1.3).
    #[error(
        "browsers would not take {0:?}: its name says that it is `Secure`, and with `__Host-` for the path `/`"
    )]
    Prefix(String),
}

/// On which requests from other sites a browser sends a cookie (RFC 6265bis section 5.4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SameSite {
    /// When its user follows a link.
    #[default]
    Lax,
    /// On none.
    Strict,
    /// On all. Browsers ask for `Secure` then, which is set.
    None,
}

impl SessionCookie {
    /// A cookie of this name. One that begins with `__Host-` or `__Secure-` is `Secure`, which browsers ask for.
    ///
    /// # Errors
    ///
    /// What is no name of a cookie (RFC 6265 section 4.1.1), or longer than 128 bytes.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidCookie> {
        let name = name.into();
        // The name of a header is a token as well.
        if name.len() > 128 || HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(InvalidCookie::Name((*name).into()));
        }
        let mut this =
            Self { name, path: "/".into(), same_site: SameSite::Lax, secure: None, permanent: false };
        this.secure = this.must_be_secure().then_some(true);
        Ok(this)
    }

    fn must_be_secure(&self) -> bool {
        self.is_named("__Secure-") || self.is_named("__Host-")
    }

    /// Browsers do not tell upper from lower case in what a name begins with.
    fn is_named(&self, prefix: &str) -> bool {
        self.name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix))
    }

    /// For which paths browsers send it. By default for all.
    ///
    /// # Errors
    ///
    /// What is no path of a cookie, or another than `/` for one that begins with `__Host-`.
    pub fn path(mut self, path: impl Into<Arc<str>>) -> Result<Self, InvalidCookie> {
        self.path = path.into();
        let fits = |byte: u8| matches!(byte, b' '..=b'~') && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(fits) {
            return Err(InvalidCookie::Path((*self.path).into()));
        }
        if self.is_named("__Host-") && &*self.path != "/" {
            return Err(InvalidCookie::Prefix((*self.name).into()));
        }
        Ok(self)
    }

    /// On which requests from other sites browsers send it. By default when their user follows a link.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Whether browsers send it over HTTPS only. By default if the request came over that, as far as it is known: from the
    /// connection, or from a [trusted proxy](crate::upstream::Proxy::trusted_proxies) in `X-Forwarded-Proto`.
    ///
    /// # Errors
    ///
    /// One that begins with `__Host-` or `__Secure-` cannot be sent in the clear.
    pub fn secure(mut self, secure: bool) -> Result<Self, InvalidCookie> {
        if !secure && self.must_be_secure() {
            return Err(InvalidCookie::Prefix((*self.name).into()));
        }
        self.secure = Some(secure);
        Ok(self)
    }

    /// Whether a browser keeps it when it is closed, for as long as the session's
    /// [`absolute_timeout`](Session::absolute_timeout); without that it has no effect. By default it does not.
    pub fn permanent(mut self, permanent: bool) -> Self {
        self.permanent = permanent;
        self
    }
}
