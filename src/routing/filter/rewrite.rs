//! `URLRewrite`.

use http::{HeaderValue, Uri, header::HOST, uri::Authority};

use super::PathChange;
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    matching::{HostPattern, InvalidHost, ReceivedHost, with_path},
    reject::{Answer, Reason, Rejection},
};

/// Changes the host and the path that the upstream gets. The query is kept.
///
/// The host as it was received stays known as [`ReceivedHost`].
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    host: Option<(Authority, HeaderValue)>,
    path: Option<PathChange>,
}

impl Rewrite {
    /// Changes nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The upstream gets this host name, without a port.
    ///
    /// # Errors
    ///
    /// If `name` is no host name of RFC 1123.
    pub fn hostname(self, name: &str) -> Result<Self, InvalidHost> {
        let name = HostPattern::precise(name)?;
        let host = Authority::try_from(&*name).ok().zip(HeaderValue::from_str(&name).ok());
        Ok(Self { host: Some(host.ok_or_else(|| InvalidHost::new(&name))?), ..self })
    }

    /// The upstream gets the path as `change` makes it.
    #[must_use]
    pub fn path(self, change: PathChange) -> Self {
        Self { path: Some(change), ..self }
    }

    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for Rewrite {
    type Pass = ();

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if let Some((authority, value)) = &self.host {
            rewrite_host(head, authority, value)?;
        }
        if let Some(change) = &self.path {
            let path = head.uri().path();
            let changed = change.apply(path);
            if changed != path {
                *head.uri_mut() = with_path(head.uri(), &changed).map_err(Rejection::from)?;
            }
        }
        Ok(())
    }
}

/// In the header and in the target, where they name a host, so that they never name two.
fn rewrite_host(head: &mut Head<'_>, authority: &Authority, value: &HeaderValue) -> Result<(), Answer> {
    let in_target = head.uri().authority().is_some();
    let in_header = head.headers().contains_key(HOST);
    let received = match head.headers().get(HOST) {
        Some(host) => Some(host.clone()),
        None => head.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()),
    };
    if let Some(received) = received {
        head.extensions_mut().insert(ReceivedHost(received));
    }
    if in_target {
        let mut parts = std::mem::take(head.uri_mut()).into_parts();
        parts.authority = Some(authority.clone());
        *head.uri_mut() = Uri::from_parts(parts).map_err(|_| Answer::from(Reason::BadRequest))?;
    }
    if in_header || !in_target {
        head.headers_mut().insert(HOST, value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Request};

    fn rewritten(rewrite: &Rewrite, request: http::request::Builder) -> Request<()> {
        let mut request = request.body(()).unwrap();
        rewrite.check(&mut Head::of(&mut request)).unwrap();
        request
    }

    #[test]
    fn path_and_query_are_kept_apart() {
        let rewrite = Rewrite::new().path(PathChange::prefix("/foo", "/xyz").unwrap());
        let request = rewritten(&rewrite, Request::get("/foo/bar?a=/foo&b"));
        assert_eq!(request.uri(), "/xyz/bar?a=/foo&b");
        let request = rewritten(&rewrite, Request::get("https://a.example/foo?x"));
        assert_eq!(request.uri(), "https://a.example/xyz?x");
        let rewrite = Rewrite::new().path(PathChange::full("/all").unwrap());
        assert_eq!(rewritten(&rewrite, Request::get("/foo/bar?x=1")).uri(), "/all?x=1");
    }

    #[test]
    fn the_host_is_changed_wherever_it_stands() {
        let rewrite = Rewrite::new().hostname("Inner.Example").unwrap();
        let request = rewritten(&rewrite, Request::get("/x").header(HOST, "a.example:8080"));
        assert_eq!(request.headers()[HOST], "inner.example");
        assert_eq!(request.extensions().get::<ReceivedHost>().unwrap().0, "a.example:8080");
        let request = rewritten(&rewrite, Request::get("https://a.example:8443/x"));
        assert_eq!(request.uri(), "https://inner.example/x");
        assert!(!request.headers().contains_key(HOST));
        assert_eq!(request.extensions().get::<ReceivedHost>().unwrap().0, "a.example:8443");
        let request = rewritten(&rewrite, Request::get("http://a.example/x").header(HOST, "a.example"));
        assert_eq!(
            (request.uri().host(), &request.headers()[HOST]),
            (Some("inner.example"), &"inner.example".parse().unwrap())
        );
        let request = rewritten(&rewrite, Request::builder().method(Method::CONNECT).uri("a.example:443"));
        assert_eq!(request.uri(), "inner.example");
    }

    #[test]
    fn a_path_that_grows_too_long_is_a_bad_request() {
        let change = PathChange::prefix("/a", &format!("/{}", "b".repeat(40_000))).unwrap();
        let mut request = Request::get(format!("/a/{}", "c".repeat(40_000))).body(()).unwrap();
        let answer = Rewrite::new().path(change).check(&mut Head::of(&mut request)).unwrap_err();
        assert!(matches!(answer, Answer::Refuse(no) if no.reason() == Reason::BadRequest));
    }

    #[test]
    fn only_host_names_are_taken() {
        for name in ["*.example", "a b", "", "10.0.0.1", "a:80"] {
            assert!(Rewrite::new().hostname(name).is_err(), "{name}");
        }
    }
}
