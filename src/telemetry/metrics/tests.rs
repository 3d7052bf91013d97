use super::{
    labels::{self, Labels},
    series::Table,
    *,
};
use crate::{
    attempt::Variant,
    gate::{Gate, Pass},
    head::Head,
    key::RouteName,
    outcome::Outcome,
    reject::{Reason, Rejection},
    trail::Trail,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use std::{convert::Infallible, future, time::Duration};
use tower::{Layer, ServiceExt, service_fn};

fn routed(route: &str) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(RouteName(route.into()));
    request
}

async fn count<B>(metrics: &Metrics, request: Request<()>, response: Response<B>)
where
    B: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let response = std::sync::Mutex::new(Some(response));
    let service = metrics.layer().layer(service_fn(|_: Request<()>| {
        future::ready(Ok::<_, Infallible>(response.lock().unwrap().take().unwrap()))
    }));
    service.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
}

fn status(status: u16) -> Response<Empty<Bytes>> {
    Response::builder().status(status).body(Empty::new()).unwrap()
}

#[track_caller]
fn has(metrics: &Metrics, line: &str) {
    let text = metrics.render();
    assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
}

#[tokio::test(start_paused = true)]
async fn requests_and_durations_are_counted_at_the_end_of_the_body() {
    let metrics = Metrics::builder().buckets([Duration::from_millis(1), Duration::from_millis(10)]).build();
    let service = metrics.layer().layer(service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"abc"))))
    }));
    let response = service.oneshot(routed("orders")).await.unwrap();
    assert_eq!(metrics.in_flight(), 1);
    assert!(!metrics.render().contains("orders"), "the head is not the end");
    tokio::time::advance(Duration::from_millis(5)).await;
    response.into_body().collect().await.unwrap();
    assert_eq!(metrics.in_flight(), 0);
    for line in [
        "# TYPE portcullis_requests counter",
        r#"portcullis_requests_total{route="orders",method="GET",status="200",verdict="success"} 1"#,
        "# TYPE portcullis_request_duration_seconds histogram",
        r#"portcullis_request_duration_seconds_sum{route="orders"} 0.005"#,
        r#"portcullis_request_duration_seconds_count{route="orders"} 1"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.001",route="orders"} 0"#,
        r#"portcullis_request_duration_seconds_bucket{le="0.01",route="orders"} 1"#,
        r#"portcullis_request_duration_seconds_bucket{le="+Inf",route="orders"} 1"#,
        "portcullis_requests_in_flight 0",
        "# EOF",
    ] {
        has(&metrics, line);
    }
}

#[tokio::test]
async fn a_refusal_is_counted_by_its_reason() {
    let metrics = Metrics::new();
    let mut response = status(429);
    response.extensions_mut().insert(Rejection::new(Reason::RateLimited));
    count(&metrics, routed("a"), response).await;
    has(
        &metrics,
        r#"portcullis_requests_total{route="a",method="GET",status="429",reason="rate_limited",verdict="caller_fault"} 1"#,
    );
}

#[tokio::test]
async fn a_grpc_failure_in_the_trailers_is_a_failure() {
    let metrics = Metrics::new();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("14"))]);
    let body = Full::new(Bytes::from_static(b"x")).with_trailers(future::ready(Some(Ok(trailers))));
    let response = Response::builder().header("content-type", "application/grpc").body(body).unwrap();
    count(&metrics, routed("a"), response).await;
    has(
        &metrics,
        r#"portcullis_requests_total{route="a",method="GET",status="200",grpc_status="14",verdict="server_fault"} 1"#,
    );
}

#[tokio::test]
async fn a_call_given_up_is_counted_under_the_route_that_was_told() {
    let metrics = Metrics::new();
    let service = metrics.layer().layer(service_fn(|request: Request<()>| async move {
        let trail = request.extensions().get::<Trail>().unwrap();
        trail.set_route(RouteName("slow".into()));
        trail.set_variant(Variant::new("canary"));
        future::pending::<Result<Response<Empty<Bytes>>, Infallible>>().await
    }));
    let mut call = tokio_test::task::spawn(service.oneshot(Request::new(())));
    assert!(call.poll().is_pending());
    assert_eq!(metrics.in_flight(), 1);
    drop(call);
    assert_eq!(metrics.in_flight(), 0);
    has(
        &metrics,
        r#"portcullis_requests_total{route="slow",variant="canary",method="GET",status="0",verdict="cancelled"} 1"#,
    );
}

#[tokio::test]
async fn the_route_on_the_response_is_believed() {
    let metrics = Metrics::new();
    let mut response = status(200);
    response.extensions_mut().insert(RouteName("inside".into()));
    response.extensions_mut().insert(Variant::new("b"));
    count(&metrics, Request::new(()), response).await;
    has(
        &metrics,
        r#"portcullis_requests_total{route="inside",variant="b",method="GET",status="200",verdict="success"} 1"#,
    );
}

#[tokio::test]
async fn strangers_make_no_labels() {
    let metrics = Metrics::new();
    for i in 0..500 {
        let uri = format!("/scan/{i}?q={i}");
        let method = Method::from_bytes(format!("M{i}").as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(uri).header("host", format!("h{i}"));
        count(&metrics, request.body(()).unwrap(), status(404)).await;
    }
    has(
        &metrics,
        r#"portcullis_requests_total{route="_unmatched",method="_other",status="404",verdict="caller_fault"} 500"#,
    );
    assert_eq!(
        metrics.render().lines().filter(|line| line.starts_with("portcullis_requests_total")).count(),
        1
    );
}

#[tokio::test]
async fn routes_beyond_the_cap_are_counted_together() {
    let metrics = Metrics::builder().max_routes(2).build();
    for route in ["a", "b", "c", "d", "a"] {
        count(&metrics, routed(route), status(200)).await;
    }
    for (route, times) in [("a", 2), ("b", 1), ("_other", 2)] {
        let labels = format!(r#"route="{route}",method="GET",status="200",verdict="success""#);
        has(&metrics, &format!("portcullis_requests_total{{{labels}}} {times}"));
    }
}

#[tokio::test]
async fn an_upstream_with_ever_new_statuses_is_bounded() {
    let metrics = Metrics::new();
    for code in 200..=999 {
        count(&metrics, routed("a"), status(code)).await;
    }
    let text = metrics.render();
    assert_eq!(text.lines().filter(|line| line.starts_with("portcullis_requests_total")).count(), 257);
    has(&metrics, &format!(r#"portcullis_requests_total{{route="a",status="_other"}} {}"#, 800 - 256));
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    let mut pass = metrics.check(&mut Head::of(&mut routed("a\"b\\c\nd"))).unwrap();
    pass.on_head(&mut status(200).into_parts().0);
    drop(crate::outcome::Completion::new(pass));
    assert!(metrics.render().contains(r#"route="a\"b\\c\nd""#), "{}", metrics.render());
}

#[test]
fn the_process_tells_of_itself() {
    let metrics = Metrics::builder().namespace("edge").build();
    metrics.process().config_loaded(3);
    metrics.process().config_refused();
    metrics.process().connection_opened();
    metrics.process().connection_opened();
    metrics.process().connection_closed();
    metrics.process().connection_refused();
    for line in [
        "edge_config_generation 3",
        "edge_config_loads_total 1",
        "edge_config_load_failures_total 1",
        "edge_connections_open 1",
        "edge_connections_accepted_total 2",
        "edge_connections_refused_total 1",
    ] {
        has(&metrics, line);
    }
}

fn outcome() -> Outcome {
    struct Keep<'a>(&'a std::sync::Mutex<Option<Outcome>>);
    impl Pass for Keep<'static> {
        fn on_end(&mut self, outcome: &Outcome) {
            *self.0.lock().unwrap() = Some(*outcome);
        }
    }
    static KEPT: std::sync::Mutex<Option<Outcome>> = std::sync::Mutex::new(None);
    let mut completion = crate::outcome::Completion::new(Keep(&KEPT));
    completion.head(&mut status(200).into_parts().0, true);
    drop(completion);
    KEPT.lock().unwrap().unwrap()
}

#[test]
fn counting_is_exact_under_contention() {
    let table = Table::new(64, Box::new([Duration::from_millis(1)]));
    let outcome = outcome();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..2_000_u32 {
                    let route = format!("r{}", i % 8);
                    let labels = Labels::of((i % 40 % 10) as u8, &outcome);
                    table.series(&route, None).record(labels, table.bounds(), Duration::from_micros(5));
                }
            });
        }
    });
    let (mut total, mut routes) = (0, 0);
    for series in table.all() {
        routes += 1;
        total += series.requests().map(|(_, count)| count).sum::<u64>();
        assert_eq!(series.durations().0.iter().sum::<u64>(), 1000);
    }
    assert_eq!((routes, total), (8, 8_000));
}

#[test]
fn a_known_route_is_counted_without_allocating() {
    let metrics = Metrics::new();
    let mut request = routed("orders");
    let (mut head, ()) = Response::new(()).into_parts();
    let mut once = || {
        let pass = metrics.check(&mut Head::of(&mut request)).unwrap();
        let mut completion = crate::outcome::Completion::new(pass);
        completion.head(&mut head, true);
        completion.complete();
    };
    once();
    assert_eq!(allocation_counter::measure(&mut once).count_total, 0);
    has(
        &metrics,
        r#"portcullis_requests_total{route="orders",method="GET",status="200",verdict="success"} 2"#,
    );
}

#[test]
fn every_reason_and_method_has_its_label() {
    for (i, reason) in Reason::ALL.iter().enumerate() {
        let labels =
            Labels::of(labels::method(&Method::PATCH), &Outcome { reason: Some(*reason), ..outcome() });
        let pairs: Vec<_> = labels.pairs().collect();
        assert!(pairs.contains(&("reason", reason.label().into())), "{i}: {pairs:?}");
        assert!(pairs.contains(&("method", "PATCH".into())));
        assert!(pairs.contains(&("status", StatusCode::OK.as_str().into())));
    }
}
