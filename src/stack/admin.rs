//! The address for operators: is it alive, is it ready, what are its numbers, what is in force.
use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use tower_service::Service;

use crate::{
    body::Body,
    matching::Host,
    reject::{Protocol, Reason, Rejection},
};

/// Where operators ask, and under which names.
///
/// Whoever can reach it learns how the gateway is configured, and nobody is asked who they are: it belongs on a
/// loopback address or into a network of operators. Names that it is not known under are answered with 421, so that a
/// page in an operator's browser cannot reach it by DNS rebinding; IP addresses and `localhost` always pass.
#[derive(Debug, Clone)]
#[must_use]
pub struct Admin {
    pub(super) address: SocketAddr,
    hosts: Arc<[String]>,
}

impl Admin {
    /// At this address.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, hosts: Arc::new([]) }
    }

    /// Answers to these names, too, without their port.
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { hosts: hosts.into_iter().map(|host| host.into().to_ascii_lowercase()).collect(), ..self }
    }

    pub(super) fn knows(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok() || host == "localhost" || self.hosts.iter().any(|own| own == host)
    }
}

/// What the admin address tells of.
pub(super) trait Told: Send + Sync + 'static {
    /// Whether it is known under this name.
    fn knows(&self, host: &str) -> bool;
    /// Whether it serves; else why not.
    fn ready(&self) -> Result<(), &'static str>;
    /// The numbers as text, after its media type; if numbers are kept.
    fn metrics(&self) -> Option<(&'static str, String)>;
    /// JSON.
    fn status(&self) -> String;
}

/// Answers at the admin address.
#[derive(Clone)]
pub(super) struct AdminService<T>(T);

impl<T: Told> AdminService<T> {
    pub(super) const fn new(told: T) -> Self {
        Self(told)
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        match Host::of(request.uri(), request.headers()) {
            Ok(host) if self.0.knows(host.name()) => {}
            Ok(_) => {
                return Rejection::new(Reason::Misdirected).into_response(Protocol::Http).map(Body::from);
            }
            Err(_) => {
                return Rejection::new(Reason::BadRequest).into_response(Protocol::Http).map(Body::from);
            }
        }
        let asks = request.method() == Method::GET || request.method() == Method::HEAD;
        let text = |text: &str| answer(StatusCode::OK, "text/plain; charset=utf-8", format!("{text}\n"));
        match request.uri().path() {
            "/healthz" | "/readyz" | "/metrics" | "/status" if !asks => {
                let mut refused =
                    answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", String::new());
                refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                refused
            }
            "/healthz" => text("ok"),
            "/readyz" => match self.0.ready() {
                Ok(()) => text("ready"),
                Err(why) => {
                    answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", format!("{why}\n"))
                }
            },
            "/metrics" => match self.0.metrics() {
                Some((kind, metrics)) => answer(StatusCode::OK, kind, metrics),
                None => Rejection::new(Reason::NotImplemented).into_response(Protocol::Http).map(Body::from),
            },
            "/status" => answer(StatusCode::OK, "application/json", self.0.status()),
            _ => Rejection::new(Reason::NoRoute).into_response(Protocol::Http).map(Body::from),
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl<T> fmt::Debug for AdminService<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminService").finish_non_exhaustive()
    }
}

impl<T: Told, B> Service<Request<B>> for AdminService<T> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(&request)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(bool);

    impl Told for Fixed {
        fn knows(&self, host: &str) -> bool {
            Admin::at("127.0.0.1:9901".parse().unwrap()).hosts(["Ops.Example"]).knows(host)
        }
        fn ready(&self) -> Result<(), &'static str> {
            self.0.then_some(()).ok_or("draining")
        }
        fn metrics(&self) -> Option<(&'static str, String)> {
            self.0.then(|| ("text/plain", "up 1\n".to_owned()))
        }
        fn status(&self) -> String {
            "{}".to_owned()
        }
    }

    fn ask(ready: bool, method: &str, host: &str, path: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
        AdminService::new(Fixed(ready)).answer(&request).status().as_u16()
    }

    #[test]
    fn each_path_has_its_answer() {
        for (path, ready, other) in [
            ("/healthz", 200, 200),
            ("/readyz", 200, 503),
            ("/metrics", 200, 501),
            ("/status", 200, 200),
            ("/", 404, 404),
            ("/healthz/", 404, 404),
        ] {
            assert_eq!(ask(true, "GET", "127.0.0.1:9901", path), ready, "{path}");
            assert_eq!(ask(false, "GET", "127.0.0.1:9901", path), other, "{path}");
        }
        assert_eq!(ask(true, "HEAD", "127.0.0.1", "/healthz"), 200);
        assert_eq!(ask(true, "POST", "127.0.0.1", "/healthz"), 405);
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for known in
            ["127.0.0.1", "10.1.2.3:9901", "[::1]:9901", "localhost", "LOCALHOST:9901", "ops.example:1"]
        {
            assert_eq!(ask(true, "GET", known, "/status"), 200, "{known}");
        }
        for stranger in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "opsXexample"] {
            assert_eq!(ask(true, "GET", stranger, "/status"), 421, "{stranger}");
        }
        assert_eq!(ask(true, "GET", "a b", "/status"), 400);
        let request = Request::get("/status").body(()).unwrap();
        assert_eq!(AdminService::new(Fixed(true)).answer(&request).status(), 400);
    }
}
