//! One spelling of a request, before anyone looks at it.

use std::borrow::Cow;

use http::{Method, Uri, uri::PathAndQuery};

use super::{BadHost, BadPath, Host, PathPolicy};
use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

/// Refuses a request without a single valid host, and brings its path into the normal form, in place, so that
/// the upstream gets what was matched. The query is left as it is.
///
/// `*` is a path only of `OPTIONS`; a plain CONNECT has none. See the [module docs](super).
///
/// ```
/// use http::Request;
/// use portcullis::{gate::Gate, head::Head, matching::Normalize};
///
/// let mut request = Request::get("/a/%2e%2E/b%7e?q=%2e").header("host", "a.example").body(())?;
/// Normalize::new().check(&mut Head::of(&mut request)).unwrap();
/// assert_eq!(request.uri(), "/b~?q=%2e");
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Normalize {
    paths: PathPolicy,
}

impl Normalize {
    /// With the strict policy for paths.
    #[must_use]
    pub const fn new() -> Self {
        Self { paths: PathPolicy::strict() }
    }

    /// With this policy for paths.
    #[must_use]
    pub const fn paths(self, paths: PathPolicy) -> Self {
        Self { paths }
    }

    /// The layer with this gate.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }

    fn path<'u>(self, method: &Method, uri: &'u Uri) -> Result<Cow<'u, str>, BadPath> {
        match uri.path() {
            "*" if *method == Method::OPTIONS => Ok(Cow::Borrowed("*")),
            "" if *method == Method::CONNECT => Ok(Cow::Borrowed("")),
            path => self.paths.normalize(path),
        }
    }
}

impl Gate for Normalize {
    type Pass = ();
    /// A path that is normal for some of the traffic only is matched rightly for some of it only.
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        Host::of(head.uri(), head.headers()).map_err(Rejection::from)?;
        let path = self.path(head.method(), head.uri()).map_err(Rejection::from)?;
        if let Cow::Owned(path) = path {
            *head.uri_mut() = with_path(head.uri(), &path).map_err(Rejection::from)?;
        }
        Ok(())
    }
}

/// `uri` with `path` in the place of its own. The query is kept.
pub(crate) fn with_path(uri: &Uri, path: &str) -> Result<Uri, BadPath> {
    let query = uri.query().map_or(0, |query| 1 + query.len());
    let mut text = String::with_capacity(path.len() + query);
    text.push_str(path);
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(|_| BadPath::TooLong)?);
    Uri::from_parts(parts).map_err(|_| BadPath::TooLong)
}

impl From<BadHost> for Rejection {
    fn from(bad: BadHost) -> Self {
        Self::new(Reason::BadRequest).detail(bad.to_string())
    }
}

impl From<BadPath> for Rejection {
    fn from(bad: BadPath) -> Self {
        Self::new(Reason::BadRequest).detail(bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{matching::PathQuirk, reject::Protocol};
    use http::Request;
    use proptest::prelude::*;

    fn normalized(method: Method, uri: &str, host: Option<&str>) -> Result<String, Reason> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let mut request = request.body(()).unwrap();
        match Normalize::new().check(&mut Head::of(&mut request)) {
            Ok(()) => Ok(request.uri().to_string()),
            Err(Answer::Refuse(rejection)) => Err(rejection.reason()),
            Err(Answer::Respond(response)) => panic!("{response:?}"),
        }
    }

    #[test]
    fn the_path_is_changed_in_place_in_each_form_of_a_request() {
        let host = Some("a.example");
        assert_eq!(normalized(Method::GET, "/a/./b?c=/./d", host).unwrap(), "/a/b?c=/./d");
        assert_eq!(normalized(Method::GET, "https://a.example//b", None).unwrap(), "https://a.example/b");
        assert_eq!(normalized(Method::GET, "https://a.example", None).unwrap(), "https://a.example/");
        assert_eq!(normalized(Method::OPTIONS, "*", host).unwrap(), "*");
        assert_eq!(normalized(Method::CONNECT, "a.example:443", None).unwrap(), "a.example:443");
    }

    #[test]
    fn what_has_no_normal_form_is_a_bad_request() {
        let host = Some("a.example");
        for (method, uri, host) in [
            (Method::GET, "/", None),
            (Method::GET, "/", Some("a b")),
            (Method::GET, "http://b.example/", host),
            (Method::GET, "/..", host),
            (Method::GET, "/a%2fb", host),
            (Method::GET, "/%zz", host),
            (Method::GET, "*", host),
            (Method::GET, "a.example:443", host),
        ] {
            assert_eq!(normalized(method, uri, host), Err(Reason::BadRequest), "{uri} {host:?}");
        }
    }

    #[test]
    fn a_path_that_grows_too_long_is_refused() {
        let uri = format!("/{}", "{".repeat(30_000));
        assert_eq!(normalized(Method::GET, &uri, Some("a.example")), Err(Reason::BadRequest));
    }

    #[test]
    fn a_refusal_is_rendered_for_both_protocols() {
        let http = Rejection::from(BadHost::Missing).into_response(Protocol::Http);
        assert_eq!(http.status(), 400);
        let grpc = Rejection::from(BadPath::Quirk(PathQuirk::Climbing)).into_response(Protocol::Grpc);
        assert_eq!((grpc.status().as_u16(), &grpc.headers()["grpc-status"]), (200, &"13".parse().unwrap()));
    }

    #[test]
    fn a_normal_request_costs_no_allocation() {
        let mut request = Request::get("/a/b.c?d=e").header("host", "a.example:80").body(()).unwrap();
        let info = allocation_counter::measure(|| {
            assert!(Normalize::new().check(&mut Head::of(&mut request)).is_ok());
        });
        assert_eq!(info.count_total, 0);
    }

    proptest! {
        #[test]
        fn any_target_is_taken_without_a_panic(uri in "/[ -~]{0,40}", host in "[ -~]{0,20}") {
            if let Ok(request) = Request::get(uri).header("host", host).body(()) {
                let mut request = request;
                if Normalize::new().check(&mut Head::of(&mut request)).is_ok() {
                    let once = request.uri().clone();
                    prop_assert!(Normalize::new().check(&mut Head::of(&mut request)).is_ok());
                    prop_assert_eq!(request.uri(), &once);
                }
            }
        }
    }
}
