//! The rate limit in axum and tonic, over real sockets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::admission::{
    Fields,
    rate_limit::{Limit, RateLimit},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn limit(burst: u32) -> Limit {
    let burst = NonZeroU32::new(burst).unwrap();
    Limit::builder("shared", "1/h".parse().unwrap()).burst(burst).build().unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, app).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_axum_router_has_one_limit_whatever_axum_clones() {
    let limit = limit(25);
    let layer = RateLimit::new(limit.clone()).fields(Fields::Always).layer();
    // `Router::layer` clones and applies the layer for each route; the second router has it twice more.
    let first =
        Router::new().route("/a", get(async || "a")).route("/b", get(async || "b")).layer(layer.clone());
    let second = Router::new().route("/c", get(async || "c")).route_layer(layer.clone()).layer(layer);
    let address = serve(first.merge(second)).await;

    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let mut calls = JoinSet::new();
    for n in 0..120 {
        let uri = format!("http://{address}/{}", ["a", "b"][n % 2]).parse().unwrap();
        calls.spawn(client.get(uri));
    }
    let passed = AtomicUsize::new(0);
    while let Some(call) = calls.join_next().await {
        let response = call.unwrap().unwrap();
        assert!(response.headers().contains_key("ratelimit"));
        match response.status().as_u16() {
            200 => passed.fetch_add(1, Ordering::Relaxed),
            429 => {
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                let wait: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=3600).contains(&wait));
                0
            }
            status => panic!("{status}"),
        };
    }
    assert_eq!(passed.into_inner(), 25);
    assert_eq!(limit.handle().len(), 1);
    let refused = client.get(format!("http://{address}/c").parse().unwrap()).await.unwrap();
    assert_eq!(refused.status(), 429);
}

fn channel(address: SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

#[tokio::test]
async fn a_tonic_server_answers_resource_exhausted() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .layer(RateLimit::new(limit(2)).layer())
        .add_service(health)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);

    let mut client = HealthClient::new(channel(address));
    for _ in 0..2 {
        client.check(HealthCheckRequest::default()).await.unwrap();
    }
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(status.message(), "rate_limited");
    assert_eq!(status.metadata().get("ratelimit-policy").unwrap(), "\"shared\";q=1;w=3600");
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn a_tonic_client_is_limited_too() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder()
        .add_service(health)
        .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener));
    tokio::spawn(server);

    let limited =
        tower::ServiceBuilder::new().layer(RateLimit::new(limit(1)).layer()).service(channel(address));
    let mut client = HealthClient::new(limited);
    client.check(HealthCheckRequest::default()).await.unwrap();
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
}

#[tokio::test]
async fn hyper_serves_it_without_a_framework() {
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use portcullis::body::Body;
    use tower::Layer;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = RateLimit::new(limit(1)).layer().layer(tower::service_fn(
        async |_: Request<hyper::body::Incoming>| {
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("hello")))
        },
    ));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    for status in [200, 429, 429] {
        let uri: http::Uri = format!("http://{address}/").parse().unwrap();
        assert_eq!(client.get(uri).await.unwrap().status(), status);
    }
}
