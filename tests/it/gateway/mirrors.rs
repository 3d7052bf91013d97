//! Copies of requests, over real sockets: what mirrors do is nothing to those who ask.
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::{client::legacy::Client as Legacy, rt::TokioExecutor};
use portcullis::config::Config;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

use super::world::{Gateway, file, nobody, upstream, yaml_of};
use crate::support::log::Log;

/// What an upstream has read: its head, its body, and its `grpc-status` trailer of the request.
type Read = (http::request::Parts, Bytes, Option<http::HeaderMap>);

/// An upstream that answers with what it has read, and tells it. It speaks HTTP/1.1 and HTTP/2.
async fn echo() -> (SocketAddr, UnboundedReceiver<Read>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (send, receive) = unbounded_channel();
    let app = Router::new().fallback(move |request: Request| {
        let send = send.clone();
        async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await else { return http::Response::default() };
            let trailers = body.trailers().cloned();
            let bytes = body.to_bytes();
            let kind = head.headers.get("content-type").cloned();
            let _ = send.send((head, bytes.clone(), trailers.clone()));
            let frames = [Ok(http_body::Frame::data(bytes))].into_iter().chain(
                trailers.map(|trailers| Ok::<_, std::io::Error>(http_body::Frame::trailers(trailers))),
            );
            let mut response = http::Response::new(axum::body::Body::new(StreamBody::new(
                futures_util::stream::iter(frames.collect::<Vec<_>>()),
            )));
            response.headers_mut().extend(kind.map(|kind| (http::header::CONTENT_TYPE, kind)));
            response
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, receive)
}

/// A mirror that reads heads, and then does this with their connections.
async fn raw<F: Future<Output = ()> + Send>(
    then: impl Fn(tokio::net::TcpStream) -> F + Send + Copy + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                count.fetch_add(1, Ordering::Relaxed);
                then(stream).await;
            });
        }
    });
    (address, asked)
}

fn text(primary: SocketAddr, mirror: SocketAddr, filter: &str, policies: &str) -> String {
    file(&format!(
        "upstreams: {{ old: {{ endpoints: ['{primary}'] }}, new: {{ endpoints: ['{mirror}'], connectTimeout: 1s }} }}\n\
         routes: [{{ name: r, rules: [{{ name: all, backendRefs: [{{ name: old }}], policies: {{ {policies} }}, \
         filters: [{{ type: RequestMirror, requestMirror: {{ backendRef: {{ name: new }}{filter} }} }}] }}] }}]\n"
    ))
}

/// The mirror's numbers, once all of its copies are through.
async fn settled(gateway: &Gateway, begun: u64) -> Value {
    let through = |status: &Value| {
        let mirror = &status["mirrors"][0];
        mirror["begun"] == begun && mirror["inFlight"] == 0
    };
    gateway.until(through).await["mirrors"][0].clone()
}

async fn post(gateway: &Gateway, body: Bytes) -> (u16, Bytes) {
    let client = Legacy::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = http::Request::post(format!("http://{}/orders?a=b", gateway.at("public")))
        .header("x-mirror", "forged")
        .header("host", "shop.example:8080")
        .body(Full::new(body));
    let response = client.request(request.unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_mirror_gets_a_copy_that_is_known_for_one() {
    let ((old, mut at_old), (new, mut at_new)) = (echo().await, echo().await);
    let gateway = Gateway::of(&text(old, new, "", "mirror: { hostSuffix: -shadow }")).await;
    let body: Bytes = (0..100_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    assert_eq!(post(&gateway, body.clone()).await, (200, body.clone()));
    let ((ours, our_body, _), (theirs, their_body, _)) =
        (at_old.recv().await.unwrap(), at_new.recv().await.unwrap());
    assert!(our_body == body && their_body == body);
    assert_eq!((&ours.uri, &ours.method), (&theirs.uri, &theirs.method));
    assert_eq!(
        (&ours.headers["host"], &theirs.headers["host"]),
        (&"shop.example:8080".parse().unwrap(), &"shop.example-shadow:8080".parse().unwrap())
    );
    assert_eq!((ours.headers.get("x-mirror"), &theirs.headers["x-mirror"]), (None, &"new".parse().unwrap()));
    let mut rest = [ours.headers, theirs.headers];
    for headers in &mut rest {
        headers.remove("host");
        headers.remove("x-mirror");
    }
    assert_eq!(rest[0], rest[1]);
    let mirror = settled(&gateway, 1).await;
    assert_eq!(
        (&mirror["completed"], &mirror["rule"], &mirror["mirror"]),
        (&1.into(), &"r/all".into(), &"new".into())
    );
}

/// Down, slow, endless, silent, cut off: the primary's answers and bytes are unchanged, and nothing grows.
#[tokio::test]
async fn whatever_mirrors_do_the_answers_are_the_primarys() {
    const LARGE: usize = 16 << 20; // more than sockets hold on the way to somebody who does not read
    let (endless, _) = raw(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000][..], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await;
    let (silent, _) = raw(|mut stream| async move {
        let mut scratch = vec![0; 65_536];
        while stream.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (stuck, _) = raw(|stream| async move {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        drop(stream); // until then it is open, and nobody reads
    })
    .await;
    let (reset, _) = raw(|_| async {}).await;
    for (name, mirror, timeout, size, expected) in [
        ("down", nobody(), "1m", 1_000, "failed"),
        ("down", nobody(), "1m", LARGE, "failed"),
        ("reset", reset, "1m", 1_000, "failed"),
        ("endless", endless, "1m", 1_000, "completed"),
        ("silent", silent, "300ms", 1_000, "deadline"),
        ("stuck", stuck, "1m", LARGE, "behind"),
    ] {
        let (old, mut at_old) = echo().await;
        let gateway = Gateway::of(&text(old, mirror, "", &format!("mirror: {{ timeout: {timeout} }}"))).await;
        let body = Bytes::from(vec![b'x'; size]);
        let (status, answer) = post(&gateway, body.clone()).await;
        assert!(status == 200 && answer == body, "{name}: {status}, {} bytes", answer.len());
        assert!(at_old.recv().await.unwrap().1 == body, "{name}");
        let mirror = settled(&gateway, 1).await;
        let count = if expected == "completed" { &mirror["completed"] } else { &mirror["dropped"][expected] };
        assert_eq!(count, 1, "{name}, {size}: {mirror}");
    }
}

#[tokio::test]
async fn no_more_copies_are_under_way_than_may_be() {
    let (silent, asked) = raw(|mut stream| async move { drop(stream.read(&mut [0; 1]).await) }).await;
    let old = upstream("old").await;
    let gateway = Gateway::of(&text(old, silent, "", "mirror: { maxInFlight: 3, timeout: 1h }")).await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/", &[]).await.status, 200);
    }
    let status = gateway.until(|status| status["mirrors"][0]["inFlight"] == 3).await;
    let mirror = &status["mirrors"][0];
    assert_eq!((&mirror["begun"], &mirror["dropped"]["busy"]), (&3.into(), &17.into()));
    assert!(asked.load(Ordering::Relaxed) <= 3);
    let metrics = gateway.client.get(gateway.at("admin"), "/metrics", &[]).await.text;
    for sample in [
        r#"portcullis_mirrored_total{route="r/all",mirror="new"} 3"#,
        r#"portcullis_mirrored_dropped_total{route="r/all",mirror="new",reason="busy"} 17"#,
        r#"portcullis_mirrored_in_flight{route="r/all",mirror="new"} 3"#,
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_share_is_mirrored() {
    let ((old, _at_old), (new, _at_new)) = (echo().await, echo().await);
    let filter = ", fraction: { numerator: 1, denominator: 4 }";
    let gateway = Gateway::of(&text(old, new, filter, "")).await;
    for _ in 0..400 {
        gateway.get("/", &[]).await;
    }
    let begun = gateway.status().await["mirrors"][0]["begun"].as_u64().unwrap();
    // Six standard deviations of a binomial with n = 400 and p = 1/4 are 52.
    assert!((48..=152).contains(&begun), "{begun}");
}

/// A call of gRPC over HTTP/2, with trailers both ways; the versions differ in their status.
#[tokio::test]
async fn grpc_is_mirrored_and_compared_with_its_trailers() {
    let ((old, mut at_old), (new, mut at_new)) = (echo().await, echo().await);
    let gateway = Gateway::of(&text(old, new, "", "mirror: { compare: { body: true } }")).await;
    let client = Legacy::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "5".parse().unwrap());
    let frames = [http_body::Frame::data(Bytes::from("\0\0\0\0\0")), http_body::Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::io::Error>)));
    let request = http::Request::post(format!("http://{}/stock.Stock/Get", gateway.at("public")))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .body(body.boxed());
    let response = client.request(request.unwrap()).await.unwrap();
    let answer = response.into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["grpc-status"], "5");
    let ((ours, _, our_trailers), (theirs, their_body, their_trailers)) =
        (at_old.recv().await.unwrap(), at_new.recv().await.unwrap());
    assert_eq!((ours.version, theirs.version), (http::Version::HTTP_2, http::Version::HTTP_2));
    assert_eq!((&*their_body, our_trailers), (&b"\0\0\0\0\0"[..], their_trailers));
    let millis = |head: &http::request::Parts| {
        let timeout = head.headers["grpc-timeout"].to_str().unwrap();
        let (number, unit) = timeout.split_at(timeout.len() - 1);
        let unit = match unit {
            "S" => 1_000_000,
            "m" => 1_000,
            "u" => 1,
            _ => panic!("{timeout}"),
        };
        number.parse::<u64>().unwrap() * unit / 1_000
    };
    assert!(millis(&ours) <= 10_000 && millis(&theirs) > 10_000, "a copy has its own time");
    let mirror = settled(&gateway, 1).await;
    assert_eq!((&mirror["compared"], &mirror["different"]), (&1.into(), &0.into()));
}

#[tokio::test]
async fn what_a_rewrite_answers_differently_is_counted_and_logged() {
    let (log, _guard) = Log::start();
    let (old, new) = (upstream("old").await, upstream("new").await);
    let compare = "mirror: { compare: { headers: [content-type, content-length], body: true } }";
    let gateway = Gateway::of(&text(old, new, "", compare)).await;
    for _ in 0..5 {
        assert_eq!(gateway.get("/same?secret=1", &[]).await.status, 200);
    }
    let compared = |status: &Value| status["mirrors"][0]["compared"] == 5;
    let mirror = gateway.until(compared).await["mirrors"][0].clone();
    assert_eq!((&mirror["different"], &mirror["differences"]["body"]), (&5.into(), &5.into()));
    assert_eq!((&mirror["differences"]["status"], &mirror["differences"]["header"]), (&0.into(), &5.into()));
    let lines = log.of("portcullis::mirror");
    let line = &lines.first().expect("a line")["fields"];
    assert_eq!((&line["mirror"], &line["differences"]), (&"new".into(), &"body,header".into()));
    assert_eq!((&line["path"], &line["headers"]), (&"/same".into(), &"content-length".into()));
}

/// The file of the guide is accepted as it stands.
#[test]
fn the_file_of_the_guide_is_sound() {
    let guide = include_str!("../../../docs/guides/shadow_a_rewrite.md");
    let yaml = yaml_of(guide)[0];
    let check = Config::text("gateway.yaml", yaml).check();
    assert!(check.is_accepted(), "{check}");
}
