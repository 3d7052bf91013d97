//! How hyper's own servers and clients end bodies, and what an observer is told.

use std::{
    convert::Infallible,
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
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

/// Tells a channel what became of each request.
#[derive(Clone)]
struct Watch(mpsc::UnboundedSender<Outcome>);

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

async fn handler(request: Request<Incoming>) -> Result<Response<Body>, BoxError> {
    let chunks = |left, then| Body::new(Chunks { left, then });
    let mut response = Response::new(match request.uri().path() {
        "/chunks" | "/204" | "/304" | "/length" | "/short" | "/500" => chunks(2, Then::End),
        "/grpc-ok" => chunks(1, Then::Trailers("0")),
        "/grpc-failed" => chunks(1, Then::Trailers("14")),
        "/grpc-silent" => chunks(1, Then::End),
        "/breaks" => chunks(1, Then::Fail),
        "/hangs" => chunks(1, Then::Hang),
        "/never" => std::future::pending().await,
        "/error" => return Err(Rejection::new(Reason::UpstreamReset).into()),
        _ => Body::empty(),
    });
    let (status, length) = match request.uri().path() {
        "/204" => (204, None),
        "/304" => (304, None),
        "/500" => (500, None),
        "/length" => (200, Some(10)),
        "/short" => (200, Some(99)),
        _ => (200, None),
    };
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(length) = length {
        response.headers_mut().insert("content-length", length.into());
    }
    if request.uri().path().starts_with("/grpc") {
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    }
    Ok(response)
}

/// A hyper server that speaks HTTP/1.1 and HTTP/2, whose outcomes come out of the channel.
async fn server() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<Outcome>) {
    let (told, outcomes) = mpsc::unbounded_channel();
    let service = ServiceBuilder::new()
        .layer(RescueLayer::new())
        .layer(GateLayer::new(Watch(told)))
        .service(service_fn(handler));
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

async fn told(outcomes: &mut mpsc::UnboundedReceiver<Outcome>) -> Outcome {
    let outcome = tokio::time::timeout(Duration::from_secs(20), outcomes.recv()).await;
    let outcome = outcome.expect("an outcome is told").unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(outcomes.try_recv().is_err(), "told twice");
    outcome
}

#[tokio::test]
async fn a_server_tells_the_end_of_each_kind_of_body_once_and_rightly() {
    let ok = |end| (end, None, Verdict::Success);
    let grpc = |code, verdict| (End::Complete, Some(code), verdict);
    let reset = (End::Failed(Failure::Reset), None, Verdict::ServerFault);
    let cases = [
        ("GET", "/chunks", ok(End::Complete)),
        ("GET", "/length", ok(End::Complete)),
        ("GET", "/empty", ok(End::Complete)),
        ("HEAD", "/chunks", ok(End::Complete)),
        ("HEAD", "/length", ok(End::Complete)),
        ("GET", "/204", ok(End::Complete)),
        ("GET", "/304", ok(End::Complete)),
        ("GET", "/500", (End::Complete, None, Verdict::ServerFault)),
        ("GET", "/grpc-ok", grpc(GrpcCode::OK, Verdict::Success)),
        ("GET", "/grpc-failed", grpc(GrpcCode::UNAVAILABLE, Verdict::ServerFault)),
        ("GET", "/grpc-silent", grpc(GrpcCode::UNKNOWN, Verdict::ServerFault)),
        ("GET", "/breaks", reset),
        ("GET", "/error", reset),
    ];
    let (address, mut outcomes) = server().await;
    for http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
        for (method, path, expected) in cases {
            let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
            if let Ok(response) = client.request(request.body(Body::empty()).unwrap()).await {
                let _ = response.into_body().collect().await;
            }
            let outcome = told(&mut outcomes).await;
            let what = format!("{method} {path}, http2 {http2}: {outcome:?}");
            assert_eq!((outcome.end, outcome.grpc, outcome.verdict()), expected, "{what}");
        }
    }
}

#[tokio::test]
async fn a_body_shorter_than_it_promised_is_a_failure() {
    let (address, mut outcomes) = server().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /short HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let _ = client.read_to_end(&mut Vec::new()).await;
    assert_eq!(told(&mut outcomes).await.end, End::Failed(Failure::Protocol));
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels() {
    let (address, mut outcomes) = server().await;
    for path in ["/hangs", "/never"] {
        for http2 in [false, true] {
            let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
            let request = Request::get(format!("http://{address}{path}")).body(Body::empty()).unwrap();
            let mut call = Box::pin(client.request(request));
            let waited = tokio::time::timeout(Duration::from_millis(200), &mut call).await;
            drop((waited, call, client));
            let outcome = told(&mut outcomes).await;
            assert_eq!(outcome.verdict(), Verdict::Cancelled, "{path}, http2 {http2}: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_client_sees_the_same_ends() {
    let (address, _outcomes) = server().await;
    let (tell, mut outcomes) = mpsc::unbounded_channel();
    for http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Body>();
        let client = GateLayer::new(Watch(tell.clone())).layer(client);
        for (path, verdict) in [
            ("/chunks", Verdict::Success),
            ("/grpc-failed", Verdict::ServerFault),
            ("/breaks", Verdict::ServerFault),
            ("/error", Verdict::ServerFault),
        ] {
            let request = Request::get(format!("http://{address}{path}")).body(Body::empty()).unwrap();
            if let Ok(response) = client.clone().oneshot(request).await {
                let _ = response.into_body().collect().await;
            }
            let outcome = told(&mut outcomes).await;
            if http2 || path != "/grpc-failed" {
                // HTTP/1.1 without `TE: trailers` leaves trailers out, and then the call has no status.
                assert_eq!(outcome.verdict(), verdict, "{path}, http2 {http2}: {outcome:?}");
            }
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
