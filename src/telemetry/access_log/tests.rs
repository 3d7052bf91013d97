use super::*;
use crate::{
    attempt::{Attempt, Variant},
    context::RequestId,
    key::RouteName,
    reject::{Reason, Rejection},
    telemetry::capture::{Fields, Log},
    trail::Trail,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use std::{convert::Infallible, future, time::Duration};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;

fn request(uri: &str) -> Request<()> {
    let mut request = Request::builder().uri(uri).header("host", "shop.example").body(()).unwrap();
    request.extensions_mut().insert(RequestId::new(HeaderValue::from_static("id-1")).unwrap());
    request
}

fn only(log: &Log) -> Fields {
    let mut events = log.of(TARGET);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0).fields
}

async fn logged(layer: AccessLog, request: Request<()>) -> Fields {
    let (log, _guard) = Log::start(Level::INFO);
    let ok = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    drop(layer.layer().layer(ok).oneshot(request).await.unwrap());
    only(&log)
}

#[tokio::test]
async fn a_method_is_bounded() {
    let mut request = request("/");
    *request.method_mut() = "M".repeat(10_000).parse().unwrap();
    assert_eq!(logged(AccessLog::new(), request).await["method"], "M".repeat(32));
}

#[tokio::test(start_paused = true)]
async fn one_event_tells_it_all() {
    let (log, _guard) = Log::start(Level::INFO);
    let service = AccessLog::new().layer().layer(service_fn(|request: Request<()>| async move {
        let trail = request.extensions().get::<Trail>().unwrap().clone();
        trail.set_route(RouteName("orders".into()));
        tokio::time::advance(Duration::from_millis(2)).await;
        let mut response = Response::new(Full::new(Bytes::from_static(b"abc")));
        response.extensions_mut().insert(Variant::new("canary"));
        response
            .extensions_mut()
            .insert(Attempt::new("orders-canary").endpoint("127.0.0.1:9003".parse().unwrap()).attempts(2));
        Ok::<_, Infallible>(response)
    }));
    let response = service.oneshot(request("/api/orders?page=2")).await.unwrap();
    assert!(log.of(TARGET).is_empty(), "the head is not the end");
    tokio::time::advance(Duration::from_millis(3)).await;
    response.into_body().collect().await.unwrap();

    let event = only(&log);
    for (field, value) in [
        ("request_id", "id-1"),
        ("method", "GET"),
        ("host", "shop.example"),
        ("path", "/api/orders"),
        ("protocol", "HTTP/1.1"),
        ("verdict", "success"),
        ("route", "orders"),
        ("variant", "canary"),
        ("upstream", "orders-canary"),
        ("endpoint", "127.0.0.1:9003"),
        ("status", "200"),
        ("attempts", "2"),
        ("head_us", "2000"),
        ("duration_us", "5000"),
    ] {
        assert_eq!(&event[field], value, "{field}");
    }
    for field in ["query", "reason", "flag", "grpc_status", "subject", "connect_us"] {
        assert!(!event.has(field), "{field}");
    }
}

#[tokio::test]
async fn a_refusal_shows_its_reason() {
    let (log, _guard) = Log::start(Level::INFO);
    struct No;
    impl crate::gate::Gate for No {
        type Pass = ();
        fn check(&self, _: &mut crate::head::Head<'_>) -> Result<(), crate::reject::Answer> {
            Err(Rejection::new(Reason::RateLimited).into())
        }
    }
    let ok = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    let inner = crate::gate::GateLayer::new(No).layer(ok);
    AccessLog::new()
        .layer()
        .layer(inner)
        .oneshot(request("/"))
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    let event = only(&log);
    assert_eq!(&event["status"], "429");
    assert_eq!(&event["reason"], "rate_limited");
    assert_eq!(&event["flag"], "RL");
    assert_eq!(&event["verdict"], "caller_fault");
}

#[test]
fn a_cause_that_says_what_was_told_is_told_once() {
    let said = |text: &'static str| Rejection::new(Reason::InvalidCredentials).detail(text);
    let bad = said("bad token").source(std::io::Error::other("bad token"));
    let of_all = said("bad token").source(bad);
    assert_eq!(event::why(&of_all).as_deref(), Some("bad token"));
    let often = Rejection::new(Reason::RateLimited).detail("too many").source(of_all);
    assert_eq!(event::why(&often).as_deref(), Some("too many: bad token"));
    // A refusal without a detail is told by its reason.
    let bare = said("closed").source(Rejection::new(Reason::Overloaded));
    assert_eq!(event::why(&bare).as_deref(), Some("closed: overloaded"));
}

#[tokio::test]
async fn a_grpc_call_that_fails_in_its_trailers_failed() {
    let (log, _guard) = Log::start(Level::INFO);
    let service = AccessLog::new().layer().layer(service_fn(|_: Request<()>| async {
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("13"))]);
        let body = Full::new(Bytes::from_static(b"x")).with_trailers(future::ready(Some(Ok(trailers))));
        let response = Response::builder().header("content-type", "application/grpc").body(body).unwrap();
        Ok::<_, Infallible>(response)
    }));
    service.oneshot(request("/a.B/C")).await.unwrap().into_body().collect().await.unwrap();
    let event = only(&log);
    assert_eq!((&event["status"], &event["grpc_status"]), ("200", "13"));
    assert_eq!(&event["verdict"], "server_fault");
}

#[tokio::test]
async fn a_call_given_up_before_its_head_is_logged_with_what_was_known() {
    let (log, _guard) = Log::start(Level::INFO);
    let service = AccessLog::new().layer().layer(service_fn(|request: Request<()>| async move {
        request.extensions().get::<Trail>().unwrap().set_attempt(Attempt::new("slow"));
        future::pending::<Result<Response<Empty<Bytes>>, Infallible>>().await
    }));
    let mut call = tokio_test::task::spawn(service.oneshot(request("/")));
    assert!(call.poll().is_pending());
    drop(call);
    let event = only(&log);
    assert_eq!(&event["status"], "0");
    assert_eq!(&event["verdict"], "cancelled");
    assert_eq!(&event["flag"], "DC");
    assert_eq!(&event["upstream"], "slow");
}

#[tokio::test]
async fn an_error_is_logged_and_passed_on() {
    let (log, _guard) = Log::start(Level::INFO);
    let service = AccessLog::new().layer().layer(service_fn(|_: Request<()>| async {
        Err::<Response<Empty<Bytes>>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    }));
    let error = service.oneshot(request("/")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let event = only(&log);
    assert_eq!((&event["status"], &event["flag"]), ("0", "UF"));
    assert_eq!(&event["verdict"], "server_fault");
}

#[tokio::test]
async fn hostile_targets_cannot_forge_a_line() {
    let (log, _guard) = Log::start(Level::INFO);
    let mut hostile = request("/a%0d%0a\"b\"?x=1");
    hostile.headers_mut().insert("host", HeaderValue::from_bytes(b"user:hush@a\tb\xff\"").unwrap());
    let ok = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) });
    drop(AccessLog::new().layer().layer(ok).oneshot(hostile).await.unwrap());
    let event = only(&log);
    assert_eq!(&event["path"], "/a%0d%0a%22b%22");
    assert_eq!(&event["host"], "a%09b%FF%22");
    assert!(!event.any(|value| value.contains("hush")));
}

#[tokio::test]
async fn paths_are_cut() {
    let event = logged(AccessLog::new().max_path(5), request("/0123456789")).await;
    assert_eq!(&event["path"], "/0123...");
}

#[tokio::test]
async fn a_query_is_written_only_if_told_and_never_its_secrets() {
    let target = "/?page=2&access_token=hush&pin=hush&x=hush";
    assert!(!logged(AccessLog::new(), request(target)).await.has("query"));
    let event = logged(AccessLog::new().query(true).redact("PIN").redact("x"), request(target)).await;
    assert_eq!(&event["query"], "page=2&access_token=***&pin=***&x=***");
}

#[tokio::test]
async fn while_nobody_listens_nothing_is_noted() {
    let (log, _guard) = Log::start(Level::WARN);
    let mut service = AccessLog::new().layer().layer(service_fn(|_: Request<()>| {
        future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    }));
    let request = request("/");
    let cost = allocation_counter::measure(|| {
        let future = tower_service::Service::call(&mut service, request);
        drop(futures_util::FutureExt::now_or_never(future));
    });
    assert_eq!(cost.count_total, 0);
    assert!(log.of(TARGET).is_empty());
}
