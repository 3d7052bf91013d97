//! A guard against requests that other sites make in a visitor's name.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
};

use http::{
    HeaderName, Method, Request, Response,
    header::{HOST, ORIGIN},
};
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    gate::{Gate, GateLayer},
    head::Head,
    reject::{Answer, Reason, Rejection},
};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A text is no origin as a browser sends it: `scheme://host` or `scheme://host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an origin as browsers send it, such as `https://admin.shop.example`")]
pub struct InvalidOrigin;

/// Refuses requests by which another site's page would change something (CSRF), with 403.
///
/// It decides as tower-http's `csrf` does, after Go's `CrossOriginProtection`: `GET`, `HEAD` and `OPTIONS` pass; others
/// do if the browser says that they come from the same origin (`Sec-Fetch-Site`), if their `Origin` is trusted or is
/// the host that they ask, or if they have neither header and are therefore of no browser. One of these headers twice is
/// refused.
///
/// Needed where a browser sends credentials by itself, as it does cookies. It stands outside of authentication.
///
/// ```
/// use http::Request;
/// use portcullis::{gate::Gate, head::Head, routing::filter::Csrf};
///
/// let guard = Csrf::new().trust("https://admin.shop.example")?;
/// let request = |origin: &str| Request::post("/").header("host", "shop.example").header("origin", origin).body(());
/// assert!(guard.check(&mut Head::of(&mut request("https://shop.example")?)).is_ok());
/// assert!(guard.check(&mut Head::of(&mut request("https://admin.shop.example")?)).is_ok());
/// assert!(guard.check(&mut Head::of(&mut request("https://evil.example")?)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Csrf(CsrfLayer);

impl Csrf {
    /// Trusts no other origin.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts another origin, written exactly as a browser sends it: in lower case, without a default port.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn trust(self, origin: &str) -> Result<Self, InvalidOrigin> {
        let spoils = |tail: &str| tail.contains('/') || tail.ends_with(":80") || tail.ends_with(":443");
        let host = origin.split_once("://").map(|(_, host)| host).ok_or(InvalidOrigin)?;
        if spoils(host) || origin.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(InvalidOrigin);
        }
        self.0.add_trusted_origin(origin).map(Self).map_err(|_| InvalidOrigin)
    }

    /// As a layer.
    #[must_use]
    pub fn layer(self) -> GateLayer<Self> {
        GateLayer::new(self)
    }
}

impl Gate for Csrf {
    type Pass = ();
    const SHAREABLE: bool = false;

    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        if matches!(*head.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let mut scratch = Request::new(());
        *scratch.method_mut() = head.method().clone();
        *scratch.uri_mut() = head.uri().clone();
        for name in [ORIGIN, SEC_FETCH_SITE, HOST] {
            let mut lines = head.headers().get_all(&name).iter();
            if let Some(line) = lines.next() {
                scratch.headers_mut().insert(name, line.clone());
            }
            if lines.next().is_some() {
                return Err(refused("a header that says where it comes from is repeated").into());
            }
        }
        // It answers at once: nothing in it waits.
        let mut judge = self.0.layer(Passed);
        let judged = pin!(judge.call(scratch)).poll(&mut Context::from_waker(Waker::noop()));
        match judged {
            Poll::Ready(Ok(response)) if response.extensions().get::<ProtectionError>().is_none() => Ok(()),
            _ => Err(refused("another site's page asks for a change").into()),
        }
    }
}

fn refused(detail: &'static str) -> Rejection {
    Rejection::new(Reason::Forbidden).detail(detail)
}

/// What the layer of tower-http is asked around.
#[derive(Clone, Copy)]
struct Passed;

impl Service<Request<()>> for Passed {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Protocol;

    fn check(guard: &Csrf, method: &str, lines: &[(&str, &str)]) -> Option<Rejection> {
        let mut request = Request::builder().method(method).uri("/transfer");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        match guard.check(&mut Head::of(&mut request.body(()).unwrap())) {
            Ok(()) => None,
            Err(Answer::Refuse(rejection)) => Some(rejection),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn changes_come_from_the_same_origin_or_a_trusted_one_or_from_no_browser() {
        let guard = Csrf::new().trust("https://admin.example").unwrap();
        for (lines, passes) in [
            (&[][..], true),
            (&[("origin", "https://shop.example")], true),
            (&[("origin", "http://shop.example")], true),
            (&[("origin", "https://admin.example")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://shop.example")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://admin.example")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://www.shop.example")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "https://shop.example.evil.example")], false),
            (&[("origin", "https://shop.example:8443")], false),
            (&[("origin", "null")], false),
            (&[("origin", "https://shop.example"), ("origin", "https://evil.example")], false),
            (&[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], false),
        ] {
            let lines: Vec<_> = [("host", "shop.example")].iter().chain(lines).copied().collect();
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
                assert_eq!(check(&guard, method, &lines).is_none(), passes, "{method} {lines:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(check(&guard, method, &lines).is_none(), "{method} {lines:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_403_and_permission_denied() {
        let refused = check(&Csrf::new(), "POST", &[("host", "a"), ("origin", "https://b")]).unwrap();
        assert_eq!(refused.clone().into_response(Protocol::Http).status(), 403);
        assert_eq!(refused.into_response(Protocol::Grpc).headers()["grpc-status"], "7");
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for origin in [
            "",
            "*",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://Shop.example",
            "https://shop.example:443",
            "null",
        ] {
            assert_eq!(Csrf::new().trust(origin).err(), Some(InvalidOrigin), "{origin}");
        }
        assert!(Csrf::new().trust("http://localhost:3000").is_ok());
    }
}
