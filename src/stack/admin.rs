//! The address for operators: is it alive, is it ready, what are its numbers, what is in force.
use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
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
    fn ready(&self) -> Result<(), String>;
    /// The numbers as text, after its media type; if numbers are kept.
    fn metrics(&self) -> Option<(&'static str, String)>;
    /// JSON.
    fn status(&self) -> String;
    /// What the account that this query describes has spent of a quota.
    fn consumption(&self, quota: &str, query: &str) -> Telling;
}

/// JSON that is told when it is known, or why not.
pub(super) type Telling = Later<Result<String, (StatusCode, String)>>;

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an operator reads who asked for something else.
const PATHS: &str = "here are /healthz, /readyz, /metrics, /status and /quotas/NAME";
/// What an operator reads who came by another name.
const STRANGE: &str =
    "not known under this name: `admin.hosts` of the file says which are, beside IP addresses and localhost";

/// An answer, or what it waits for.
enum Said {
    Now(Response<Body>),
    Later(Telling),
}

/// Answers at the admin address.
#[derive(Clone)]
pub(super) struct AdminService<T>(T);

impl<T: Told> AdminService<T> {
    pub(super) const fn new(told: T) -> Self {
        Self(told)
    }

    fn answer<B>(&self, request: &Request<B>) -> Said {
        match Host::of(request.uri(), request.headers()) {
            Ok(host) if self.0.knows(host.name()) => {}
            Ok(_) => return Said::Now(text(StatusCode::MISDIRECTED_REQUEST, STRANGE)),
            Err(_) => return Said::refused(Reason::BadRequest),
        }
        let asks = request.method() == Method::GET || request.method() == Method::HEAD;
        let path = request.uri().path();
        let quota = path.strip_prefix("/quotas/");
        Said::Now(match path {
            "/healthz" | "/readyz" | "/metrics" | "/status" if !asks => only_get(),
            _ if quota.is_some() && !asks => only_get(),
            "/healthz" => text(StatusCode::OK, "ok"),
            "/readyz" => match self.0.ready() {
                Ok(()) => text(StatusCode::OK, "ready"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
            },
            "/metrics" => match self.0.metrics() {
                Some((kind, metrics)) => answer(StatusCode::OK, kind, metrics),
                None => return Said::refused(Reason::NotImplemented),
            },
            "/status" => json(self.0.status()),
            _ => match quota {
                Some(quota) => {
                    let query = request.uri().query().unwrap_or_default();
                    return Said::Later(self.0.consumption(quota, query));
                }
                None => text(StatusCode::NOT_FOUND, PATHS),
            },
        })
    }
}

impl Said {
    fn refused(reason: Reason) -> Self {
        Self::Now(Rejection::new(reason).into_response(Protocol::Http).map(Body::from))
    }

    async fn response(self) -> Response<Body> {
        match self {
            Self::Now(response) => response,
            Self::Later(telling) => match telling.await {
                Ok(told) => json(told),
                Err((status, why)) => text(status, &why),
            },
        }
    }
}

fn json(text: String) -> Response<Body> {
    answer(StatusCode::OK, "application/json", text)
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn only_get() -> Response<Body> {
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refused
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
    type Future = Later<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let said = self.answer(&request);
        Box::pin(async { Ok(said.response().await) })
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
        fn ready(&self) -> Result<(), String> {
            self.0.then_some(()).ok_or_else(|| "draining".to_owned())
        }
        fn metrics(&self) -> Option<(&'static str, String)> {
            self.0.then(|| ("text/plain", "up 1\n".to_owned()))
        }
        fn status(&self) -> String {
            "{}".to_owned()
        }
        fn consumption(&self, quota: &str, query: &str) -> Telling {
            let known = (quota, query) == ("calls", "a=b");
            let told = known.then(|| "{}".to_owned()).ok_or((StatusCode::NOT_FOUND, "none".to_owned()));
            Box::pin(async { told })
        }
    }

    async fn ask(ready: bool, method: &str, host: &str, path: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
        AdminService::new(Fixed(ready)).answer(&request).response().await.status().as_u16()
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        for (path, ready, other) in [
            ("/healthz", 200, 200),
            ("/readyz", 200, 503),
            ("/metrics", 200, 501),
            ("/status", 200, 200),
            ("/", 404, 404),
            ("/healthz/", 404, 404),
            ("/quotas/calls?a=b", 200, 200),
            ("/quotas/other", 404, 404),
            ("/quotas", 404, 404),
        ] {
            assert_eq!(ask(true, "GET", "127.0.0.1:9901", path).await, ready, "{path}");
            assert_eq!(ask(false, "GET", "127.0.0.1:9901", path).await, other, "{path}");
        }
        assert_eq!(ask(true, "HEAD", "127.0.0.1", "/healthz").await, 200);
        assert_eq!(ask(true, "POST", "127.0.0.1", "/healthz").await, 405);
        assert_eq!(ask(true, "DELETE", "127.0.0.1", "/quotas/calls").await, 405);
    }

    #[tokio::test]
    async fn only_known_hosts_are_answered() {
        for known in
            ["127.0.0.1", "10.1.2.3:9901", "[::1]:9901", "localhost", "LOCALHOST:9901", "ops.example:1"]
        {
            assert_eq!(ask(true, "GET", known, "/status").await, 200, "{known}");
        }
        for stranger in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "opsXexample"] {
            assert_eq!(ask(true, "GET", stranger, "/status").await, 421, "{stranger}");
        }
        assert_eq!(ask(true, "GET", "a b", "/status").await, 400);
        let request = Request::get("/status").body(()).unwrap();
        assert_eq!(AdminService::new(Fixed(true)).answer(&request).response().await.status(), 400);
    }
}
