//! `Expect: 100-continue`.

use std::time::Duration;

use super::peers::{Line, OK, Raw, echo, edge, edge_to, until};
use portcullis::upstream::{Proxy, Upstream, Wire};

const ASKING: &str = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test]
async fn the_body_is_asked_for_when_the_upstream_asks() {
    let peer = Raw::start(|_, mut line| async move {
        while let Some(head) = line.head().await {
            assert!(head.contains("expect: 100-continue"), "{head}");
            line.say("HTTP/1.1 100 Continue\r\n\r\n").await;
            line.hear("body").await;
            line.say(OK).await;
        }
    })
    .await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    for _ in 0..2 {
        client.say(ASKING).await;
        assert_eq!(client.head().await.unwrap(), "http/1.1 100 continue\r\n\r\n");
        client.say("body").await;
        assert!(client.head().await.unwrap().starts_with("http/1.1 200"));
        client.hear("ok").await.unwrap();
    }
    assert_eq!(peer.connections(), 1, "a body that was sent leaves a connection to be used again");
}

#[tokio::test]
async fn a_body_that_is_not_wanted_is_never_asked_for() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno").await;
        line.rest().await;
    })
    .await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 401"));
    assert_eq!(client.rest().await, "no", "and the connection is closed: the body might come all the same");
    until(|| group.endpoints()[0].connections == 0).await;
    assert!(peer.heard()[0].ends_with("\r\n\r\n"), "nothing but the head was sent");
}

#[tokio::test]
async fn an_upstream_that_does_not_say_100_gets_the_body_after_a_while() {
    let peer = Raw::start(|_, mut line| async move {
        line.hear("body").await;
        line.say(OK).await;
    })
    .await;
    let (edge, _) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    until(|| !peer.heard().concat().is_empty()).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(1100)).await;
    tokio::time::resume();
    assert_eq!(client.head().await.unwrap(), "http/1.1 100 continue\r\n\r\n");
    client.say("body").await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 200"));
}

#[tokio::test]
async fn towards_http2_it_is_answered_here() {
    let upstream =
        Upstream::builder("a").endpoint(echo().await.to_string()).wire(Wire::Http2).build().unwrap();
    let edge = edge(Proxy::new(upstream)).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    assert_eq!(client.head().await.unwrap(), "http/1.1 100 continue\r\n\r\n");
    client.say("body").await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("http/1.1 200") && !head.contains("got-expect"), "{head}");
    client.hear("body").await.unwrap();
}

#[tokio::test]
async fn garbage_instead_of_100_closes_the_connection() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n").await;
        line.rest().await;
    })
    .await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say(ASKING).await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 502"));
    until(|| group.endpoints()[0].connections == 0 && group.endpoints()[0].in_flight == 0).await;
}
