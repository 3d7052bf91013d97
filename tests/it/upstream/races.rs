//! Connections that do not come soon: the next endpoint is tried beside them (RFC 8305).

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use http::header::SET_COOKIE;
use portcullis::{
    attempt::Attempt,
    body::Body,
    ratio::Ratio,
    reject::Reason,
    trip,
    upstream::{EndpointStatus, Proxy, Session, SessionCookie, Upstream, Wire, Withheld},
};
use tokio::{net::TcpListener, time::Instant};
use tower::ServiceExt;

use super::peers::{Line, OK, Raw, call, echo, fill, full, get, post, short, text, until};

fn attempt(response: &http::Response<Body>) -> Attempt {
    response.extensions().get::<Attempt>().unwrap().clone()
}

fn at(upstream: &Upstream, address: SocketAddr) -> EndpointStatus {
    upstream.endpoints().into_iter().find(|endpoint| endpoint.address == address).unwrap()
}

#[tokio::test]
async fn an_endpoint_that_lets_nobody_in_keeps_nobody_waiting() {
    for wire in [Wire::Http1, Wire::Http2] {
        let (_listener, late, _queued) = full().await;
        let sound = echo().await;
        let policy = trip::Policy::new().consecutive(NonZeroU32::MIN);
        let group = Upstream::builder("a").endpoints([late, sound]).wire(wire).circuit_breaker(policy);
        let group = group.connect_timeout(Duration::from_secs(3)).build().unwrap();
        let proxy = Proxy::new(group.clone());
        let mut attempts = Vec::new();
        for _ in 0..12 {
            let response = call(&proxy, post("/", "body")).await.unwrap();
            let attempt = attempt(&response);
            assert_eq!(attempt.endpoint, Some(sound));
            attempts.push(attempt.attempts);
            assert_eq!((at(&group, late).in_flight, at(&group, sound).in_flight), (0, 1), "{wire:?}");
            assert!(at(&group, late).availability.takes(), "not to have come first is no failure");
            text(response).await;
            assert_eq!(at(&group, sound).in_flight, 0);
        }
        let raced = attempts.iter().filter(|attempts| **attempts == 2).count();
        assert!((1..=3).contains(&raced), "it comes last for a while: {attempts:?}");
        assert!(at(&group, late).connections >= 1, "one try goes on");
        until(|| !at(&group, late).availability.takes()).await;
        assert_eq!(at(&group, late).availability.reasons().collect::<Vec<_>>(), [Withheld::Open]);
        assert_eq!((at(&group, late).connections, at(&group, late).in_flight), (0, 0));
    }
}

/// One connection goes on for all who have waited for it in vain, and each of them counts.
#[tokio::test]
async fn a_black_hole_is_seen_by_a_share_of_failures() {
    for wire in [Wire::Http1, Wire::Http2] {
        let (_listener, late, _queued) = full().await;
        let sound = echo().await;
        let ten = NonZeroU32::new(10).unwrap();
        let policy = trip::Policy::new().consecutive(None).ratio(Ratio::percent(50), ten);
        let group = Upstream::builder("a").endpoints([late, sound]).wire(wire).circuit_breaker(policy);
        let group = group.connect_timeout(Duration::from_secs(2)).build().unwrap();
        let proxy = Proxy::new(group.clone());
        let calls = (0..40).map(|_| call(&proxy, post("/", "body")));
        for response in futures_util::future::join_all(calls).await {
            assert_eq!(attempt(&response.unwrap()).endpoint, Some(sound));
        }
        assert!(at(&group, late).connections <= 1, "one goes on");
        assert!(at(&group, late).availability.takes(), "it may come yet");
        for _ in 0..6 {
            let attempt = attempt(&call(&proxy, get("/")).await.unwrap());
            assert_eq!(
                (attempt.endpoint, attempt.attempts),
                (Some(sound), 1),
                "nobody waits for it meanwhile"
            );
        }
        until(|| !at(&group, late).availability.takes()).await;
        assert_eq!(at(&group, late).availability.reasons().collect::<Vec<_>>(), [Withheld::Open]);
        assert!(at(&group, sound).availability.takes());
    }
}

/// Answers whoever is let in.
async fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut line = Line::of(stream);
            while line.head().await.is_some() {
                line.say(OK).await;
            }
        });
    }
}

#[tokio::test]
async fn a_connection_that_comes_late_is_kept() {
    let (listener, late, queued) = full().await;
    let sound = Raw::answering(OK).await;
    let group = Upstream::builder("a").endpoints([late, sound.address]);
    let group = group.connect_timeout(Duration::from_secs(10)).idle_timeout(Duration::from_secs(60));
    let group = group.build().unwrap();
    let proxy = Proxy::new(group.clone());
    for _ in 0..2 {
        assert_eq!(text(call(&proxy, get("/")).await.unwrap()).await, "ok");
    }
    drop(queued);
    tokio::spawn(serve(listener));
    until(|| at(&group, late).idle == 1).await;
    let mut known = 0;
    for _ in 0..4 {
        let response = call(&proxy, get("/")).await.unwrap();
        let attempt = attempt(&response);
        if attempt.endpoint == Some(late) {
            assert_eq!((attempt.attempts, attempt.connect), (1, None), "it was there");
            known += 1;
        }
        text(response).await;
    }
    assert_eq!(known, 2, "it rests no longer");
    assert_eq!((at(&group, late).connections, sound.connections()), (1, 1));
}

#[tokio::test]
async fn if_all_let_nobody_in_they_are_waited_for_at_the_same_time() {
    let (one, two, three, four) = (full().await, full().await, full().await, full().await);
    let all = [one.1, two.1, three.1, four.1];
    for (endpoints, tries) in [(&all[..1], 1), (&all[..2], 2), (&all, 3)] {
        for wire in [Wire::Http1, Wire::Http2] {
            let timeout = Duration::from_secs(60);
            let group = Upstream::builder("a")
                .endpoints(endpoints.iter().copied())
                .wire(wire)
                .connect_timeout(timeout);
            let group = group.build().unwrap();
            tokio::time::pause();
            let begun = Instant::now();
            let refused = Proxy::new(group.clone()).oneshot(get("/")).await.unwrap_err();
            let waited = begun.elapsed();
            tokio::time::resume();
            assert_eq!(refused.reason(), Reason::UpstreamTimeout);
            let patience = Duration::from_millis(250) * (tries - 1);
            // By a clock that stands still otherwise, and rounds up.
            let beyond = waited.checked_sub(timeout + patience).unwrap();
            assert!(beyond < Duration::from_millis(10), "{tries} {wire:?}: {waited:?}");
            assert!(group.endpoints().iter().all(|one| (one.connections, one.in_flight) == (0, 0)));
        }
    }
}

#[tokio::test]
async fn who_goes_away_takes_all_tries_with_him() {
    let (one, two) = (full().await, full().await);
    let group = Upstream::builder("a").endpoints([one.1, two.1]).connect_timeout(Duration::from_secs(10));
    let group = group.build().unwrap();
    let waiting = tokio::spawn(Proxy::new(group.clone()).oneshot(get("/")));
    until(|| group.endpoints().iter().all(|one| (one.connections, one.in_flight) == (1, 1))).await;
    waiting.abort();
    until(|| group.endpoints().iter().all(|one| (one.connections, one.in_flight) == (0, 0))).await;
}

#[tokio::test]
async fn a_session_is_not_given_up_for_a_slow_connection() {
    for strict in [false, true] {
        let listener = short();
        let late = listener.local_addr().unwrap();
        let sound = Raw::answering(OK).await;
        let group = Upstream::builder("a").endpoints([late, sound.address]);
        let group = group.connect_timeout(Duration::from_millis(700)).build().unwrap();
        let session = Session::cookie(SessionCookie::new("s").unwrap());
        let proxy = Proxy::new(group.clone()).session(if strict { session.strict(true) } else { session });
        let first = tokio::spawn(async move {
            let mut line = Line::of(listener.accept().await.unwrap().0);
            line.head().await;
            line.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            listener
        });
        let cookie = loop {
            let response = call(&proxy, get("/")).await.unwrap();
            let set = response.headers()[SET_COOKIE].to_str().unwrap();
            let cookie = set.split(';').next().unwrap().to_owned();
            if attempt(&response).endpoint == Some(late) {
                break cookie;
            }
        };
        let _listener = first.await.unwrap();
        let _queued = fill(late).await;
        until(|| at(&group, late).connections == 0).await;
        let mut request = get("/");
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        let answer = call(&proxy, request).await;
        assert_eq!(at(&group, late).connections, 0, "it was waited for to the end");
        if strict {
            assert_eq!(answer.unwrap_err().reason(), Reason::UpstreamTimeout);
        } else {
            assert_eq!(attempt(&answer.unwrap()).endpoint, Some(sound.address));
        }
    }
}
