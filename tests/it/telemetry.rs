//! Telemetry with real peers: axum, tonic and hyper, over sockets.

use axum::{Router, extract::Request, response::Response, routing::get};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use portcullis::{
    context::ContextLayer,
    gate::{Gate, GateLayer},
    head::Head,
    identity::{Principal, TrustedProxies},
    reject::{Answer, Reason, Rejection},
    telemetry::{
        Witness,
        access_log::{AccessLog, TARGET},
        metrics::Metrics,
        request_id::{PropagateRequestId, SetRequestId, Trust},
        span::RequestSpan,
    },
};
use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;
use tower::{Layer, ServiceExt, service_fn};

use super::support::{log::Log, serve::serve};

type Calls = Client<HttpConnector, Empty<Bytes>>;

fn http1() -> Calls {
    Client::builder(TokioExecutor::new()).build_http()
}

fn http2() -> Calls {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

fn call(address: SocketAddr, path: &str) -> http::request::Builder {
    http::Request::get(format!("http://{address}{path}"))
}

/// What a gateway has outermost.
fn watched(app: Router, metrics: &Metrics) -> Router {
    let edge = TrustedProxies::parse(["127.0.0.0/8"]).unwrap();
    app.layer(metrics.layer())
        .layer(AccessLog::new().layer())
        .layer(RequestSpan.layer())
        .layer(SetRequestId::new().trust(Trust::Peers(edge)).layer())
}

fn stream(frames: impl IntoIterator<Item = Frame<Bytes>>) -> axum::body::Body {
    let frames: Vec<_> = frames.into_iter().map(Ok::<_, Infallible>).collect();
    axum::body::Body::new(StreamBody::new(futures_util::stream::iter(frames)))
}

#[tokio::test]
async fn an_axum_app_is_logged_and_counted_by_its_routes() {
    let (log, _guard) = Log::start();
    let metrics = Metrics::new();
    let app = Router::new().route(
        "/items/{id}",
        get(|| async {
            tracing::info!(target: "app", "handling");
            "an item"
        }),
    );
    let address = serve(watched(app, &metrics)).await;
    let request =
        call(address, "/items/7?secret=1").header("x-request-id", "edge-1").body(Empty::new()).unwrap();
    let response = http1().request(request).await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "edge-1");
    response.into_body().collect().await.unwrap();

    let lines = log.access(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["request_id"], "edge-1");
    assert_eq!(lines[0]["route"], "/items/{id}");
    assert_eq!(lines[0]["path"], "/items/7");
    assert_eq!(lines[0]["host"], address.to_string());
    assert_eq!(lines[0]["status"], 200);
    let handling = log.of("app");
    assert_eq!(handling[0]["span"]["request_id"], "edge-1");
    assert_eq!(handling[0]["span"]["route"], "/items/{id}");
    let text = metrics.render();
    assert!(
        text.contains(r#"requests_total{route="/items/{id}",method="GET",status="200",verdict="success"} 1"#)
    );
}

#[tokio::test]
async fn a_hostile_id_is_replaced_everywhere() {
    let (log, _guard) = Log::start();
    let app = Router::new().route(
        "/",
        get(|headers: HeaderMap| async move { headers["x-request-id"].clone().to_str().unwrap().to_owned() }),
    );
    let address = serve(watched(app, &Metrics::new())).await;
    let request = call(address, "/")
        .header("x-request-id", "one")
        .header("x-request-id", "${jndi:two}")
        .body(Empty::new())
        .unwrap();
    let response = http1().request(request).await.unwrap();
    let told = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers().get_all("x-request-id").iter().count(), 1);
    let seen = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(told.as_bytes(), seen);
    assert_eq!(told.len(), 36);
    assert_eq!(log.access(1).await[0]["request_id"], told);
}

#[tokio::test]
async fn a_scanner_makes_one_series() {
    let metrics = Metrics::new();
    let app = Router::new().route("/", get(|| async { "" })).fallback(|| async { StatusCode::NOT_FOUND });
    let address = serve(watched(app, &metrics)).await;
    let client = http1();
    for i in 0..100 {
        let request =
            call(address, &format!("/.env.{i}?{i}")).header("host", format!("h{i}")).body(Empty::new());
        client.request(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
    }
    let text = metrics.render();
    let series: Vec<_> = text.lines().filter(|line| line.starts_with("portcullis_requests_total")).collect();
    assert_eq!(series.len(), 1, "{series:?}");
    assert!(series[0].contains(r#"route="_unmatched""#) && series[0].ends_with(" 100"), "{series:?}");
}

#[tokio::test]
async fn a_stream_is_logged_when_it_has_ended() {
    let (log, _guard) = Log::start();
    let metrics = Metrics::new();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let app = Router::new().route(
        "/",
        get(move || {
            let mut receiver = receiver.lock().unwrap().take().unwrap();
            let frames = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
            future::ready(Response::new(axum::body::Body::new(StreamBody::new(frames))))
        }),
    );
    let address = serve(watched(app, &metrics)).await;
    let response = http1().request(call(address, "/").body(Empty::new()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    assert!(log.of(TARGET).is_empty());
    assert_eq!(metrics.in_flight(), 1);
    drop(sender);
    body.collect().await.unwrap();
    let lines = log.access(1).await;
    assert_eq!((lines.len(), &lines[0]["verdict"]), (1, &"success".into()));
    assert_eq!(metrics.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_logged_once() {
    let (log, _guard) = Log::start();
    let metrics = Metrics::new();
    let endless = || async {
        let first =
            futures_util::stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"first")))]);
        let frames = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Response::new(axum::body::Body::new(StreamBody::new(frames)))
    };
    let reached = Arc::new(tokio::sync::Notify::new());
    let reach = Arc::clone(&reached);
    let silent = move || async move {
        reach.notify_one();
        future::pending::<StatusCode>().await
    };
    let app = Router::new().route("/stream", get(endless)).route("/silent", get(silent));
    let address = serve(watched(app, &metrics)).await;

    let response = http2().request(call(address, "/stream").body(Empty::new()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let lines = log.access(1).await;
    assert_eq!((&lines[0]["status"], &lines[0]["verdict"]), (&200.into(), &"cancelled".into()));
    assert_eq!(lines[0]["flag"], "DC");

    let silent = http2().request(call(address, "/silent").body(Empty::new()).unwrap());
    tokio::select! {
        _ = silent => panic!("it never answers"),
        () = reached.notified() => {}
    }
    let lines = log.access(2).await;
    assert_eq!(lines.len(), 2, "each once");
    assert_eq!((&lines[1]["status"], &lines[1]["route"]), (&0.into(), &"/silent".into()));
    assert_eq!(metrics.in_flight(), 0);
    let text = metrics.render();
    assert!(
        text.contains(r#"requests_total{route="/silent",method="GET",status="0",verdict="cancelled"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn a_grpc_failure_in_the_trailers_is_one() {
    let (log, _guard) = Log::start();
    let metrics = Metrics::new();
    let app = Router::new().route(
        "/pkg.Service/Method",
        get(|| async {
            let trailers =
                HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("14"))]);
            let body = stream([Frame::data(Bytes::from_static(b"\0\0\0\0\0")), Frame::trailers(trailers)]);
            Response::builder().header("content-type", "application/grpc").body(body).unwrap()
        }),
    );
    let address = serve(watched(app, &metrics)).await;
    let request = call(address, "/pkg.Service/Method").body(Empty::new()).unwrap();
    let collected = http2().request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "14", "passed through");
    let lines = log.access(1).await;
    assert_eq!((&lines[0]["status"], &lines[0]["grpc_status"]), (&200.into(), &14.into()));
    assert_eq!(lines[0]["verdict"], "server_fault");
    assert!(metrics.render().contains(r#"status="200",grpc_status="14",verdict="server_fault"} 1"#));
}

#[tokio::test]
async fn a_tonic_server_is_watched_and_its_client_propagates() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let (log, _guard) = Log::start();
    let metrics = Metrics::new();
    let (_, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .layer(SetRequestId::new().trust(Trust::Always).layer())
        .layer(RequestSpan.layer())
        .layer(AccessLog::new().layer())
        .layer(metrics.layer())
        .layer(ContextLayer::new())
        .add_service(health);
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let channel =
        tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(PropagateRequestId::new().layer().layer(channel));
    let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    let id = portcullis::context::RequestId::new(HeaderValue::from_static("call-1")).unwrap();
    request.extensions_mut().insert(id);
    let response = client.check(request).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "call-1");
    let unknown = client.check(HealthCheckRequest { service: "unknown".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let lines = log.access(2).await;
    assert_eq!(lines[0]["request_id"], "call-1");
    assert_eq!((&lines[0]["grpc_status"], &lines[0]["verdict"]), (&0.into(), &"success".into()));
    assert_eq!((&lines[1]["grpc_status"], &lines[1]["verdict"]), (&5.into(), &"caller_fault".into()));
    assert_eq!(lines[1]["path"], "/grpc.health.v1.Health/Check");
    assert!(
        metrics.render().contains(r#"method="POST",status="200",grpc_status="5",verdict="caller_fault"} 1"#)
    );
}

#[tokio::test]
async fn calls_made_while_handling_carry_the_id() {
    let echo = service_fn(|request: Request<Incoming>| async move {
        let id = request.headers().get("x-request-id").cloned();
        let id = id.unwrap_or_else(|| HeaderValue::from_static("none"));
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::copy_from_slice(id.as_bytes()))))
    });
    let backend = serve(echo).await;
    let client = PropagateRequestId::new().layer().layer(http1());
    let ask = move || {
        let call = client.clone().oneshot(call(backend, "/").body(Empty::new()).unwrap());
        async move { call.await.unwrap().into_body().collect().await.unwrap().to_bytes() }
    };
    let app = Router::new().route(
        "/",
        get(move || async move {
            let head = ask().await;
            // Once more while the body streams, when the handler has long returned.
            let later =
                futures_util::stream::once(async move { Ok::<_, Infallible>(Frame::data(ask().await)) });
            let first = futures_util::stream::iter([
                Ok(Frame::data(head)),
                Ok(Frame::data(Bytes::from_static(b" "))),
            ]);
            Response::new(axum::body::Body::new(StreamBody::new(futures_util::StreamExt::chain(
                first, later,
            ))))
        }),
    );
    let address = serve(watched(app.layer(ContextLayer::new()), &Metrics::new())).await;
    let request = call(address, "/").header("x-request-id", "root-1").body(Empty::new()).unwrap();
    let body = http1().request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "root-1 root-1");
}

/// Stands in for authentication and authorization.
struct Known;

impl Gate for Known {
    type Pass = ();
    fn check(&self, head: &mut Head<'_>) -> Result<(), Answer> {
        head.extensions_mut().insert(Principal::new("customers", "https://id.example", "ada"));
        Ok(())
    }
}

struct Barred;

impl Gate for Barred {
    type Pass = ();
    fn check(&self, _: &mut Head<'_>) -> Result<(), Answer> {
        Err(Rejection::new(Reason::Forbidden).detail("not this one").into())
    }
}

#[tokio::test]
async fn plain_hyper_shows_whom_a_refusal_struck() {
    let (log, _guard) = Log::start();
    let handler = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"never"))))
    });
    let service = AccessLog::new()
        .layer()
        .layer(GateLayer::new(Known).layer(Witness.layer().layer(GateLayer::new(Barred).layer(handler))));
    let address = serve(service).await;
    let response = http1().request(call(address, "/").body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 403);
    response.into_body().collect().await.unwrap();
    let line = log.access(1).await.remove(0);
    assert_eq!((&line["provider"], &line["subject"]), (&"customers".into(), &"ada".into()));
    assert_eq!((&line["reason"], &line["flag"]), (&"forbidden".into(), &"AZ".into()));
}
