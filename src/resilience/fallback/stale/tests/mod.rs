mod bounds;
mod giving;
mod gone;
mod whose;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn, util::BoxCloneSyncService};

use super::*;
use crate::{
    body::{
        Body,
        script::{Script, Step},
    },
    identity::{PeerIdentity, Principal},
    key::{Key, RouteName},
    resilience::fallback::{FallbackLayer, Policy},
    trail::{FellBack, Given},
};

type Server = Arc<Mutex<Box<dyn FnMut(&Request<Body>) -> Response<Body> + Send>>>;

/// A server that does as it is told, behind a fallback that gives old answers.
struct World {
    stale: Stale,
    server: Server,
    service: BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>,
}

/// What was given.
#[derive(Debug, PartialEq)]
struct Told {
    status: u16,
    text: String,
    old: bool,
}

impl World {
    fn new(stale: Stale) -> Self {
        let server: Server = Arc::new(Mutex::new(Box::new(|_| failure())));
        let serve = Arc::clone(&server);
        let inner = service_fn(move |request: Request<Body>| {
            let response = serve.lock().unwrap()(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let service = FallbackLayer::new(Policy::cases().stale(stale.clone())).layer(inner);
        let service = ServiceExt::<Request<Body>>::map_response(service, |response: Response<_>| {
            response.map(Body::new)
        });
        Self { stale, server, service: BoxCloneSyncService::new(service) }
    }

    fn serves(&self, make: impl FnMut(&Request<Body>) -> Response<Body> + Send + 'static) {
        *self.server.lock().unwrap() = Box::new(make);
    }

    fn fails(&self) {
        self.serves(|_| failure());
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        advance(Duration::from_millis(2)).await;
        self.service.clone().oneshot(request).await.unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Told {
        let response = self.send(request).await;
        let old = response.extensions().get::<FellBack>().is_some_and(|fell| fell.given == Given::Stale);
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Told { status, text: String::from_utf8(bytes.to_vec()).unwrap(), old }
    }

    /// Whether an answer for everybody with these headers to this is given after `later`.
    async fn keeps(
        &self,
        headers: &'static [(&str, &str)],
        request: fn() -> Request<Body>,
        later: u64,
    ) -> bool {
        self.keeps_as_said(move || good(headers, "good"), request, later).await
    }

    async fn keeps_as_said(
        &self,
        answer: impl Fn() -> Response<Body> + Send + 'static,
        request: fn() -> Request<Body>,
        later: u64,
    ) -> bool {
        self.serves(move |_| answer());
        assert_eq!(self.ask(request()).await.text, "good");
        self.fails();
        advance(Duration::from_secs(later)).await;
        self.ask(request()).await.old
    }
}

fn failure() -> Response<Body> {
    Response::builder().status(503).body(Body::from("failure")).unwrap()
}

/// For everybody.
fn public(body: Body) -> Response<Body> {
    Response::builder().header("cache-control", "public").body(body).unwrap()
}

/// The same, with these headers.
fn good(headers: &[(&'static str, &'static str)], body: &'static str) -> Response<Body> {
    said(public(Body::from(body)), headers)
}

fn said(mut response: Response<Body>, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}

fn get(path: &str) -> Request<Body> {
    with(path, &[])
}

fn with(path: &str, headers: &[(&'static str, &'static str)]) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

fn of(principal: &str, mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Principal::new("idp", "https://idp.example", principal));
    request
}

fn get_root() -> Request<Body> {
    get("/")
}
