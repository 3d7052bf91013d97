//! `RequestRedirect`.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::LOCATION, uri};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use super::PathChange;
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    identity::Entrance,
    matching::{BadPath, Host, HostPattern, InvalidHost},
    reject::{Answer, Rejection},
};

/// The scheme of a redirect's `Location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `http`, whose port is 80.
    Http,
    /// `https`, whose port is 443.
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A status is none of those of a redirect: 301, 302, 303, 307, 308.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no status of a redirect: 301, 302, 303, 307 and 308 are")]
pub struct InvalidStatus(u16);

/// Answers with a redirect. What it does not change of the request's address is kept, the query always.
#[derive(Clone, Debug)]
pub struct Redirect {
    scheme: Option<Scheme>,
    hostname: Option<Box<str>>,
    path: Option<PathChange>,
    port: Option<u16>,
    status: StatusCode,
    listener: Option<(Scheme, u16)>,
}

impl Redirect {
    /// A 302 to where the request came.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scheme: None,
            hostname: None,
            path: None,
            port: None,
            status: StatusCode::FOUND,
            listener: None,
        }
    }

    /// To this scheme, and to its well-known port unless [`port`](Self::port) says otherwise.
    #[must_use]
    pub fn scheme(self, scheme: Scheme) -> Self {
        Self { scheme: Some(scheme), ..self }
    }

    /// To this host.
    ///
    /// # Errors
    ///
    /// If `name` is no host name of RFC 1123.
    pub fn hostname(self, name: &str) -> Result<Self, InvalidHost> {
        Ok(Self { hostname: Some(HostPattern::precise(name)?), ..self })
    }

    /// To the path as `change` makes it.
    #[must_use]
    pub fn path(self, change: PathChange) -> Self {
        Self { path: Some(change), ..self }
    }

    /// To this port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port: Some(port), ..self }
    }

    /// With this status.
    ///
    /// # Errors
    ///
    /// If it is none of 301, 302, 303, 307 and 308.
    pub fn status(self, status: u16) -> Result<Self, InvalidStatus> {
        match StatusCode::from_u16(status) {
            Ok(code) if matches!(status, 301 | 302 | 303 | 307 | 308) => Ok(Self { status: code, ..self }),
            _ => Err(InvalidStatus(status)),
        }
    }

    /// Scheme and port of the listener that requests come in by, for where the redirect names neither.
    ///
    /// Without them both are those of the [`Entrance`] in the request's extensions, which a gateway leaves there for the
    /// filters of its rules, however they are wrapped. Where there is none,
    /// the scheme is the one that the listener left there ([`http::uri::Scheme`]), or that of the request target, or `http`; and the
    /// port is that of the host.
    #[must_use]
    pub fn listener(self, scheme: Scheme, port: u16) -> Self {
        Self { listener: Some((scheme, port)), ..self }
    }

    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    /// Whether it leads nowhere but to the host that was asked, and not out of TLS.
    #[cfg(feature = "stack")]
    pub(crate) fn stays(&self) -> bool {
        self.hostname.is_none() && self.scheme != Some(Scheme::Http)
    }

    fn location(&self, head: &Head<'_>) -> Result<HeaderValue, Rejection> {
        let uri = head.uri();
        let host = Host::of(uri, head.headers())?;
        let entrance = head.extensions().get::<Entrance>();
        let known = head.extensions().get::<uri::Scheme>().or(uri.scheme());
        let known = entrance.map(Entrance::scheme).or(known);
        let received = if known == Some(&uri::Scheme::HTTPS) { Scheme::Https } else { Scheme::Http };
        let scheme = self.scheme.or(self.listener.map(|(scheme, _)| scheme)).unwrap_or(received);
        // A scheme that is named has its own port; else the port stays what it is.
        let own = self.listener.map(|(_, port)| port).or_else(|| entrance.and_then(Entrance::port));
        let own = own.or(host.port()).filter(|_| self.scheme.is_none());
        let port = self.port.or(own).filter(|port| *port != scheme.port());
        let path = self.path.as_ref().map_or(uri.path().into(), |change| change.apply(uri.path()));
        if !path.starts_with('/') {
            return Err(BadPath::NotAbsolute.into());
        }

        let mut location = format!("{}://{}", scheme.name(), self.hostname.as_deref().unwrap_or(host.name()));
        if let Some(port) = port {
            let _ = write!(location, ":{port}");
        }
        location.push_str(&path);
        if let Some(query) = uri.query() {
            location.push('?');
            location.extend(utf8_percent_encode(query, CONTROLS));
        }
        HeaderValue::try_from(location).map_err(|_| BadPath::TooLong.into())
    }
}

impl Default for Redirect {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate for Redirect {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        let location = self.location(head)?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = self.status;
        response.headers_mut().insert(LOCATION, location);
        Err(response.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reason;
    use http::Request;

    fn answer(redirect: &Redirect, uri: &str, host: Option<&str>) -> Result<(u16, String), Reason> {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        match redirect.check(&mut Head::of(&mut request.body(()).unwrap())).unwrap_err() {
            Answer::Respond(response) => {
                assert!(response.body().is_empty());
                let location = response.headers()[LOCATION].to_str().unwrap().to_owned();
                Ok((response.status().as_u16(), location))
            }
            Answer::Refuse(rejection) => Err(rejection.reason()),
        }
    }

    fn location(redirect: &Redirect, uri: &str, host: &str) -> String {
        answer(redirect, uri, Some(host)).unwrap().1
    }

    #[test]
    fn what_is_not_changed_is_kept() {
        assert_eq!(
            answer(&Redirect::new(), "/a?b=c", Some("A.example:8080")),
            Ok((302, "http://a.example:8080/a?b=c".into()))
        );
        assert_eq!(
            answer(&Redirect::new(), "https://a.example/", None),
            Ok((302, "https://a.example/".into()))
        );
        let host = Redirect::new().hostname("b.example").unwrap();
        assert_eq!(location(&host, "/a", "a.example"), "http://b.example/a");
        assert_eq!(location(&host, "/a", "[::1]:81"), "http://b.example:81/a");
    }

    #[test]
    fn the_port_follows_the_rules_of_the_standard() {
        let on_8080 = Redirect::new().listener(Scheme::Http, 8080);
        let on_443 = Redirect::new().listener(Scheme::Https, 443);
        for (redirect, expected) in [
            (on_8080.clone(), "http://a.example:8080/"),
            (on_8080.clone().scheme(Scheme::Https), "https://a.example/"),
            (on_8080.clone().scheme(Scheme::Http), "http://a.example/"),
            (on_8080.clone().scheme(Scheme::Https).port(8443), "https://a.example:8443/"),
            (on_8080.clone().port(80), "http://a.example/"),
            (on_8080.port(443), "http://a.example:443/"),
            (on_443.clone(), "https://a.example/"),
            (on_443.clone().port(443), "https://a.example/"),
            (on_443.clone().port(80), "https://a.example:80/"),
            (on_443.clone().scheme(Scheme::Http), "http://a.example/"),
            (on_443.scheme(Scheme::Http).port(443), "http://a.example:443/"),
        ] {
            assert_eq!(location(&redirect, "/", "a.example:1234"), expected);
        }
    }

    /// Whatever a client writes of both into its request.
    #[test]
    fn who_knows_where_it_has_come_in_is_sent_back_there() {
        for (entrance, host, expected) in [
            (Entrance::new(uri::Scheme::HTTP, 8080), "a.example:1234", "http://a.example:8080/"),
            (Entrance::new(uri::Scheme::HTTP, 80), "a.example:1234", "http://a.example/"),
            (Entrance::new(uri::Scheme::HTTPS, 443), "a.example", "https://a.example/"),
            (Entrance::new(uri::Scheme::HTTPS, None), "a.example:1234", "https://a.example:1234/"),
            (Entrance::new(uri::Scheme::HTTPS, None), "a.example", "https://a.example/"),
        ] {
            let mut request = Request::get("https://other.example/").header("host", host).body(()).unwrap();
            *request.uri_mut() = "/".parse().unwrap();
            request.extensions_mut().insert(entrance);
            let told = Redirect::new().location(&Head::of(&mut request)).unwrap();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn paths_are_changed_and_the_query_is_kept() {
        let prefix = Redirect::new().path(PathChange::prefix("/old", "/new").unwrap());
        assert_eq!(location(&prefix, "/old/x?y=%20z", "a"), "http://a/new/x?y=%20z");
        let full = Redirect::new().path(PathChange::full("/only").unwrap());
        assert_eq!(location(&full, "/old?y", "a"), "http://a/only?y");
        assert_eq!(location(&Redirect::new(), "/?\u{e9}=1", "a"), "http://a/?%C3%A9=1");
    }

    #[test]
    fn statuses_are_those_of_redirects() {
        for status in [301, 302, 303, 307, 308] {
            let redirect = Redirect::new().status(status).unwrap();
            assert_eq!(answer(&redirect, "/", Some("a")).unwrap().0, status);
        }
        for status in [0, 200, 300, 304, 305, 400, 1000] {
            assert_eq!(Redirect::new().status(status).unwrap_err(), InvalidStatus(status));
        }
    }

    #[test]
    fn without_a_host_there_is_nowhere_to_go() {
        assert_eq!(answer(&Redirect::new(), "/", None), Err(Reason::BadRequest));
        assert_eq!(answer(&Redirect::new(), "*", Some("a")), Err(Reason::BadRequest));
    }
}
