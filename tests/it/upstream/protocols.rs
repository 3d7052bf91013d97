//! Each version of HTTP on each side.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{
    attempt::Attempt,
    body::{Body, BoxError},
    reject::{Reason, Rejection},
    trail::Trail,
    upstream::{Proxy, Upstream, Wire},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tower::service_fn;

use super::peers::{Line, OK, Raw, call, echo, edge, get, serve, soon, text};

async fn edge_with(wire: Wire) -> std::net::SocketAddr {
    let endpoint = echo().await.to_string();
    edge(Proxy::new(Upstream::builder("echo").endpoint(endpoint).wire(wire).build().unwrap())).await
}

fn frames() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    trailers.insert("host", HeaderValue::from_static("evil.example"));
    let frames = [
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"hello "))),
        Ok(Frame::data(Bytes::from_static(b"world"))),
        Ok(Frame::trailers(trailers)),
    ];
    Body::new(StreamBody::new(stream::iter(frames)))
}

#[tokio::test]
async fn every_version_to_every_version_with_trailers() {
    for (caller, wire, seen) in [
        (Version::HTTP_11, Wire::Http1, "HTTP/1.1"),
        (Version::HTTP_11, Wire::Http2, "HTTP/2.0"),
        (Version::HTTP_11, Wire::Follow, "HTTP/1.1"),
        (Version::HTTP_2, Wire::Http1, "HTTP/1.1"),
        (Version::HTTP_2, Wire::Http2, "HTTP/2.0"),
        (Version::HTTP_2, Wire::Follow, "HTTP/2.0"),
    ] {
        let edge = edge_with(wire).await;
        let http2 = caller == Version::HTTP_2;
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let request = Request::post(format!("http://{edge}/a/b?c=d"))
            .version(caller)
            .header("te", "trailers")
            .header("trailer", "x-sum, host")
            .body(frames())
            .unwrap();
        let response = soon(client.request(request)).await.unwrap();
        let case = format!("{caller:?} to {wire:?}");
        assert_eq!(response.status(), 200, "{case}");
        assert_eq!(response.version(), caller, "{case}");
        let headers = response.headers().clone();
        assert_eq!(headers["x-version"], seen, "{case}");
        assert_eq!(headers["got-te"], "trailers", "{case}");
        assert!(headers["x-target"].to_str().unwrap().ends_with("/a/b?c=d"), "{case}");
        assert!(!headers.contains_key("connection") && !headers.contains_key("got-keep-alive"), "{case}");
        let body = soon(response.into_body().collect()).await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers.get("x-sum").unwrap(), "42", "{case}");
        assert!(!trailers.contains_key("host"), "{case}");
        assert_eq!(body.to_bytes(), "hello world", "{case}");
    }
}

#[tokio::test]
async fn the_body_streams_both_ways_while_both_are_open() {
    for wire in [Wire::Http1, Wire::Http2] {
        let edge = edge_with(wire).await;
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let (chunks, received) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
        let body = Body::new(StreamBody::new(ReceiverStream::new(received)));
        let request = Request::post(format!("http://{edge}/")).body(body).unwrap();
        chunks.send(Ok(Frame::data(Bytes::from_static(b"0")))).await.unwrap();
        let mut echoed = soon(client.request(request)).await.unwrap().into_body().into_data_stream();
        for n in 0..20 {
            assert_eq!(soon(echoed.next()).await.unwrap().unwrap(), n.to_string());
            chunks.send(Ok(Frame::data(Bytes::from((n + 1).to_string())))).await.unwrap();
        }
        drop(chunks);
        assert_eq!(soon(echoed.next()).await.unwrap().unwrap(), "20");
        while let Some(end) = soon(echoed.next()).await {
            assert_eq!(end.unwrap(), "", "HTTP/2 may end with an empty frame");
        }
    }
}

#[tokio::test]
async fn http2_becomes_http1_as_the_standards_say() {
    let upstream = Raw::answering(OK).await;
    let proxy = Proxy::new(super::peers::upstream([upstream.address]));
    let request = Request::get("https://shop.example:8443/a?b")
        .version(Version::HTTP_2)
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::default())
        .unwrap();
    assert_eq!(text(call(&proxy, request).await.unwrap()).await, "ok");
    let heard = &upstream.heard()[0];
    assert!(heard.starts_with("GET /a?b HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains("host: shop.example:8443\r\n"), "{heard}");
    assert!(heard.contains("cookie: a=1; b=2\r\n"), "{heard}");
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let upstream = Raw::start(|_, mut line| async move {
        line.hear("0\r\n\r\n").await;
        line.say(OK).await;
    })
    .await;
    let proxy = Proxy::new(super::peers::upstream([upstream.address]));
    let frames = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"query")))]);
    let request = Request::get("/").header("host", "a").body(StreamBody::new(frames)).unwrap();
    let response = soon(tower::ServiceExt::oneshot(proxy, request)).await.unwrap();
    assert_eq!(response.status(), 200);
    let heard = &upstream.heard()[0];
    assert!(
        heard.contains("transfer-encoding: chunked") && heard.ends_with("5\r\nquery\r\n0\r\n\r\n"),
        "{heard}"
    );
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let upstream =
        Raw::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let (edge, _) = super::peers::edge_to([upstream.address]).await;
    let mut client = Line::to(edge).await;
    client.say("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.contains("chunked"), "{answer}");
    assert!(upstream.heard()[0].starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn responses_without_a_body_have_none_and_keep_the_connection() {
    let upstream = Raw::start(|_, mut line| async move {
        while let Some(head) = line.head().await {
            line.say(if head.starts_with("head") {
                "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
            } else if head.contains("/none") {
                "HTTP/1.1 204 No Content\r\n\r\n"
            } else {
                "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n"
            })
            .await;
        }
    })
    .await;
    let (edge, _) = super::peers::edge_to([upstream.address]).await;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    for (method, path, status, length) in [
        (Method::HEAD, "/", 200, Some("1000")),
        (Method::GET, "/none", 204, None),
        (Method::GET, "/same", 304, None),
    ] {
        let request = Request::builder().method(method).uri(format!("http://{edge}{path}"));
        let response = soon(client.request(request.body(Empty::new()).unwrap())).await.unwrap();
        assert_eq!(response.status(), status);
        let said = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!(said, length, "{path}");
        assert_eq!(text(response).await, "");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn the_attempt_is_told_to_the_trail_or_else_with_the_answer() {
    let upstream = Raw::answering(OK).await;
    let proxy = Proxy::new(super::peers::upstream([upstream.address]));
    for (connected, has_trail) in [(true, true), (false, true), (false, false)] {
        let trail = Trail::default();
        let mut request = get("/");
        if has_trail {
            request.extensions_mut().insert(trail.clone());
        }
        let response = call(&proxy, request).await.unwrap();
        let answered = response.extensions().get::<Attempt>().cloned();
        assert_eq!(answered.is_some(), !has_trail, "it is told once");
        let attempt = answered.or(trail.attempt()).unwrap();
        assert_eq!(
            (&*attempt.upstream, attempt.endpoint, attempt.attempts),
            ("test", Some(upstream.address), 1)
        );
        assert_eq!(attempt.connect.is_some(), connected);
        text(response).await;
    }
    let nobody = Raw::start(|_, _| async {}).await;
    let trail = Trail::default();
    let mut request = get("/");
    request.extensions_mut().insert(trail.clone());
    assert!(call(&Proxy::new(super::peers::upstream([nobody.address])), request).await.is_err());
    assert_eq!(trail.attempt().unwrap().endpoint, Some(nobody.address));
}

#[tokio::test]
async fn a_layer_that_cuts_the_request_is_the_one_who_speaks() {
    // The error of a body says why, also where HTTP/2 does not carry it.
    let patient = serve(service_fn(|request: Request<Incoming>| async {
        request.into_body().collect().await.map(|_| http::Response::new(Body::empty()))
    }))
    .await;
    for wire in [Wire::Http1, Wire::Http2] {
        let group = Upstream::builder("a").endpoint(patient.to_string()).wire(wire).build().unwrap();
        let frames = [
            Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"some"))),
            Err(Box::new(Rejection::new(Reason::BodyTooLarge))),
        ];
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let request = Request::post("/").header("host", "a").body(body).unwrap();
        let refused = soon(tower::ServiceExt::oneshot(Proxy::new(group.clone()), request)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::BodyTooLarge, "{wire:?}");
        assert_eq!(group.endpoints()[0].in_flight, 0);
    }
}
