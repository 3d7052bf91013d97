//! How hyper's own servers and clients end bodies, and what an observer is told.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use portcullis::{
    body::{Body, BoxError},
    gate::{Gate, GateLayer, Pass},
    head::Head,
    outcome::{End, Failure, Outcome, Verdict},
    reject::{Answer, GrpcCode, Reason, Rejection, RescueLayer},
    transport::{Listener, Server},
    upstream::{Proxy, Upstream, Wire},
};
use tokio::{net::TcpListener, sync::mpsc};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// Tells a channel what became of each request.
#[derive(Clone)]
pub(crate) struct Watch(pub(crate) mpsc::UnboundedSender<Outcome>);

impl Gate for Watch {
    type Pass = Self;
    fn check(&self, _: &mut Head<'_>) -> Result<Self, Answer> {
        Ok(self.clone())
    }
}

impl Pass for Watch {
    fn on_end(&mut self, outcome: &Outcome) {
        let _ = self.0.send(*outcome);
    }
}

/// Chunks, and then an end, trailers, an error, or nothing ever.
struct Chunks {
    left: usize,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    End,
    Trailers(&'static str),
    Fail,
    Hang,
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"hello")))));
        }
        match std::mem::replace(&mut self.then, Then::End) {
            Then::End => Poll::Ready(None),
            Then::Trailers(status) => {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Then::Fail => {
                Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())))
            }
            Then::Hang => {
                self.then = Then::Hang;
                Poll::Pending
            }
        }
    }
}

async fn handler<B>(request: Request<B>) -> Result<Response<Body>, BoxError> {
    let chunks = |left, then| Body::new(Chunks { left, then });
    let mut response = Response::new(match request.uri().path() {
        "/chunks" | "/204" | "/304" | "/length" | "/short" | "/500" => chunks(2, Then::End),
        "/grpc-ok" => chunks(1, Then::Trailers("0")),
        "/grpc-failed" => chunks(1, Then::Trailers("14")),
        "/grpc-silent" => chunks(1, Then::End),
        "/breaks" => chunks(1, Then::Fail),
        "/never" => std::future::pending().await,
        "/length/hangs" | "/204/hangs" | "/304/hangs" => chunks(2, Then::Hang),
        path if path.starts_with("/chunks/") => chunks(path[8..].parse()?, Then::Hang),
        "/error" => return Err(Rejection::new(Reason::UpstreamReset).into()),
        _ => Body::empty(),
    });
    let (status, length) = match request.uri().path() {
        "/204" | "/204/hangs" => (204, None),
        "/304" | "/304/hangs" => (304, None),
        "/500" => (500, None),
        "/length" | "/length/hangs" => (200, Some(10)),
        "/short" => (200, Some(99)),
        _ => (200, None),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(length) = length {
        response.headers_mut().insert("content-length", length.into());
    }
    if request.uri().path().starts_with("/grpc") {
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        // Without it, and without `TE` in the request, HTTP/1 leaves trailers out.
        response.headers_mut().insert("trailer", "grpc-status".parse().unwrap());
    }
    Ok(response)
}

/// A server of our own, whose outcomes come out of the channel.
pub(crate) fn our_server() -> (SocketAddr, mpsc::UnboundedReceiver<Outcome>) {
    let (told, outcomes) = mpsc::unbounded_channel();
    let service = GateLayer::new(Watch(told)).layer(service_fn(handler::<Body>));
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(Server::new().serve(listener, RescueLayer::new().layer(service)));
    (address, outcomes)
}

/// A hyper server that speaks HTTP/1.1 and HTTP/2, whose outcomes come out of the channel.
pub(crate) async fn server() -> (SocketAddr, mpsc::UnboundedReceiver<Outcome>) {
    let (told, outcomes) = mpsc::unbounded_channel();
    let service = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(GateLayer::new(Watch(told)))
        .service(service_fn(handler::<Incoming>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), service)
                    .await;
            });
        }
    });
    (address, outcomes)
}

pub(crate) async fn told(outcomes: &mut mpsc::UnboundedReceiver<Outcome>) -> Outcome {
    let outcome = tokio::time::timeout(Duration::from_secs(20), outcomes.recv()).await;
    let outcome = outcome.expect("an outcome is told").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(outcomes.try_recv().is_err(), "told twice");
    outcome
}

/// An end, a gRPC status, and who is to blame.
pub(crate) type Told = (End, Option<GrpcCode>, Verdict);

pub(crate) const OK: Told = (End::Complete, None, Verdict::Success);
pub(crate) const RESET: Told = (End::Failed(Failure::Reset), None, Verdict::ServerFault);
pub(crate) const BROKEN: Told = (End::Failed(Failure::Protocol), None, Verdict::ServerFault);

/// Bodies that never end, and need not.
const UNSEEN: &[(&str, &str, Told, Told)] = &[
    ("HEAD", "/length/hangs", OK, OK),
    ("HEAD", "/chunks/2", OK, OK),
    ("GET", "/204/hangs", OK, OK),
    ("GET", "/304/hangs", OK, OK),
];

/// What is asked for, and what is told of it on the server's side and on the client's.
const CASES: &[(&str, &str, Told, Told)] = &[
    ("GET", "/chunks", OK, OK),
    ("GET", "/length", OK, OK),
    ("GET", "/empty", OK, OK),
    ("HEAD", "/chunks", OK, OK),
    ("HEAD", "/length", OK, OK),
    ("GET", "/204", OK, OK),
    ("GET", "/304", OK, OK),
    ("GET", "/500", FAULT, FAULT),
    ("GET", "/grpc-ok", grpc(GrpcCode::OK, Verdict::Success), grpc(GrpcCode::OK, Verdict::Success)),
    ("GET", "/grpc-failed", UNAVAILABLE, UNAVAILABLE),
    ("GET", "/grpc-silent", SILENT, SILENT),
    ("GET", "/breaks", RESET, RESET),
    // To the client it is a whole answer that says so.
    ("GET", "/error", RESET, FAULT),
];

const FAULT: Told = (End::Complete, None, Verdict::ServerFault);
pub(crate) const UNAVAILABLE: Told = grpc(GrpcCode::UNAVAILABLE, Verdict::ServerFault);
pub(crate) const SILENT: Told = grpc(GrpcCode::UNKNOWN, Verdict::ServerFault);

const fn grpc(code: GrpcCode, verdict: Verdict) -> Told {
    (End::Complete, Some(code), verdict)
}

pub(crate) fn is(outcome: Outcome, expected: Told, what: &str) {
    assert_eq!((outcome.end, outcome.grpc, outcome.verdict()), expected, "{what}: {outcome:?}");
}

pub(crate) fn request(address: SocketAddr, method: &str, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    request.header("te", "trailers").body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_server_tells_the_end_of_each_kind_of_body_once_and_rightly() {
    for (whose, (address, mut outcomes)) in [("ours", our_server()), ("hyper's", server().await)] {
        for http2 in [false, true] {
            let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
            // What follows no head is dropped unseen; but hyper over HTTP/2 sends it.
            let unseen = UNSEEN.iter().filter(|_| whose == "ours" || !http2);
            for (method, path, expected, _) in CASES.iter().chain(unseen) {
                if let Ok(response) = client.request(request(address, method, path)).await {
                    let _ = response.into_body().collect().await;
                }
                is(told(&mut outcomes).await, *expected, &format!("{whose}, {method} {path}, http2 {http2}"));
            }
        }
    }
}

/// What a client is told of the answer to a request that it reads as far as it comes: hyper's client, or ours.
pub(crate) async fn asked(address: SocketAddr, http2: bool, ours: bool, method: &str, path: &str) -> Outcome {
    let (tell, mut outcomes) = mpsc::unbounded_channel();
    let (watch, request) = (GateLayer::new(Watch(tell)), request(address, method, path));
    let reading = async {
        if ours {
            let wire = if http2 { Wire::Http2 } else { Wire::Http1 };
            let upstream =
                Upstream::builder("peer").endpoint(address.to_string()).wire(wire).build().unwrap();
            if let Ok(response) = watch.layer(Proxy::new(upstream)).oneshot(request).await {
                let _ = response.into_body().collect().await;
            }
        } else {
            let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
            if let Ok(response) = watch.layer(client).oneshot(request).await {
                let _ = response.into_body().collect().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("in time");
    told(&mut outcomes).await
}

#[tokio::test]
async fn a_client_is_told_the_end_of_each_kind_of_body_once_and_rightly() {
    let (address, _outcomes) = our_server();
    for http2 in [false, true] {
        for (method, path, _, expected) in CASES.iter().chain(UNSEEN) {
            let what = format!("{method} {path}, http2 {http2}");
            is(asked(address, http2, false, method, path).await, *expected, &what);
        }
    }
}

#[tokio::test]
async fn a_body_shorter_than_it_promised_is_a_failure() {
    let (address, mut outcomes) = our_server();
    // Over HTTP/1 the connection has to end; over HTTP/2 the stream does, and breaks the protocol.
    for (http2, expected) in [(false, RESET), (true, BROKEN)] {
        let client = asked(address, http2, false, "GET", "/short").await;
        is(client, expected, &format!("the client, http2 {http2}"));
        is(told(&mut outcomes).await, BROKEN, &format!("the server, http2 {http2}"));
    }
}

#[tokio::test]
async fn a_client_is_told_that_nobody_is_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let unreachable = (End::Failed(Failure::Connect), None, Verdict::ServerFault);
    is(asked(nobody, false, false, "GET", "/").await, unreachable, "nobody");
}

/// The others, who have had a head, are in [`endings`](crate::endings).
#[tokio::test]
async fn who_goes_away_before_there_is_a_head_cancels() {
    let (address, mut outcomes) = server().await;
    for http2 in [false, true] {
        let (tell, mut of_client) = mpsc::unbounded_channel();
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
        let client = GateLayer::new(Watch(tell)).layer(client);
        let mut call = Box::pin(client.oneshot(request(address, "GET", "/never")));
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut call).await.is_err());
        drop(call);
        for outcome in [told(&mut outcomes).await, told(&mut of_client).await] {
            assert_eq!((outcome.status, outcome.bytes), (None, 0), "http2 {http2}");
            is(outcome, (End::Cancelled, None, Verdict::Cancelled), &format!("http2 {http2}"));
        }
    }
}

/// Not ready for some polls.
struct Later(usize);

impl Future for Later {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

/// A call, and then its body, dropped after each number of polls.
#[tokio::test]
async fn dropped_at_any_poll_a_call_is_what_it_was_by_then() {
    let cancelled = (End::Cancelled, None, Verdict::Cancelled);
    // The head comes with the third poll; of the body, two frames and an end.
    for (status, then, ends) in [
        (200, Then::End, [cancelled, cancelled, cancelled, cancelled, cancelled, OK]),
        (200, Then::Fail, [cancelled, cancelled, cancelled, cancelled, cancelled, RESET]),
        (500, Then::End, [cancelled, cancelled, FAULT, FAULT, FAULT, FAULT]),
        (500, Then::Fail, [cancelled, cancelled, FAULT, FAULT, FAULT, RESET]),
        (204, Then::Hang, [cancelled, cancelled, OK, OK, OK, OK]),
    ] {
        for polls in 0..=6_usize {
            let (tell, mut outcomes) = mpsc::unbounded_channel();
            let service = service_fn(move |_: Request<Body>| async move {
                Later(2).await;
                let mut response = Response::new(Body::new(Chunks { left: 2, then }));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Ok::<_, Infallible>(response)
            });
            let mut service = GateLayer::new(Watch(tell)).layer(service);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut call = Box::pin(tower::Service::call(&mut service, Request::new(Body::empty())));
            let mut body = None;
            for _ in 0..polls {
                match &mut body {
                    None => match call.as_mut().poll(&mut cx) {
                        Poll::Ready(response) => body = Some(response.unwrap().into_body()),
                        Poll::Pending => {}
                    },
                    Some(body) => drop(http_body::Body::poll_frame(Pin::new(body), &mut cx)),
                }
            }
            drop((call, body));
            let what = format!("{status}, {polls} polls");
            let expected = polls.checked_sub(1).map_or(cancelled, |last| ends[last]);
            is(outcomes.try_recv().expect(&what), expected, &what);
            assert!(outcomes.try_recv().is_err(), "told twice: {what}");
        }
    }
}

#[tokio::test]
async fn a_grpc_body_that_breaks_ends_with_its_status() {
    let broken = service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Chunks { left: 1, then: Then::Fail }))
    });
    let service = RescueLayer::new().layer(broken);
    let request = Request::post("/").header("content-type", "application/grpc").body(Body::empty()).unwrap();
    let body = service.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "14");

    let plain = service.oneshot(Request::new(Body::empty())).await.unwrap().into_body().collect().await;
    assert!(plain.is_err(), "an HTTP body that breaks is never ended as if it were whole");
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let panics = service_fn(|_: Request<Body>| async {
        if true {
            panic!("on purpose");
        }
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let response = RescueLayer::new().layer(panics).oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(response.status(), 500);
}

#[tokio::test]
async fn an_instance_that_failed_to_be_ready_answers_so_from_then_on() {
    #[derive(Clone)]
    struct Dead(Arc<Mutex<usize>>);
    impl tower::Service<Request<Body>> for Dead {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            *self.0.lock().unwrap() += 1;
            Poll::Ready(Err(Rejection::new(Reason::Overloaded).into()))
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            unreachable!("it was never ready")
        }
    }
    let polled = Arc::new(Mutex::new(0));
    let mut service = RescueLayer::new().layer(Dead(Arc::clone(&polled)));
    for _ in 0..3 {
        let response = (&mut service).oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 503);
    }
    assert_eq!(*polled.lock().unwrap(), 1, "tower: an instance whose readiness failed is not polled again");
}
