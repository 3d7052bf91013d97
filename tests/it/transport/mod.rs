//! The listener, the server and its end, over real sockets.

#[cfg(all(feature = "telemetry", feature = "tls", feature = "upstream"))]
mod bad_certificates;
mod caps;
mod cost;
mod drain;
#[cfg(all(feature = "tls", feature = "upstream"))]
mod expiry;
mod heads;
mod http1;
mod http2;
mod others;
pub(crate) mod peer;
#[cfg(feature = "tls")]
mod proxied;
mod proxy_protocol;
#[cfg(all(feature = "tls", feature = "upstream"))]
mod rotation;
#[cfg(all(feature = "spiffe", feature = "upstream"))]
mod spiffe;
#[cfg(feature = "tls")]
mod tls;
#[cfg(all(feature = "tls", feature = "upstream"))]
mod trust;

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use portcullis::{
    body::{Body, BoxError},
    identity::PeerAddr,
    reject::RescueLayer,
    transport::{Listener, ListenerBuilder, Server},
};
use tokio::sync::Notify;
use tower::{Layer, Service, service_fn};

/// Long enough for the slowest machine; no test waits for it if all is well.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time limit that is meant to pass.
const SHORT: Duration = Duration::from_millis(150);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("took too long")
}

/// Time goes on by so much, while nothing happens.
#[cfg(all(feature = "tls", feature = "upstream"))]
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Until it is so, at most for as long as we are patient.
async fn until(mut condition: impl FnMut() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A service that tells what became of its requests.
#[derive(Clone, Default)]
struct Site {
    begun: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
    gate: Arc<Notify>,
}

impl Site {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Requests whose handler or body has not been dropped.
    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// Lets one request to `/wait` go on.
    fn open(&self) {
        self.gate.notify_one();
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<Body>,
        Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let site = self.clone();
        RescueLayer::new().layer(service_fn(move |request| site.clone().answer(request)))
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let alive = Alive::new(&self);
        let text = match request.uri().path() {
            "/peer" => request.extensions().get::<PeerAddr>().expect("a peer").to_string(),
            "/length" => request.into_body().collect().await?.to_bytes().len().to_string(),
            "/fields" => request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                .collect(),
            "/wait" => {
                self.gate.notified().await;
                "waited".into()
            }
            "/panic" => panic!("as asked"),
            "/endless" => return Ok(Response::new(Body::new(Endless(alive)))),
            "/stream" => return Ok(Response::new(Body::new(peer::Stepped::new(self.gate.clone(), alive)))),
            "/tunnel" => return Ok(peer::tunnel(request)),
            _ => "hello".into(),
        };
        Ok(Response::new(Body::from(text)))
    }
}

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(site: &Site) -> Self {
        site.begun.fetch_add(1, Ordering::SeqCst);
        site.alive.fetch_add(1, Ordering::SeqCst);
        Self(site.alive.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A body that always has more.
struct Endless(#[expect(dead_code, reason = "held")] Alive);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[7; 16 << 10])))))
    }
}

/// A site behind our listener and server.
async fn serve(site: &Site, server: Server, listener: ListenerBuilder) -> SocketAddr {
    let listener = listener.bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve(listener, site.service()));
    address
}

async fn site(server: Server) -> (Site, SocketAddr) {
    let site = Site::default();
    let address = serve(&site, server, Listener::builder()).await;
    (site, address)
}

/// A site whose errors and panics nobody catches.
async fn bare(server: Server) -> SocketAddr {
    let listener = Listener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site::default();
    let service = service_fn(move |request: Request<Body>| {
        assert_ne!(request.uri().path(), "/panic-at-once", "as asked");
        site.clone().answer(request)
    });
    tokio::spawn(server.serve(listener, service));
    address
}
