//! Connections: used again, given up, limited, tried again.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use portcullis::{
    body::Body,
    reject::{Reason, RescueLayer},
    transport::{Listener, Server},
    upstream::{HopByHop, Proxy, Upstream, Wire},
};
use tower::Layer;

use super::peers::{Line, OK, Raw, call, echo, edge_to, get, post, soon, text, until, upstream};

#[tokio::test]
async fn one_connection_serves_one_request_after_another() {
    let peer = Raw::answering(OK).await;
    let group = upstream([peer.address]);
    let proxy = Proxy::new(group.clone());
    for _ in 0..20 {
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    }
    assert_eq!(peer.connections(), 1);
    let status = group.endpoints().remove(0);
    assert_eq!((status.connections, status.idle, status.in_flight), (1, 1, 0));
}

#[tokio::test]
async fn a_connection_is_taken_until_the_body_has_ended() {
    let peer =
        Raw::answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let group = upstream([peer.address]);
    let proxy = Proxy::new(group.clone());
    let one = call(&proxy, get("/")).await.unwrap();
    let two = call(&proxy, get("/")).await.unwrap();
    assert_eq!((peer.connections(), group.endpoints()[0].in_flight), (2, 2));
    text(one).await;
    text(two).await;
    assert_eq!((group.endpoints()[0].idle, group.endpoints()[0].in_flight), (2, 0));
    text(call(&proxy, get("/")).await.unwrap()).await;
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn a_dropped_body_closes_its_connection() {
    let peer = Raw::answering("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nok").await;
    let group = upstream([peer.address]);
    let response = call(&Proxy::new(group.clone()), get("/")).await.unwrap();
    assert_eq!(group.endpoints()[0].in_flight, 1);
    drop(response);
    assert_eq!(group.endpoints()[0].in_flight, 0);
    until(|| group.endpoints()[0].connections == 0).await;
}

#[tokio::test]
async fn idle_connections_close_before_the_upstream_would() {
    for (answer, keep) in
        [(OK, 4), ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=3\r\ncontent-length: 2\r\n\r\nok", 2)]
    {
        let peer = Raw::answering(answer).await;
        let group = upstream([peer.address]);
        text(call(&Proxy::new(group.clone()), get("/")).await.unwrap()).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(keep) - Duration::from_millis(100)).await;
        assert_eq!(group.endpoints()[0].idle, 1);
        tokio::time::advance(Duration::from_secs(4)).await;
        tokio::time::resume();
        until(|| group.endpoints()[0].connections == 0).await;
        assert_eq!(group.endpoints()[0].idle, 0);
    }
}

#[tokio::test]
async fn no_more_connections_wait_than_allowed() {
    let peer = Raw::answering(OK).await;
    let group = Upstream::builder("a").endpoint(peer.address.to_string()).max_idle(2).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let responses = futures_util::future::join_all((0..5).map(|_| call(&proxy, get("/")))).await;
    assert_eq!(peer.connections(), 5);
    for response in responses {
        text(response.unwrap()).await;
    }
    assert_eq!(group.endpoints()[0].idle, 2);
    until(|| group.endpoints()[0].connections == 2).await;
}

#[tokio::test]
async fn no_more_connections_are_made_than_allowed() {
    let peer = Raw::answering(OK).await;
    let group = Upstream::builder("a").endpoint(peer.address.to_string()).max_connections(2).build().unwrap();
    let proxy = Proxy::new(group.clone());
    let held = [call(&proxy, get("/")).await.unwrap(), call(&proxy, get("/")).await.unwrap()];
    let refused = call(&proxy, get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Overloaded);
    assert_eq!(peer.connections(), 2);
    drop(held);
    until(|| group.endpoints()[0].connections == 0).await;
    text(call(&proxy, get("/")).await.unwrap()).await;
}

#[tokio::test]
async fn a_connection_that_the_upstream_has_closed_is_not_used() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say(OK).await;
    })
    .await;
    let proxy = Proxy::new(upstream([peer.address]));
    for n in 1..=10 {
        assert_eq!(text(call(&proxy, post("/", "body")).await.unwrap()).await, "ok");
        assert_eq!(peer.connections(), n);
    }
}

/// An upstream that takes a second request on its first connection, and closes without an answer.
async fn forgetful(last_words: &'static str) -> Raw {
    Raw::start(move |number, mut line| async move {
        line.head().await;
        line.say(OK).await;
        line.head().await;
        if number == 0 {
            line.say(last_words).await;
            line.reset();
        } else {
            line.say(OK).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_may_be_done_twice_is_sent_once_more() {
    let peer = forgetful("").await;
    let proxy = Proxy::new(upstream([peer.address]));
    for path in ["/1", "/2"] {
        assert_eq!(text(call(&proxy, get(path)).await.unwrap()).await, "ok");
    }
    let heard = peer.heard();
    assert_eq!(heard.len(), 2);
    assert!(heard[0].contains("GET /2 ") && heard[1].starts_with("GET /2 "), "{heard:?}");
    let headers = |text: &str| text.split_once("GET /2 ").map(|(_, rest)| rest.to_owned());
    assert_eq!(headers(&heard[0]), headers(&heard[1]), "the same head");
}

#[tokio::test]
async fn whoever_bounds_second_attempts_is_asked_first() {
    for (left, sent) in [(1, 2), (0, 1)] {
        let peer = forgetful("").await;
        let asked = AtomicUsize::new(0);
        let proxy = Proxy::new(upstream([peer.address]));
        let proxy = proxy.bind_resends(move || asked.fetch_add(1, Ordering::SeqCst) < left);
        assert_eq!(text(call(&proxy, get("/1")).await.unwrap()).await, "ok");
        match call(&proxy, get("/2")).await {
            Ok(response) => assert_eq!((text(response).await.as_str(), left), ("ok", 1)),
            Err(refused) => {
                assert_eq!((refused.reason(), left), (Reason::UpstreamReset, 0));
                assert!(!refused.is_unsent());
            }
        }
        assert_eq!(peer.heard().concat().matches("GET /2 ").count(), sent);
    }
}

/// Two rules with one upstream have each a budget of its own.
#[tokio::test]
async fn what_bounds_one_use_of_an_upstream_bounds_no_other() {
    for (is_bound, sent) in [(true, 1), (false, 2)] {
        let peer = forgetful("").await;
        let group = upstream([peer.address]);
        let (free, bound) = (Proxy::new(group.clone()), Proxy::new(group).bind_resends(|| false));
        let (first, second) = if is_bound { (free, bound) } else { (bound, free) };
        assert_eq!(text(call(&first, get("/1")).await.unwrap()).await, "ok");
        assert_eq!(call(&second, get("/2")).await.is_ok(), !is_bound);
        assert_eq!(peer.heard().concat().matches("GET /2 ").count(), sent);
    }
}

#[tokio::test]
async fn a_request_that_may_not_be_done_twice_is_not() {
    for method in [Method::POST, Method::PATCH] {
        for body in ["", "body"] {
            let peer = forgetful("").await;
            let proxy = Proxy::new(upstream([peer.address]));
            text(call(&proxy, get("/")).await.unwrap()).await;
            let request = Request::builder().method(method.clone()).uri("/once").header("host", "a");
            let refused = call(&proxy, request.body(Full::from(body)).unwrap()).await.unwrap_err();
            assert_eq!(refused.reason(), Reason::UpstreamReset);
            assert_eq!(peer.connections(), 1, "{method} {body:?}");
            assert_eq!(peer.heard().concat().matches("/once").count(), 1);
        }
    }
    // Idempotent, but its body is gone.
    let peer = forgetful("").await;
    let proxy = Proxy::new(upstream([peer.address]));
    text(call(&proxy, get("/")).await.unwrap()).await;
    let request = Request::put("/once").header("host", "a").body(Full::from("body")).unwrap();
    assert_eq!(call(&proxy, request).await.unwrap_err().reason(), Reason::UpstreamReset);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn nothing_is_sent_again_once_something_came_back() {
    let peer = forgetful("HTTP/1.1 2").await;
    let proxy = Proxy::new(upstream([peer.address]));
    text(call(&proxy, get("/")).await.unwrap()).await;
    let refused = call(&proxy, get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamReset);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_new_connection_that_closes_is_no_reason_to_try_again() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
    })
    .await;
    let refused = call(&Proxy::new(upstream([peer.address])), get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamReset);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_request_back() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.rest().await;
    })
    .await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    until(|| peer.heard().concat().ends_with("\r\n\r\n") && group.endpoints()[0].in_flight == 1).await;
    drop(client);
    until(|| group.endpoints()[0].in_flight == 0 && group.endpoints()[0].connections == 0).await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_reaches_the_client() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        line.rest().await;
    })
    .await;
    let (edge, group) = edge_to([peer.address]).await;
    let mut client = Line::to(edge).await;
    client.say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome").await;
    assert!(client.head().await.unwrap().starts_with("http/1.1 413"));
    assert_eq!(client.hear("big").await.unwrap(), "big");
    drop(client);
    until(|| group.endpoints()[0].connections == 0).await;
}

#[tokio::test]
async fn an_early_answer_that_is_followed_by_a_reset_reaches_the_client() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        line.reset();
    })
    .await;
    let group = upstream([peer.address]);
    let service = RescueLayer::new().layer(HopByHop.layer().layer(Proxy::new(group.clone())));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let edge = listener.local_addr().unwrap();
    tokio::spawn(Server::new().serve(listener, service));
    for _ in 0..20 {
        let mut client = Line::to(edge).await;
        client.say("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
        client.say("x".repeat(500_000)).await;
        assert!(client.head().await.unwrap().starts_with("http/1.1 413"));
        assert_eq!(client.hear("big").await.unwrap(), "big");
    }
    until(|| group.endpoints()[0].in_flight == 0 && group.endpoints()[0].connections == 0).await;
}

fn http2(endpoint: std::net::SocketAddr) -> Upstream {
    Upstream::builder("h2").endpoint(endpoint.to_string()).wire(Wire::Http2).build().unwrap()
}

#[tokio::test]
async fn requests_share_one_http2_connection() {
    let endpoint = echo().await;
    let chosen = Upstream::builder("h2").endpoint(endpoint.to_string()).wire(Wire::Http2);
    let chosen = chosen.http2_idle_timeout(Duration::from_secs(600)).build().unwrap();
    for (group, open) in [(http2(endpoint), 0), (chosen, 1)] {
        let proxy = Proxy::new(group.clone());
        let responses =
            futures_util::future::join_all((0..50).map(|_| call(&proxy, post("/", "body")))).await;
        let status = group.endpoints().remove(0);
        assert_eq!((status.connections, status.in_flight), (1, 50), "connected once");
        for response in responses {
            assert_eq!(text(response.unwrap()).await, "body");
        }
        assert_eq!(group.endpoints()[0].in_flight, 0);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(130)).await;
        tokio::time::resume();
        until(|| group.endpoints()[0].connections == open).await;
    }
}

/// An HTTP/2 server with so many streams at once that ends each connection in its own way.
async fn h2_server(
    streams: u32,
    goodbye: fn(
        usize,
        &mut h2::server::Connection<tokio::net::TcpStream, bytes::Bytes>,
        h2::server::SendResponse<bytes::Bytes>,
    ) -> bool,
) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let mut connection = builder.max_concurrent_streams(streams).handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    drop(request);
                    if !goodbye(number, &mut connection, respond) {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn respond(mut respond: h2::server::SendResponse<bytes::Bytes>) {
    respond.send_response(http::Response::new(()), true).unwrap();
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_whatever_its_method() {
    let address = h2_server(100, |number, _, mut response| {
        if number == 0 && u32::from(response.stream_id()) == 3 {
            response.send_reset(h2::Reason::REFUSED_STREAM);
        } else {
            respond(response);
        }
        true
    })
    .await;
    let group = http2(address);
    let proxy = Proxy::new(group.clone());
    for _ in 0..2 {
        assert_eq!(call(&proxy, post("/", "")).await.unwrap().status(), 200);
    }
    until(|| group.endpoints()[0].connections == 1).await;
}

#[tokio::test]
async fn a_goodbye_is_followed_by_a_new_connection() {
    let address = h2_server(100, |_, connection, response| {
        respond(response);
        connection.graceful_shutdown();
        true
    })
    .await;
    let proxy = Proxy::new(http2(address));
    for _ in 0..5 {
        assert_eq!(call(&proxy, post("/", "")).await.unwrap().status(), 200);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_full_http2_connection_is_joined_by_another() {
    let address = h2_server(1, |_, _, response| {
        tokio::spawn(async move {
            let mut response = response;
            let mut body = response.send_response(http::Response::new(()), false).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = body.send_data(bytes::Bytes::new(), true);
        });
        true
    })
    .await;
    let group = http2(address);
    let proxy = Proxy::new(group.clone());
    text(call(&proxy, get("/")).await.unwrap()).await; // its settings are known by now
    let one = call(&proxy, get("/")).await.unwrap();
    let two = call(&proxy, get("/")).await.unwrap();
    assert_eq!(group.endpoints()[0].connections, 2);
    text(one).await;
    text(two).await;
}

#[tokio::test]
async fn an_http2_connection_that_has_fallen_silent_is_given_up() {
    let peer = Raw::start(|_, mut line| async move {
        line.say(b"\0\0\0\x04\0\0\0\0\0").await; // SETTINGS, and nothing more
        line.rest().await;
    })
    .await;
    let group = Upstream::builder("h2").endpoint(peer.address.to_string()).wire(Wire::Http2);
    let proxy = Proxy::new(group.connect_timeout(Duration::from_millis(100)).build().unwrap());
    soon(async {
        while peer.connections() < 2 {
            let impatient = Duration::from_millis(200);
            assert!(tokio::time::timeout(impatient, call(&proxy, get("/"))).await.is_err());
        }
    })
    .await;
}

#[tokio::test]
async fn http1_where_http2_was_expected_is_502() {
    let peer = Raw::start(|_, mut line| async move {
        line.head().await;
        line.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        line.rest().await;
    })
    .await;
    let refused = call(&Proxy::new(http2(peer.address)), get("/")).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::UpstreamProtocol, "{refused:?}");
}

#[tokio::test]
async fn a_cancelled_http2_request_leaves_the_connection_to_others() {
    let group = http2(
        h2_server(100, |_, _, response| {
            if u32::from(response.stream_id()) == 1 {
                std::mem::forget(response); // never answered
            } else {
                respond(response);
            }
            true
        })
        .await,
    );
    let proxy = Proxy::new(group.clone());
    let waiting = tokio::spawn({
        let proxy = proxy.clone();
        async move { call(&proxy, get("/")).await.map(drop) }
    });
    until(|| group.endpoints().first().is_some_and(|endpoint| endpoint.connections == 1)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    waiting.abort();
    until(|| group.endpoints()[0].in_flight == 0).await;
    assert_eq!(call(&proxy, get("/")).await.unwrap().status(), 200);
    assert_eq!(group.endpoints()[0].connections, 1);
}

#[tokio::test]
async fn the_real_client_gets_a_big_body_whole() {
    let (edge, _) = edge_to([echo().await]).await;
    for http2 in [false, true] {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).http2_only(http2).build_http();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let request = Request::post(format!("http://{edge}/")).body(Body::from(sent.clone())).unwrap();
        let body = soon(client.request(request)).await.unwrap().into_body();
        assert!(soon(body.collect()).await.unwrap().to_bytes() == sent);
    }
}
