//! The timeout and the circuit breaker in axum and tonic, over real sockets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::StatusCode,
    response::sse::{Event, Sse},
    routing::get,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{
    body::Body,
    reject::RescueLayer,
    resilience::{
        breaker::BreakerLayer,
        retry::{self, RetryLayer, RetryOn},
        timeout::TimeoutLayer,
    },
    trip::{self, State},
};
use tokio::net::TcpListener;
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Layer, ServiceExt};

const SHORT: Duration = Duration::from_millis(200);

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn an_axum_router_answers_and_cuts() {
    fn events() -> Sse<impl tokio_stream::Stream<Item = Result<Event, std::convert::Infallible>>> {
        let ticks = tokio_stream::iter(0..4).throttle(SHORT * 3 / 4);
        Sse::new(ticks.map(|n| Ok(Event::default().data(n.to_string()))))
    }
    let app = Router::new()
        .route("/hang", get(async || std::future::pending::<&str>().await))
        .route("/quick", get(async || "quick"))
        .route("/events", get(async || events()))
        .route(
            "/endless",
            get(|| async {
                let drops = tokio_stream::iter(0..1_000_000).throttle(SHORT / 10);
                axum::body::Body::from_stream(drops.map(|_| Ok::<_, std::io::Error>("drop ")))
            }),
        )
        .layer(TimeoutLayer::new(SHORT));
    let (listener, address) = bind().await;
    tokio::spawn(async { axum::serve(listener, app).await });

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let get = |path: &str| client.get(format!("http://{address}{path}").parse().unwrap());
    let hang = get("/hang").await.unwrap();
    assert_eq!(hang.status(), 504);
    assert_eq!(hang.headers()["content-type"], "application/problem+json");
    assert_eq!(get("/quick").await.unwrap().into_body().collect().await.unwrap().to_bytes(), "quick");
    let events = get("/events").await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(events.ends_with(b"data: 3\n\n"), "a stream outlives the total");
    let endless = get("/endless").await.unwrap();
    assert_eq!(endless.status(), 200);
    assert!(
        endless.into_body().collect().await.is_err(),
        "what does not end in time is aborted, not cut short"
    );
}

fn channel(address: SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

async fn health(layer: TimeoutLayer) -> HealthClient<tonic::transport::Channel> {
    let (listener, address) = bind().await;
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .layer(RescueLayer::new())
        .layer(layer)
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    HealthClient::new(channel(address))
}

#[tokio::test]
async fn a_tonic_stream_ends_with_deadline_exceeded() {
    let mut client = health(TimeoutLayer::new(SHORT)).await;
    client.check(HealthCheckRequest::default()).await.unwrap();
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_tonic_stream_may_last_where_streams_are_expected() {
    let layer = TimeoutLayer::new(SHORT).grpc_streams(true).stream_idle(SHORT * 5);
    let mut client = health(layer).await;
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert!(tokio::time::timeout(SHORT * 2, watch.message()).await.is_err(), "it outlives the total,");
    let status = watch.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "but may not keep silent for ever");
}

#[tokio::test]
async fn a_tonic_client_gives_up() {
    let (listener, address) = bind().await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream); // and never a word
        }
    });
    let service = tower::ServiceBuilder::new().layer(TimeoutLayer::new(SHORT)).service(channel(address));
    let status = HealthClient::new(service).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
}

/// The layer is cloned for each route: it is one breaker.
#[tokio::test]
async fn an_axum_router_has_one_breaker() {
    let layer = BreakerLayer::new(trip::Policy::new().consecutive(NonZeroU32::new(3)));
    let app = Router::new()
        .route("/fails", get(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/works", get(async || "works"))
        .layer(layer.clone());
    let (listener, address) = bind().await;
    tokio::spawn(async { axum::serve(listener, app).await });
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let get =
        async |path: &str| client.get(format!("http://{address}{path}").parse().unwrap()).await.unwrap();
    assert_eq!(get("/works").await.status(), 200);
    for _ in 0..3 {
        assert_eq!(get("/fails").await.status(), 500);
    }
    let refused = get("/works").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    assert_eq!((layer.handle().unwrap().state(), layer.handle().unwrap().refused()), (State::Open, 1));
}

/// gRPC's status stands in trailers, where peers do not look.
/// What a server has not looked at may be sent again, whatever it is: by anybody's client.
#[tokio::test]
async fn what_was_refused_unseen_is_sent_again() {
    let (listener, address) = bind().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                2 => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                _ => drop(respond.send_response(Response::new(()), true).unwrap()),
            }
        }
    });
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
    let policy = retry::Policy::new(1).on([RetryOn::RefusedStream, RetryOn::Reset]);
    let service = RetryLayer::new(policy).layer(client);
    let post = || {
        let request = Request::post(format!("http://{address}/pay")).body(Body::from("once"));
        service.clone().oneshot(request.unwrap())
    };
    assert_eq!(post().await.unwrap().status(), 200);
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    post().await.expect_err("it may have been looked at");
    assert_eq!(seen.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_tonic_client_leaves_a_failing_server_alone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fails = Router::new().fallback(move || async move {
        count.fetch_add(1, Ordering::Relaxed);
        let trailers = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("14"),
        )]);
        let frames = tokio_stream::iter([Ok::<_, std::io::Error>(http_body::Frame::trailers(trailers))]);
        let body = axum::body::Body::new(http_body_util::StreamBody::new(frames));
        Response::builder().header("content-type", "application/grpc").body(body).unwrap()
    });
    let (listener, address) = bind().await;
    tokio::spawn(async { axum::serve(listener, fails).await });
    let layer = BreakerLayer::new(trip::Policy::new().consecutive(NonZeroU32::new(3)));
    let service = tower::ServiceBuilder::new().layer(layer.clone()).service(channel(address));
    let mut client = HealthClient::new(service);
    for _ in 0..10 {
        let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
    assert_eq!((asked.load(Ordering::Relaxed), layer.handle().unwrap().refused()), (3, 7));
}
