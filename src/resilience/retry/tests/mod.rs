mod decisions;
mod sending;

use std::{
    collections::VecDeque,
    future::pending,
    io,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use super::{Policy, ResponseFuture, Retry, RetryBody, RetryHandle, RetryLayer};
use crate::{
    attempt::{Attempt, Earlier},
    body::{
        Body, BoxError,
        script::{Script, Step},
    },
    reject::{Reason, Rejection},
    trail::Trail,
};

/// How an attempt ends.
#[derive(Clone)]
enum End {
    Head(u16, &'static [(&'static str, &'static str)]),
    /// The head, without a look at the request's body.
    Early(u16),
    /// A gRPC answer.
    Grpc(Vec<Step>),
    /// The answer of one of our layers.
    Refused(Rejection),
    Lost(Rejection),
    Error(io::ErrorKind),
    Hang,
    Unready,
}

/// What a server has seen of an attempt.
#[derive(Debug)]
struct Seen {
    at: Instant,
    headers: HeaderMap,
    body: Option<(Bytes, bool)>,
    earlier: Option<Earlier>,
}

/// A server that ends attempts as it is told, and then answers 200.
#[derive(Clone)]
struct Server {
    script: Arc<Mutex<VecDeque<End>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    alive: Arc<()>,
}

impl Server {
    fn new(ends: impl IntoIterator<Item = End>) -> Self {
        let script = Arc::new(Mutex::new(ends.into_iter().collect()));
        Self { script, seen: Arc::default(), alive: Arc::new(()) }
    }

    fn attempts(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// How long after `start` each attempt came.
    fn times(&self, start: Instant) -> Vec<Duration> {
        self.seen.lock().unwrap().iter().map(|seen| seen.at - start).collect()
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Script>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut script = self.script.lock().unwrap();
        if !matches!(script.front(), Some(End::Unready)) {
            return Poll::Ready(Ok(()));
        }
        script.pop_front();
        Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let end = self.script.lock().unwrap().pop_front().unwrap_or(End::Head(200, &[]));
        let this = self.clone();
        Box::pin(async move {
            let _alive = Arc::clone(&this.alive);
            let (parts, body) = request.into_parts();
            let body = match end {
                End::Early(_) => None,
                _ => body.collect().await.ok().map(|all| (all.trailers().is_some(), all.to_bytes())),
            };
            this.seen.lock().unwrap().push(Seen {
                at: Instant::now(),
                headers: parts.headers,
                body: body.map(|(trailers, bytes)| (bytes, trailers)),
                earlier: parts.extensions.get().cloned(),
            });
            let answer = |status: u16, steps: Vec<Step>| {
                Response::builder().status(status).body(Script::new(steps)).unwrap()
            };
            let place = Attempt::new("stock").endpoint(([127, 0, 0, 1], this.attempts() as u16).into());
            let made = parts.extensions.get::<Earlier>().map_or(0, Earlier::attempts) + 1;
            let place = place.attempts(made);
            let mut response = match end {
                End::Head(status, fields) => {
                    let mut response = answer(status, Vec::new());
                    for (name, value) in fields {
                        response.headers_mut().insert(*name, value.parse().unwrap());
                    }
                    response
                }
                End::Early(status) => answer(status, Vec::new()),
                End::Grpc(steps) => {
                    let mut response = answer(200, steps);
                    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                    response
                }
                End::Refused(rejection) => {
                    let mut response = answer(rejection.reason().status().as_u16(), Vec::new());
                    response.extensions_mut().insert(rejection);
                    response
                }
                End::Lost(rejection) => return Err(rejection.into()),
                End::Error(kind) => return Err(io::Error::from(kind).into()),
                End::Hang | End::Unready => pending().await,
            };
            match parts.extensions.get::<Trail>() {
                Some(trail) => trail.set_attempt(place),
                None => drop(response.extensions_mut().insert(place)),
            }
            Ok(response)
        })
    }
}

type Answered = Result<Response<RetryBody<Script>>, BoxError>;

/// What a caller got, from a server that did this.
struct Tried {
    server: Server,
    handle: RetryHandle,
    answered: Answered,
}

impl Tried {
    fn status(&self) -> Option<u16> {
        self.answered.as_ref().ok().map(|response| response.status().as_u16())
    }

    fn attempts(&self) -> usize {
        self.server.attempts()
    }
}

async fn tried(policy: Policy, ends: impl IntoIterator<Item = End>, request: Request<Body>) -> Tried {
    let (server, layer) = (Server::new(ends), RetryLayer::new(policy));
    let handle = layer.handle().unwrap();
    let answered = layer.layer(server.clone()).oneshot(request).await;
    Tried { server, handle, answered }
}

fn get() -> Request<Body> {
    Request::new(Body::empty())
}

fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/").body(body.into()).unwrap()
}

fn lost(reason: Reason) -> End {
    End::Lost(Rejection::new(reason))
}

fn start(server: &Server, layer: &RetryLayer, request: Request<Body>) -> ResponseFuture<Server> {
    let mut service: Retry<Server> = layer.layer(server.clone());
    service.call(request)
}
