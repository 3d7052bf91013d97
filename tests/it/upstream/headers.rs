//! Header fields of one hop, and those about the way.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use portcullis::{
    identity::PeerAddr,
    reject::{Reason, RescueLayer},
    upstream::{HopByHop, Proxy},
};
use tower::{Layer, ServiceExt};

use super::peers::{Line, OK, Raw, call, echo, edge_to, get, serve, upstream};

/// What the upstream got.
fn got(headers: &HeaderMap) -> Vec<(String, String)> {
    let own = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix("got-")?.to_owned(), value.to_str().unwrap().to_owned()))
    });
    own.collect()
}

async fn through(proxy: &Proxy, fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut request = get("/");
    for (name, value) in fields {
        request.headers_mut().append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    request.extensions_mut().insert(PeerAddr::new("192.0.2.7:1".parse().unwrap()));
    let mut got = got(call(proxy, request).await.unwrap().headers());
    got.sort();
    got
}

fn expected(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    fields.sort();
    fields
}

const WAY: [(&str, &str); 4] = [
    ("host", "shop.example"),
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-host", "shop.example"),
    ("x-forwarded-proto", "http"),
];

#[tokio::test]
async fn fields_of_the_hop_end_here() {
    let proxy = Proxy::new(upstream([echo().await]));
    let sent = [
        ("connection", "keep-alive, x-hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eDp5"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("x-hop", "1"),
        ("x-end", "1"),
    ];
    let mut end = WAY.to_vec();
    end.push(("x-end", "1"));
    assert_eq!(through(&proxy, &sent).await, expected(&end));
}

#[tokio::test]
async fn fields_of_the_upstreams_hop_end_here() {
    let peer = Raw::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-hop, content-length\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nx-end: 1\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok",
    )
    .await;
    let response = call(&Proxy::new(upstream([peer.address])), get("/")).await.unwrap();
    let names: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-end", "content-length"]);
}

#[tokio::test]
async fn a_client_cannot_name_away_what_we_add() {
    let upstream = upstream([echo().await]);
    // A layer inside of the edge's gate tells the upstream who the user is.
    let inside = tower::util::MapRequestLayer::new(|mut request: http::Request<_>| {
        request.headers_mut().insert("x-user", HeaderValue::from_static("alice"));
        request
    });
    let service = HopByHop.layer().layer(inside.layer(Proxy::new(upstream)));
    let edge = serve(RescueLayer::new().layer(service)).await;
    let mut client = Line::to(edge).await;
    client
        .say("GET / HTTP/1.1\r\nhost: a\r\nconnection: close, x-user, x-forwarded-for, x-forwarded-proto, host, content-length\r\n\r\n")
        .await;
    let head = client.head().await.unwrap();
    for field in
        ["got-x-user: alice", "got-x-forwarded-for: 127.0.0.1", "got-x-forwarded-proto: http", "got-host: a"]
    {
        assert!(head.contains(field), "{field}: {head}");
    }
}

#[tokio::test]
async fn a_strangers_words_about_the_way_are_replaced() {
    let proxy = Proxy::new(upstream([echo().await]));
    let lies = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank.example"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
    ];
    assert_eq!(through(&proxy, &lies).await, expected(&WAY));
}

#[tokio::test]
async fn a_trusted_proxys_words_are_continued() {
    let proxy = Proxy::new(upstream([echo().await]))
        .trusted_proxies("192.0.2.0/24".parse().unwrap())
        .host(HeaderValue::from_static("inner.example"));
    let said = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9"),
    ];
    let told = [
        ("host", "inner.example"),
        ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.9, for=192.0.2.7;host=\"shop.example\";proto=http"),
    ];
    assert_eq!(through(&proxy, &said).await, expected(&told));
}

#[tokio::test]
async fn the_host_of_the_target_goes_before_the_field() {
    let peer = Raw::answering(OK).await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say("GET http://real.example/a HTTP/1.1\r\nhost: other.example\r\n\r\n").await;
    client.hear("ok").await.unwrap();
    let heard = &peer.heard()[0];
    assert!(heard.starts_with("GET /a HTTP/1.1\r\n") && heard.contains("host: real.example\r\n"), "{heard}");
    assert!(!heard.contains("other.example"), "{heard}");
}

#[tokio::test]
async fn a_host_that_is_none_is_400_towards_http2() {
    let upstream = portcullis::upstream::Upstream::builder("a")
        .endpoint("127.0.0.1:1")
        .wire(portcullis::upstream::Wire::Http2)
        .build()
        .unwrap();
    let request = http::Request::get("/").header("host", "a b").body(Full::<Bytes>::default()).unwrap();
    let refused = Proxy::new(upstream).oneshot(request).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::BadRequest);
}
