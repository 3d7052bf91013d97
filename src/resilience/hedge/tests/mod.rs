mod races;
mod sending;

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt};

use super::{HedgeHandle, HedgeLayer, Policy};
use crate::{
    attempt::{Attempt, Earlier},
    body::{
        Body, BoxError,
        script::{Script, Step},
    },
    reject::{Reason, Rejection},
    trail::Trail,
};

const MS: Duration = Duration::from_millis(1);

/// How an attempt ends.
#[derive(Clone)]
enum End {
    Head(u16, &'static [(&'static str, &'static str)]),
    /// In gRPC: what its body does.
    Grpc(&'static [Step]),
    /// The answer of one of our layers.
    Refused(Reason),
    /// The same as an error, as a client without a rescue around it has it.
    Raised(Reason),
    Error,
}

use End::{Error, Grpc, Head, Raised, Refused};

const OK: End = Head(200, &[]);

/// What a server has seen of an attempt.
struct Seen {
    at: Instant,
    headers: HeaderMap,
    body: Option<Bytes>,
    earlier: Option<Earlier>,
}

/// A server that ends attempts as it is told, each so many milliseconds after its request has come.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<VecDeque<(u64, End)>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// Held by each attempt, and each service.
    alive: Arc<()>,
}

impl Server {
    fn new(script: impl IntoIterator<Item = (u64, End)>) -> Self {
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        Self { script, seen: Arc::default(), alive: Arc::new(()) }
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// How many milliseconds after `start` each attempt came.
    fn times(&self, start: Instant) -> Vec<u128> {
        self.seen.lock().unwrap().iter().map(|seen| (seen.at - start).as_millis()).collect()
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (time, end) = self.script.lock().unwrap().pop_front().unwrap_or((0, OK));
        let (parts, body) = request.into_parts();
        let number = {
            let mut seen = self.seen.lock().unwrap();
            let earlier = parts.extensions.get().cloned();
            seen.push(Seen { at: Instant::now(), headers: parts.headers, body: None, earlier });
            seen.len()
        };
        let (seen, alive) = (Arc::clone(&self.seen), Arc::clone(&self.alive));
        // An endpoint is known before there is an answer.
        let made = parts.extensions.get::<Earlier>().map_or(0, Earlier::attempts) + 1;
        let place = Attempt::new("stock").endpoint(([127, 0, 0, 1], number as u16).into()).attempts(made);
        if let Some(trail) = parts.extensions.get::<Trail>() {
            trail.set_attempt(place);
        }
        Box::pin(async move {
            let _alive = alive;
            let whole = body.collect().await.ok().map(|all| all.to_bytes());
            seen.lock().unwrap()[number - 1].body = whole;
            sleep(Duration::from_millis(time)).await;
            let mut response = match end {
                Head(status, fields) => {
                    let fields = fields.iter().map(|(name, value)| (*name, *value));
                    let response = fields
                        .fold(Response::builder(), |response, (name, value)| response.header(name, value));
                    response.status(status).body(Body::empty())?
                }
                Grpc(steps) => Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(Script::new(steps.to_vec())))?,
                Refused(reason) => {
                    Rejection::new(reason).into_response(crate::reject::Protocol::Http).map(Body::from)
                }
                Raised(reason) => return Err(Rejection::new(reason).into()),
                Error => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            };
            response.headers_mut().insert("x-number", number.into());
            Ok(response)
        })
    }
}

/// What a caller got, from a server that did this.
struct Raced {
    server: Server,
    handle: HedgeHandle,
    answered: Result<Response<Body>, BoxError>,
    /// After so many milliseconds.
    took: u128,
    /// When each attempt came.
    times: Vec<u128>,
}

impl Raced {
    /// The status, and the number of the attempt.
    fn given(&self) -> Option<(u16, &str)> {
        let response = self.answered.as_ref().ok()?;
        let number = response.headers().get("x-number")?.to_str().ok()?;
        Some((response.status().as_u16(), number))
    }

    /// Sent, won, cancelled.
    fn counts(&self) -> (u64, u64, u64) {
        (self.handle.hedges(), self.handle.won(), self.handle.cancelled())
    }
}

async fn raced(
    policy: Policy,
    script: impl IntoIterator<Item = (u64, End)>,
    request: Request<Body>,
) -> Raced {
    let (server, layer) = (Server::new(script), HedgeLayer::new(policy));
    let (handle, start) = (layer.handle().unwrap(), Instant::now());
    let answered = layer.layer(server.clone()).oneshot(request).await;
    let answered = answered.map(|response| response.map(Body::new));
    let (took, times) = (start.elapsed().as_millis(), server.times(start));
    assert_eq!(Arc::strong_count(&server.alive), 1, "an attempt is left");
    Raced { server, handle, answered, took, times }
}

fn get() -> Request<Body> {
    Request::new(Body::empty())
}

/// After 50 ms.
fn late() -> Policy {
    Policy::after(50 * MS)
}
