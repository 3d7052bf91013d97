mod judging;
mod keys;
mod moving;

use std::{
    future::pending,
    io,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};

use super::*;
use crate::{
    backoff::{Backoff, Jitter},
    body::{
        BoxError,
        script::{Script, Step},
    },
    reject::{Reason, Rejection},
    trip,
};

const SECOND: Duration = Duration::from_secs(1);

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

/// After two failures in a row, for a second.
fn two() -> trip::Policy {
    trip::Policy::new().consecutive(n(2)).wait(Backoff::new(SECOND).jitter(Jitter::None))
}

/// What a server does with a request.
#[derive(Clone, Debug)]
enum Does {
    Head(u16),
    Grpc(Vec<Step>),
    /// A stream of events.
    Events,
    /// gRPC with its status in the head.
    GrpcHead(&'static str),
    Break,
    Refuse(Reason),
    Lose(io::ErrorKind),
    Hang,
}

/// It does with each request what that says, and counts them.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<AtomicUsize>,
    unready: bool,
}

impl Server {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Service<Request<Does>> for Server {
    type Response = Response<Script>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Script>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.unready { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, request: Request<Does>) -> Self::Future {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let response = Response::builder();
            let grpc = || Response::builder().header("content-type", "application/grpc");
            Ok(match request.into_body() {
                Does::Head(status) => response.status(status).body(Script::new([])),
                Does::Grpc(steps) => grpc().body(Script::new(steps)),
                Does::Events => response
                    .header("content-type", "text/event-stream;charset=utf-8")
                    .body(Script::new([Step::Data("data: 1\n\n"), Step::End])),
                Does::GrpcHead(status) => grpc().header("grpc-status", status).body(Script::new([])),
                Does::Break => response.body(Script::new([Step::Data("half"), Step::Fail])),
                Does::Refuse(reason) => {
                    let response = response.status(reason.status()).extension(Rejection::new(reason));
                    response.body(Script::new([]))
                }
                Does::Lose(kind) => return Err(io::Error::from(kind).into()),
                Does::Hang => pending().await,
            }?)
        })
    }
}

fn breaker(policy: impl Into<Policy>) -> (Breaker<Server>, BreakerHandle, Server) {
    let (server, layer) = (Server::default(), BreakerLayer::new(policy));
    (layer.layer(server.clone()), layer.handle().unwrap(), server)
}

fn get(does: Does) -> Request<Does> {
    Request::new(does)
}

/// Asks, reads the answer to its end, and gives its status; 0 if there is none.
async fn ask(service: &Breaker<Server>, does: Does) -> u16 {
    let Ok(response) = service.clone().oneshot(get(does)).await else { return 0 };
    let status = response.status().as_u16();
    let _ = response.into_body().collect().await;
    status
}
