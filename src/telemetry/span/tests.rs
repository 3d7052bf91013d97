use super::*;
use crate::{
    context::RequestId,
    gate::{Gate, GateLayer, Gates, Pass},
    head::Head,
    key::RouteName,
    outcome::Outcome,
    reject::Answer,
    telemetry::capture::Log,
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;

fn request() -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(RequestId::new(HeaderValue::from_static("id-1")).unwrap());
    request
}

/// Logs in the handler and again while the body streams.
async fn talk(_: Request<()>) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    tracing::info!(target: "talk", "in the handler");
    let frames = futures_util::stream::once(async {
        tracing::info!(target: "talk", "in the body");
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))
    });
    let mut response = Response::new(StreamBody::new(frames));
    response.extensions_mut().insert(RouteName("orders".into()));
    Ok(response)
}

#[tokio::test]
async fn handler_and_body_run_inside_of_the_span() {
    let (log, _guard) = Log::start(Level::INFO);
    let service = RequestSpan.layer().layer(service_fn(talk));
    service.oneshot(request()).await.unwrap().into_body().collect().await.unwrap();
    let events = log.of("talk");
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!(&event.span["request_id"], "id-1");
        assert_eq!(&event.span["method"], "GET");
    }
    assert_eq!(&events[1].span["route"], "orders", "known by the time of the body");
    assert!(!events[0].span.has("route"));
}

struct Talker;
struct Talk;

impl Gate for Talker {
    type Pass = Talk;

    fn check(&self, _: &mut Head<'_>) -> Result<Talk, Answer> {
        tracing::info!(target: "talk", "on the way in");
        Ok(Talk)
    }
}

impl Pass for Talk {
    fn on_head(&mut self, _: &mut http::response::Parts) {
        tracing::info!(target: "talk", "at the head");
    }
    fn on_end(&mut self, _: &Outcome) {
        tracing::info!(target: "talk", "at the end");
    }
}

#[tokio::test]
async fn gates_inside_run_in_the_span_to_a_sudden_end() {
    let (log, _guard) = Log::start(Level::INFO);
    let tuple = GateLayer::new((RequestSpan, Talker));
    let slice = GateLayer::new(Gates::new().with(RequestSpan).with(Talker));
    drop(tuple.layer(service_fn(talk)).oneshot(request()).await.unwrap());
    drop(slice.layer(service_fn(talk)).oneshot(request()).await.unwrap());
    let events = log.of("talk");
    assert_eq!(events.len(), 8, "on the way in, in the handler, at the head, at the end");
    assert!(events.iter().all(|event| &event.span["request_id"] == "id-1"), "{events:?}");
}

#[tokio::test]
async fn a_route_known_before_is_there_from_the_start() {
    let (log, _guard) = Log::start(Level::INFO);
    let mut request = request();
    request.extensions_mut().insert(RouteName("early".into()));
    let service = RequestSpan.layer().layer(service_fn(talk));
    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert!(log.of("talk").iter().all(|event| &event.span["route"] == "early"));
}

#[tokio::test]
async fn two_streams_do_not_mix_their_spans() {
    let (log, _guard) = Log::start(Level::INFO);
    let mut second = request();
    second.extensions_mut().insert(RequestId::new(HeaderValue::from_static("id-2")).unwrap());
    let layer = RequestSpan.layer();
    let one = layer.layer(service_fn(talk)).oneshot(request()).await.unwrap();
    let two = layer.layer(service_fn(talk)).oneshot(second).await.unwrap();
    two.into_body().collect().await.unwrap();
    one.into_body().collect().await.unwrap();
    let ids: Vec<_> = log.of("talk").iter().map(|event| event.span["request_id"].to_owned()).collect();
    assert_eq!(ids, ["id-1", "id-2", "id-2", "id-1"]);
}

#[tokio::test]
async fn disabled_or_unwanted_it_opens_none() {
    let (log, _guard) = Log::start(Level::INFO);
    GateLayer::<RequestSpan>::disabled().layer(service_fn(talk)).oneshot(request()).await.unwrap();
    assert!(!log.of("talk")[0].span.has("method"));
}

#[tokio::test]
async fn bodies_keep_their_hints_and_trailers() {
    let trailers = http::HeaderMap::from_iter([(http::header::ETAG, HeaderValue::from_static("t"))]);
    let sent = trailers.clone();
    let service = RequestSpan.layer().layer(service_fn(move |_: Request<()>| {
        let body = http_body_util::Full::new(Bytes::from_static(b"abc"));
        let sent = sent.clone();
        async move { Ok::<_, Infallible>(Response::new(body.with_trailers(async move { Some(Ok(sent)) }))) }
    }));
    let body = service.oneshot(request()).await.unwrap().into_body();
    assert_eq!(body.size_hint().lower(), 3);
    assert!(!body.is_end_stream());
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
}

#[tokio::test]
async fn without_a_subscriber_it_allocates_nothing() {
    let mut service = RequestSpan.layer().layer(service_fn(|_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(Response::new(http_body_util::Empty::<Bytes>::new())))
    }));
    let request = request();
    let cost = allocation_counter::measure(|| {
        let future = tower_service::Service::call(&mut service, request);
        drop(futures_util::FutureExt::now_or_never(future));
    });
    assert_eq!(cost.count_total, 0);
}
